"""Puts together what health checks, and has each change of a check's state reported to the audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.app.running_parts import RunningParts
from gateway.config import Settings
from gateway.connection.audit_vocabulary import HOUSE, failed_health, restored_health
from gateway.connection.process_context import Context
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.health_check_scheduler import Check, Finding, Health, State
from gateway.system.folder_identity import folder_identity

_VITAL = {"loop", "workers"}
"""Checks whose failure a restart may cure. It cures no full disk, so the audit trail's is not here
(docs/adr/0020)."""
_NEEDED = {*_VITAL, "store", "validity", "bus", "listener"}
"""Checks without which nobody is served. A policy that can't be used is not here: the one before serves."""


class Checked(Protocol):
    """A part that health looks at."""

    @property
    def check(self) -> Check:
        """Whether all is well, and what is to be said of it."""


def open_checks(
    settings: Settings, context: Context, audit: Audit, parts: RunningParts, checked: Mapping[str, Checked]
) -> Health:
    """Health, with all these checks by name. The caller runs it."""

    def report(name: str, found: Finding) -> None:
        made = restored_health if found.state is State.HEALTHY else failed_health
        why = f"{name} is {found.state}: {found.message}"
        audit.emit(AuditEvent.of(made(why), HOUSE, context.now()))

    health = Health(
        now=context.now,
        interval=settings.health_check_interval,
        folder=lambda: folder_identity(settings.gateway_data_dir),
        changed=report,
    )
    health.add("workers", lambda: (not parts.failed, "one process, which serves all devices"), vital=True)
    for name, part in checked.items():
        health.add(name, part.check, vital=name in _VITAL, needed=name in _NEEDED)
    return health
