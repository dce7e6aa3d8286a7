"""The audit event of an action, as it waits in the store for a running gateway, or the next, to report it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.connection.audit_event_kinds import Report

if TYPE_CHECKING:
    from gateway.store import Repositories


async def record(
    tx: Repositories,
    report: Report,
    *,
    actor: str,
    device: str | None = None,
) -> None:
    """Write the event in the transaction `tx`, that of the change. No secret in its reason.

    Raises StoreError: what nobody would learn of is not done.
    """
    await tx.admin_events.add(
        {
            "time": int(datetime.now(UTC).timestamp() * 1000),
            "kind": report.kind.value,
            "outcome": report.outcome.value,
            "reason": report.reason,
            "device": device,
            "actor": actor,
        }
    )
