"""The rows of what devices hold on the bus: retained topics, sessions and their filters, as hashes.

Works on a connection, in the transaction of whoever calls. A row that says `forget` is for a running gateway:
what it counted of this device before is to be counted no more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete, select, true
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.connection.bus_holdings import Held, Kind
from gateway.store.schema import devices, holdings

_FORGET = "forget"
_KINDS = frozenset(kind.value for kind in Kind)


async def save(connection: AsyncConnection, held: Sequence[Held]) -> None:
    """Put these in the place of what is there, where the device still is."""
    ids = {one.device_id for one in held}
    there = select(devices.c.device_id).where(devices.c.device_id.in_(ids))
    known = set((await connection.execute(there)).scalars())
    kept = [_row(one) for one in held if not one.gone and one.device_id in known]
    if kept:
        statement = sqlite.insert(holdings)
        new = statement.excluded
        values = {name: new[name] for name in ("lifetime", "since", "keys")}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=list(holdings.primary_key), set_=values), kept
        )
    for one in held:
        if one.gone:
            columns = holdings.c
            await connection.execute(
                delete(holdings).where(
                    columns.device_id == one.device_id, columns.kind == one.kind, columns.key == one.key
                )
            )


def _row(one: Held) -> dict[str, object]:
    return {
        "device_id": one.device_id,
        "kind": one.kind.value,
        "key": one.key,
        "lifetime": one.lifetime,
        "since": one.since,
        "keys": one.keys,
    }


async def read(connection: AsyncConnection, only: Collection[str] | None) -> list[Held]:
    """What the devices in `only` hold, or all of them, in a fixed order."""
    query = (
        select(holdings)
        .where(holdings.c.kind.in_(_KINDS), true() if only is None else holdings.c.device_id.in_(only))
        .order_by(*holdings.primary_key)
    )
    return [
        Held(**{**row, "kind": Kind(row["kind"])}) for row in (await connection.execute(query)).mappings()
    ]


async def forget(connection: AsyncConnection, device_ids: Collection[str]) -> None:
    """Drop what is kept of these devices, and have a running gateway do so too."""
    await connection.execute(delete(holdings).where(holdings.c.device_id.in_(device_ids)))
    if device_ids:
        marks = [
            {"device_id": one, "kind": _FORGET, "key": 0, "lifetime": 0, "since": 0, "keys": b""}
            for one in device_ids
        ]
        await connection.execute(sqlite.insert(holdings).on_conflict_do_nothing(), marks)


async def forget_all(connection: AsyncConnection) -> None:
    """Drop everything."""
    await connection.execute(delete(holdings))


async def forgotten(connection: AsyncConnection) -> list[str]:
    """Which devices are to be counted from nothing."""
    query = select(holdings.c.device_id).where(holdings.c.kind == _FORGET)
    return list((await connection.execute(query)).scalars())


async def forgot(connection: AsyncConnection, device_ids: Collection[str]) -> None:
    """They were."""
    marks = holdings.c.kind == _FORGET
    await connection.execute(delete(holdings).where(marks, holdings.c.device_id.in_(device_ids)))
