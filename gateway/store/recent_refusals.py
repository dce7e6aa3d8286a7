"""Who was refused lately, as it is kept over restarts: three days, and bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects import sqlite

from gateway.store import wall_clock
from gateway.store.schema import refused_clients
from gateway.store.transactions import Transactions

KEPT_SECONDS = 3 * 86_400
_KEPT = 5_000
"""Entries that are kept at most."""


@dataclass(slots=True)
class RefusedClient:
    """Refusals that are alike, as one entry. Times are Unix seconds."""

    device_id: str
    """As it is shown (see `claimed_name_redaction`); empty if none is known. Of a stranger it is only
    claimed."""
    host: str
    """The IP address; empty if none is known."""
    kind: str
    """What was refused, as in audit events."""
    reason: str
    proven: bool
    """Whether the device was authenticated."""
    action: str
    """That of the latest refusal, like the next three."""
    topic: str
    rule: str
    refusal_id: str
    """For `gateway-admin acl why`; empty for none."""
    first_at: int
    last_at: int
    count: int


class RefusedClientEntries:
    """The entries."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def save(self, entries: Sequence[RefusedClient]) -> None:
        """Put these in the place of what was saved of them before."""
        if entries:
            await self._transactions.write(partial(_save, entries))

    async def read(self) -> list[RefusedClient]:
        """Those of the last three days, the newest first."""
        at = refused_clients.c.last_at
        query = (
            select(refused_clients)
            .where(at >= wall_clock.now() - KEPT_SECONDS)
            .order_by(at.desc(), *refused_clients.primary_key)
            .limit(_KEPT)
        )
        async with self._transactions.transaction(write=False) as connection:
            return [RefusedClient(**row) for row in (await connection.execute(query)).mappings()]

    async def prune(self) -> None:
        """Drop what is too old, and of too many the oldest."""
        at, key = refused_clients.c.last_at, list(refused_clients.primary_key)
        too_many = select(*key).order_by(at.desc(), *key).offset(_KEPT)
        async with self._transactions.transaction(write=True) as connection:
            await connection.execute(delete(refused_clients).where(at < wall_clock.now() - KEPT_SECONDS))
            await connection.execute(delete(refused_clients).where(tuple_(*key).in_(too_many)))


async def _save(entries: Sequence[RefusedClient], transactions: Transactions) -> None:
    statement = sqlite.insert(refused_clients)
    key = list(refused_clients.primary_key)
    changed = {
        column.name: getattr(statement.excluded, column.name)
        for column in refused_clients.columns
        if not column.primary_key
    }
    async with transactions.transaction(write=True) as connection:
        upsert = statement.on_conflict_do_update(index_elements=key, set_=changed)
        await connection.execute(upsert, [asdict(one) for one in entries])
