"""Resets the count of what a device holds on the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.admin.audit_events import record
from gateway.connection.audit_vocabulary import changed_device

if TYPE_CHECKING:
    from gateway.store import Store


async def forget(store: Store, device_id: str, *, actor: str) -> int:
    """Begin the count of what a device holds at 0; return how many records went. Raises UnknownDevice."""
    async with store.transaction() as tx:
        await tx.devices.get(device_id)
        found = await tx.holdings.read(device_id)
        await tx.holdings.forget([device_id])
        reason = "what it holds on the bus is counted anew"
        await record(tx, changed_device(reason), device=device_id, actor=actor)
        return len(found)
