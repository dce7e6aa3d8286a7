"""The audit event of an action, as it waits in the store for a running gateway, or the next, to report it.

A change in the store and its event are one transaction (`record`). Files have no part in a transaction, so
there the event comes first (`announced`): what is about to be done, then the change, then what came of it.
A process that is killed at any moment leaves no change of which nothing tells.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.connection.audit_vocabulary import Report, failed_change

if TYPE_CHECKING:
    from gateway.store import Repositories, Store


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
    await _add(tx, report, actor=actor, device=device)


@contextlib.asynccontextmanager
async def announced(store: Store | None, begun: Report, *, actor: str) -> AsyncIterator[list[Report]]:
    """Write the event `begun` before the block changes files, and after it those of what came of it.

    The block adds to the list the reports of what it did, unless it writes their events itself. Raises
    EventNotKept before the block, which then is not entered, and StoreError after it if only `begun` could
    be kept. Without a store there is nothing that could keep an event.
    """
    from gateway.store.errors import EventNotKept, StoreError  # late, as in `demand_kept`

    done: list[Report] = []
    if store is None:
        yield done
        return
    try:
        async with store.transaction() as tx:
            await record(tx, begun, actor=actor)
    except EventNotKept:
        raise
    except StoreError as error:
        raise EventNotKept(str(error)) from error
    try:
        yield done
    except Exception as error:
        # Whoever made the change is told in any case, and the trail has that it began.
        with contextlib.suppress(StoreError):
            await _add(store, failed_change(begun, str(error)), actor=actor)
        raise
    if not done:
        return
    # These need not be in the trail at once, as `begun` is kept: they wait in the store while it has a fault.
    try:
        async with store.transaction() as tx:
            for report in done:
                await _add(tx, report, actor=actor)
    except StoreError as error:
        raise StoreError(f"its audit event says only that it was begun: {error}") from error


async def demand_kept(tx: Repositories) -> None:
    """Raise EventNotKept if the running gateway can't write its trail, or too many events wait for one."""
    # Late: with it comes the database, half of what `--help` takes.
    from gateway.store.errors import EventNotKept

    if fault := await tx.audit_trails.fault():
        raise EventNotKept(fault)
    await tx.admin_events.demand_room()


async def _add(tx: Repositories, report: Report, *, actor: str, device: str | None = None) -> None:
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
