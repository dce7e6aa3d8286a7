"""What administrators did, until a running gateway has it in its audit trail: only that one writes there."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, func, insert, select

from gateway.store import wall_clock
from gateway.store.errors import EventNotKept
from gateway.store.schema import admin_events
from gateway.store.transactions import Transactions

_WAITING_MAX = 100_000
"""Events that no gateway has taken yet."""


class AdminEvents:
    """The events that wait."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def add(self, event: Mapping[str, object]) -> None:
        """Have a running gateway, or the next, keep what was done: JSON values, and no secret among them.

        Raises EventNotKept when too many wait: none of them is dropped for another one.
        """
        async with self._transactions.transaction(write=True) as connection:
            await self.demand_room()
            await connection.execute(insert(admin_events).values(at=wall_clock.now(), event=dict(event)))

    async def demand_room(self) -> None:
        """Raises EventNotKept: no event more can be added."""
        query = select(func.count()).select_from(admin_events)
        async with self._transactions.transaction(write=False) as connection:
            waiting = int((await connection.execute(query)).scalar_one())
        if waiting >= _WAITING_MAX:
            raise EventNotKept(
                f"{waiting} events wait for a gateway to put them into the audit trail: start it"
            )

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
