"""Which of some ids are of devices that are there: only of those is kept what a gateway has seen.

A gateway saves some seconds after it saw something, and the device may have been removed meanwhile. What came
too late would be there for the next device with this id, as if that one had done it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy import select

from gateway.store.schema import devices

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


async def existing(connection: AsyncConnection, device_ids: Collection[str]) -> frozenset[str]:
    """Those of the ids that devices have. To be asked in the transaction that saves."""
    there = select(devices.c.device_id).where(devices.c.device_id.in_(device_ids))
    return frozenset((await connection.execute(there)).scalars())
