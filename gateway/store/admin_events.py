"""What administrators did, until a running gateway has reported it: only that one has an audit."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select

from gateway.store import clock
from gateway.store.engine import Transactions
from gateway.store.schema import admin_events

_KEPT = 10_000
"""Of those that no gateway has reported yet: the newest."""


class AdminEvents:
    """The events that wait."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def add(self, event: Mapping[str, object]) -> None:
        """Have a running gateway report what was done here: JSON values, and no secret among them."""
        async with self._transactions.transaction(write=True) as connection:
            result = await connection.execute(
                insert(admin_events).values(at=clock.now(), event=dict(event)).returning(admin_events.c.seq)
            )
            oldest = int(result.scalar_one()) - _KEPT
            await connection.execute(delete(admin_events).where(admin_events.c.seq <= oldest))

    async def waiting(self, *, after: int = 0, most: int = 100) -> list[tuple[int, Mapping[str, object]]]:
        """The oldest `most` of those after the number `after`, each with its own."""
        query = (
            select(admin_events).where(admin_events.c.seq > after).order_by(admin_events.c.seq).limit(most)
        )
        async with self._transactions.transaction(write=False) as connection:
            return [
                (row.seq, row.event if isinstance(row.event, dict) else {})
                for row in (await connection.execute(query)).all()
            ]

    async def forget(self, last: int) -> None:
        """Those up to this number are reported."""
        async with self._transactions.transaction(write=True) as connection:
            await connection.execute(delete(admin_events).where(admin_events.c.seq <= last))
