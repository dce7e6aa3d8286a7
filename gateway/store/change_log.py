"""The change log: which devices were changed, numbered so that followers can continue where they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select

from gateway.store import wall_clock
from gateway.store.schema import changes
from gateway.store.transactions import Transactions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_AT_ONCE = 500
"""Rows that one statement inserts."""
_KEPT_SECONDS = 86_400
"""How far the log reaches back, in seconds."""


async def log_change(connection: AsyncConnection, device_id: str) -> tuple[int, int]:
    """Log a change, in the transaction that makes it. Returns its number and time (Unix seconds)."""
    now = wall_clock.now()
    await connection.execute(delete(changes).where(changes.c.at < now - _KEPT_SECONDS))
    result = await connection.execute(
        insert(changes).values(device_id=device_id, at=now).returning(changes.c.seq)
    )
    return int(result.scalar_one()), now


async def log_changes(connection: AsyncConnection, device_ids: Sequence[str]) -> tuple[dict[str, int], int]:
    """The same for many devices at once, each once: the number of each, and the time."""
    now = wall_clock.now()
    await connection.execute(delete(changes).where(changes.c.at < now - _KEPT_SECONDS))
    numbers: dict[str, int] = {}
    for at in range(0, len(device_ids), _AT_ONCE):
        rows = [{"device_id": one, "at": now} for one in device_ids[at : at + _AT_ONCE]]
        result = await connection.execute(insert(changes).returning(changes.c.device_id, changes.c.seq), rows)
        numbers.update((row.device_id, int(row.seq)) for row in result)
    return numbers, now


class ChangeLog:
    """What followers read."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def last(self) -> int:
        """The number of the latest change, 0 if there was none."""
        async with self._transactions.transaction(write=False) as connection:
            return (await connection.execute(select(func.max(changes.c.seq)))).scalar_one() or 0

    async def since(self, seq: int) -> tuple[int, frozenset[str] | None]:
        """The latest number, and the ids touched after `seq`.

        None for the ids: the log does not reach back that far, so that anything may have changed.
        """
        query = select(changes.c.seq, changes.c.device_id).where(changes.c.seq >= seq).order_by(changes.c.seq)
        async with self._transactions.transaction(write=False) as connection:
            rows = (await connection.execute(query)).all()
        if not rows:
            return (0, frozenset()) if seq == 0 else (await self.last(), None)
        if rows[0].seq > seq + 1:
            return rows[-1].seq, None
        return rows[-1].seq, frozenset(row.device_id for row in rows if row.seq > seq)
