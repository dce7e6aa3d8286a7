"""How often each sealing key was used."""

from __future__ import annotations

from sqlalchemy import insert, select, update

from gateway.store.schema import key_uses
from gateway.store.transactions import Transactions


class KeyUses:
    """A count for each key, which only grows."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def add(self, key_id: str, n: int) -> int:
        """Count `n` more uses of the sealing key; the answer is how many there are now."""
        if n < 1:
            raise ValueError("uses only grow")
        async with self._transactions.transaction(write=True) as connection:
            result = await connection.execute(
                update(key_uses)
                .where(key_uses.c.key_id == key_id)
                .values(uses=key_uses.c.uses + n)
                .returning(key_uses.c.uses)
            )
            total = result.scalar_one_or_none()
            if total is None:
                await connection.execute(insert(key_uses).values(key_id=key_id, uses=n))
                return n
            return int(total)

    async def read(self) -> dict[str, int]:
        """The uses of each key."""
        async with self._transactions.transaction(write=False) as connection:
            return {row.key_id: row.uses for row in await connection.execute(select(key_uses))}
