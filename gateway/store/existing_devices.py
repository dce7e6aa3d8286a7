"""Which of some ids are of devices that are there: only of those is kept what a gateway has seen.

A gateway saves some seconds after it saw something, and the device may have been removed meanwhile. What came
too late would be there for the next device with this id, as if that one had done it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy import Table, bindparam, exists, select
from sqlalchemy.dialects import sqlite

from gateway.store.schema import devices

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

GIVEN = "given_"
"""Begins the names of the parameters of `insert_of_existing`: SQLAlchemy keeps those of the columns."""


async def existing(connection: AsyncConnection, device_ids: Collection[str]) -> frozenset[str]:
    """Those of the ids that devices have. To be asked in the transaction that saves."""
    there = select(devices.c.device_id).where(devices.c.device_id.in_(device_ids))
    return frozenset((await connection.execute(there)).scalars())


def insert_of_existing(table: Table) -> sqlite.Insert:
    """Insert a row if its device is there: in one statement, for what is saved many times a second.

    The parameters are named like the columns, with `GIVEN` before the name.
    """
    row = select(*(bindparam(f"{GIVEN}{one.name}", type_=one.type) for one in table.columns))
    there = exists().where(devices.c.device_id == bindparam(f"{GIVEN}device_id"))
    return sqlite.insert(table).from_select([one.name for one in table.columns], row.where(there))
