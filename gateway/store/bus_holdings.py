"""The rows of what devices hold on the bus: retained topics, sessions and their filters, as hashes.

A row of the kind `forget` is a request to a running gateway to forget what it counted for this device. Its
key is the random number of the request.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, select, true
from sqlalchemy.dialects import sqlite

from gateway.connection.bus_holdings import Kind, SavedHoldings
from gateway.store.change_log import log_change
from gateway.store.existing_devices import existing
from gateway.store.schema import holdings
from gateway.store.transactions import Transactions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_FORGET = "forget"
_KINDS = frozenset(kind.value for kind in Kind)
_DELETE = delete(holdings).where(
    holdings.c.device_id == bindparam("its_device"),
    holdings.c.kind == bindparam("its_kind"),
    holdings.c.key == bindparam("its_key"),
)
"""For any number of `_key`s at once."""


class Holdings:
    """What was saved of what devices hold; a running gateway's own count is some seconds ahead."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def save(self, held: Sequence[SavedHoldings]) -> None:
        """Keep these in the place of what was kept; nothing of a removed device."""
        if held:
            await self._transactions.write(partial(_save, held))

    async def read(self, device_id: str | None = None) -> list[SavedHoldings]:
        """What was kept of what a device holds, or all devices, in a fixed order."""
        query = (
            select(holdings)
            .where(
                holdings.c.kind.in_(_KINDS),
                true() if device_id is None else holdings.c.device_id == device_id,
            )
            .order_by(*holdings.primary_key)
        )
        async with self._transactions.transaction(write=False) as connection:
            return [
                SavedHoldings(**{**row, "kind": Kind(row["kind"])})
                for row in (await connection.execute(query)).mappings()
            ]

    async def forget(self, device_ids: Collection[str] | None) -> None:
        """Begin counting for these devices at zero, also in a running gateway. None: delete all rows."""
        async with self._transactions.transaction(write=True) as connection:
            if device_ids is None:
                await connection.execute(delete(holdings))
                return
            await forget(connection, device_ids)
            for device_id in device_ids:
                await log_change(connection, device_id)

    async def to_forget(self) -> dict[str, int]:
        """The numbers of the requests to forget, by device."""
        query = select(holdings.c.device_id, holdings.c.key).where(holdings.c.kind == _FORGET)
        async with self._transactions.transaction(write=False) as connection:
            return {row.device_id: row.key for row in await connection.execute(query)}

    async def forgotten(self, requests: Mapping[str, int]) -> None:
        """Delete these requests, which are done; one made meanwhile has a different number, and stays."""
        if requests:
            done = [_key(device_id, _FORGET, number) for device_id, number in requests.items()]
            async with self._transactions.transaction(write=True) as connection:
                await connection.execute(_DELETE, done)


def _key(device_id: str, kind: str, key: int) -> dict[str, object]:
    return {"its_device": device_id, "its_kind": kind, "its_key": key}


def _row(one: SavedHoldings) -> dict[str, object]:
    return {
        "device_id": one.device_id,
        "kind": one.kind.value,
        "key": one.key,
        "lifetime": one.lifetime,
        "since": one.since,
        "keys": one.keys,
    }


async def forget(connection: AsyncConnection, device_ids: Collection[str]) -> None:
    """Drop what is kept of these devices, and have a running gateway do so too."""
    await connection.execute(delete(holdings).where(holdings.c.device_id.in_(device_ids)))
    if device_ids:
        marks = [
            {
                "device_id": one,
                "kind": _FORGET,
                "key": secrets.randbits(63),
                "lifetime": 0,
                "since": 0,
                "keys": b"",
            }
            for one in device_ids
        ]
        await connection.execute(sqlite.insert(holdings).on_conflict_do_nothing(), marks)


async def _save(held: Sequence[SavedHoldings], transactions: Transactions) -> None:
    async with transactions.transaction(write=True) as connection:
        there = await existing(connection, {one.device_id for one in held})
        kept = [_row(one) for one in held if not one.gone and one.device_id in there]
        if kept:
            statement = sqlite.insert(holdings)
            values = {name: statement.excluded[name] for name in ("lifetime", "since", "keys")}
            await connection.execute(
                statement.on_conflict_do_update(index_elements=list(holdings.primary_key), set_=values),
                kept,
            )
        gone = [_key(one.device_id, one.kind.value, one.key) for one in held if one.gone]
        if gone:
            await connection.execute(_DELETE, gone)
