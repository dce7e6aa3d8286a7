"""What the store knows of each node's audit trail: its newest checkpoint, and whether it can be written."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import insert, select, update

from gateway.store import wall_clock
from gateway.store.schema import audit_trails
from gateway.store.transactions import Transactions

FAULT_SECONDS = 60
"""Seconds for which a stored fault counts; a gateway that still has it stores it again within this time."""


@dataclass(frozen=True, slots=True)
class KnownTrail:
    """What is known of one trail."""

    note: str = ""
    """Its newest checkpoint, as a signed note (docs/adr/0016); empty if there is none."""
    looked_through: int = 0
    """Number of its first entries that contain no event still waiting in `admin_events`."""


class AuditTrails:
    """One row for each node."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def read(self, node: str) -> KnownTrail:
        """What is known of this node's trail."""
        query = select(audit_trails).where(audit_trails.c.node == node)
        async with self._transactions.transaction(write=False) as connection:
            row = (await connection.execute(query)).one_or_none()
        return KnownTrail() if row is None else KnownTrail(row.note, row.looked_through)

    async def begin(self, node: str) -> None:
        """Note that a new trail begins."""
        await self._set(node, note="", looked_through=0)

    async def save_note(self, node: str, note: str) -> None:
        """Store the newest checkpoint of its trail."""
        await self._set(node, note=note)

    async def save_looked_through(self, node: str, size: int) -> None:
        """Note that no event in its first `size` entries still waits in `admin_events`."""
        await self._set(node, looked_through=size)

    async def set_fault(self, node: str, reason: str) -> None:
        """Store why its trail can't be written; empty if it can. To be renewed within FAULT_SECONDS."""
        await self._set(node, fault=reason, fault_at=wall_clock.now())

    async def fault(self) -> str:
        """Why one of the trails can't be written now; empty if all can."""
        query = select(audit_trails.c.fault).where(
            audit_trails.c.fault != "", audit_trails.c.fault_at > wall_clock.now() - FAULT_SECONDS
        )
        async with self._transactions.transaction(write=False) as connection:
            return str((await connection.execute(query.limit(1))).scalar_one_or_none() or "")

    async def _set(self, node: str, **values: object) -> None:
        async with self._transactions.transaction(write=True) as connection:
            known = update(audit_trails).where(audit_trails.c.node == node).values(**values)
            if (await connection.execute(known)).rowcount == 0:
                await connection.execute(insert(audit_trails).values(node=node, **values))
