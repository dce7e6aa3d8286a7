"""Puts the audit together: who gets an event, and where it is kept; and reports start and stop to it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from gateway.app.periodic import every
from gateway.app.running_parts import RunningParts
from gateway.app.savers.audit_trail_thread import AuditTrail
from gateway.app.startup_preparation import audit_seed
from gateway.audit_trail.writer import Trail
from gateway.config import Settings
from gateway.connection.audit_vocabulary import (
    HOUSE,
    Report,
    changed_gateway,
)
from gateway.connection.process_context import Context
from gateway.observe.audit_dispatch import Audit, AuditEvent, AuditLog, Consumer
from gateway.observe.device_watchers import EventListeners
from gateway.observe.save_failures import Saves
from gateway.observe.trail_entry import entry_line
from gateway.store import Store
from gateway.system.aligned_timers import Rounds

_REPORT_SECONDS = 1.0
"""Between two summaries in the log of events that got no line of their own."""
_ALL_LEFT_OUT = 100_000
"""Lines of the last summary at most: when the gateway stops, all that is left is logged."""


@dataclass(frozen=True, slots=True)
class AuditParts:
    """The parts of the audit in one process."""

    audit: Audit
    log: AuditLog
    trail: AuditTrail
    report: Callable[[Report], None]
    """Reports what the gateway itself did, or what happened to it."""
    admissions: Rounds
    """When successful logins, which the audit collects for a moment, are handed on."""

    def begin(self, parts: RunningParts, settings: Settings) -> None:
        """Write from now on, first that the gateway starts."""
        parts.keep(self.trail.run())
        # Not by the trail: its disk may hang.
        parts.keep(self._hand_on_admissions())
        parts.keep(every(_REPORT_SECONDS, self.log.log_left_out))
        release = version("mqtt-security-gateway")
        self.report(changed_gateway(f"{release} starts as node {settings.gateway_node}"))

    async def _hand_on_admissions(self) -> None:
        """Do so soon after the first was collected, for ever."""
        while True:
            await self.admissions.wait()
            self.audit.hand_on_admissions()


async def open_audit(
    settings: Settings,
    context: Context,
    store: Store,
    saves: Saves,
    parts: RunningParts,
    *consumers: Consumer,
    listeners: EventListeners,
) -> AuditParts:
    """The audit, with its trail open if that is possible. `consumers` get each event too.

    Raises StartError.
    """
    # The name of a trail that begins here; one that is there keeps its own.
    origin = f"gateway-{secrets.token_hex(6)}/{settings.gateway_node}"
    trail = AuditTrail(
        Trail(settings.audit_path, audit_seed(settings), origin, entry_line, context.now),
        store,
        settings.gateway_node,
        counters=context.counters,
        retention=settings.audit_retention,
        now=context.now,
        saves=saves,
    )
    log = AuditLog(context.counters, context.now, keep=trail.keep)
    admissions = Rounds(AuditTrail.seconds)
    audit = Audit(
        context.counters, log, *consumers, listeners, watched=listeners.of_device, holds=admissions.soon
    )

    def report(what: Report) -> None:
        audit.emit(AuditEvent.of(what, HOUSE, context.now()))

    await trail.open(report)
    parts.closing.push_async_callback(trail.close)
    parts.closing.callback(report, changed_gateway("stops"))
    parts.closing.callback(log.log_left_out, _ALL_LEFT_OUT)
    parts.closing.callback(audit.hand_on_admissions)  # done first: what finds no line is counted next
    return AuditParts(audit, log, trail, report, admissions)
