"""The audit event of an action, as it waits in the store for a running gateway, or the next, to report it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.connection.audit_vocabulary import Report

if TYPE_CHECKING:
    from gateway.store import Repositories


async def record(
    tx: Repositories,
    report: Report,
    *,
    actor: str,
    device: str | None = None,
) -> None:
    """Write the event in `tx`, the transaction of the change. Its reason must hold no secret.

    Raises StoreError, so that no change is made without its event; EventNotKept (a StoreError) if the audit
    trail can't be written.
    """
    await demand_kept(tx)
    await tx.admin_events.add(
        {
            "id": secrets.token_hex(8),
            "time": int(datetime.now(UTC).timestamp() * 1000),
            "kind": report.kind.value,
            "outcome": report.outcome.value,
            "reason": report.reason,
            "device": device,
            "actor": actor,
        }
    )


async def demand_kept(tx: Repositories) -> None:
    """Raise EventNotKept if the running gateway can't write its trail, or too many events wait for one."""
    from gateway.store.errors import (
        EventNotKept,
    )  # late: with it comes the database, half of what `--help` takes

    if fault := await tx.audit_trails.fault():
        raise EventNotKept(fault)
    await tx.admin_events.demand_room()
