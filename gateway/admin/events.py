"""The audit event of an action, as it waits in the store for a running gateway, or the next, to tell it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.observe.audit_events import Kind, Outcome

if TYPE_CHECKING:
    from gateway.store import Repositories


async def record(
    tx: Repositories,
    kind: Kind,
    reason: str,
    *,
    actor: str,
    device: str | None = None,
    outcome: Outcome = Outcome.DONE,
) -> None:
    """Write the event in the transaction `tx`, that of the change. No secret in `reason`.

    Raises StoreError: what nobody would learn of is not done.
    """
    await tx.admin_events.add(
        {
            "time": int(datetime.now(UTC).timestamp() * 1000),
            "kind": kind.value,
            "outcome": outcome.value,
            "reason": reason,
            "device": device,
            "actor": actor,
        }
    )
