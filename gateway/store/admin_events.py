"""What administrators did, until a running gateway has told it: only that one has an audit."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select

from gateway.store import clock
from gateway.store.engine import Transactions
from gateway.store.schema import admin_events

_KEPT = 10_000
"""Of those that no gateway has told yet: the newest."""


class AdminEvents:
    """The events that wait."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def add(self, event: Mapping[str, object]) -> None:
        """Have a running gateway tell what was done here: JSON values, and no secret among them."""
        async with self._transactions.transaction(write=True) as connection:
            result = await connection.execute(
                insert(admin_events).values(at=clock.now(), event=dict(event)).returning(admin_events.c.seq)
            )
            oldest = int(result.scalar_one()) - _KEPT
            await connection.execute(delete(admin_events).where(admin_events.c.seq <= oldest))

    async def take(self, most: int = 100) -> list[Mapping[str, object]]:
        """The oldest `most` of them. Nobody else gets them."""
        query = select(admin_events).order_by(admin_events.c.seq).limit(most)
        async with self._transactions.transaction(write=False) as connection:
            # Mostly there is none, and to read holds up no writer.
            if (await connection.execute(query.limit(1))).one_or_none() is None:
                return []
        async with self._transactions.transaction(write=True) as connection:
            rows = (await connection.execute(query)).all()
            if rows:
                await connection.execute(delete(admin_events).where(admin_events.c.seq <= rows[-1].seq))
            return [row.event for row in rows if isinstance(row.event, dict)]
