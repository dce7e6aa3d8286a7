"""What the store knows of each node's audit trail: its newest checkpoint, and whether it can be written."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import insert, select, update

from gateway.store import wall_clock
from gateway.store.schema import audit_trails
from gateway.store.transactions import Transactions

FRESH = 60
"""Seconds for which a fault counts: a gateway that still has it says so again and again."""


@dataclass(frozen=True, slots=True)
class KnownTrail:
    """What is known of one."""

    note: str = ""
    """Its newest checkpoint; empty when there was none."""
    looked_through: int = 0
    """No event that waits is among so many entries of the trail: all in there were taken out here."""


class AuditTrails:
    """One of each node."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def read(self, node: str) -> KnownTrail:
        """What is known of this node's."""
        query = select(audit_trails).where(audit_trails.c.node == node)
        async with self._transactions.transaction(write=False) as connection:
            row = (await connection.execute(query)).one_or_none()
        return KnownTrail() if row is None else KnownTrail(row.note, row.looked_through)

    async def begin(self, node: str) -> None:
        """A new trail begins."""
        await self._set(node, note="", looked_through=0)

    async def save_note(self, node: str, note: str) -> None:
        """Its newest checkpoint."""
        await self._set(node, note=note)

    async def save_looked_through(self, node: str, size: int) -> None:
        """All events of administrators in its first `size` entries have been taken out here."""
        await self._set(node, looked_through=size)

    async def set_fault(self, node: str, reason: str) -> None:
        """It can't be written, for this reason; empty when it can again. To be said anew within FRESH."""
        await self._set(node, fault=reason, fault_at=wall_clock.now())

    async def fault(self) -> str:
        """Why one of them can't be written now; empty when all can."""
        query = select(audit_trails.c.fault).where(
            audit_trails.c.fault != "", audit_trails.c.fault_at > wall_clock.now() - FRESH
        )
        async with self._transactions.transaction(write=False) as connection:
            return str((await connection.execute(query.limit(1))).scalar_one_or_none() or "")

    async def _set(self, node: str, **values: object) -> None:
        async with self._transactions.transaction(write=True) as connection:
            known = update(audit_trails).where(audit_trails.c.node == node).values(**values)
            if (await connection.execute(known)).rowcount == 0:
                await connection.execute(insert(audit_trails).values(node=node, **values))
