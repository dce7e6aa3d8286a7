"""The audit events of kicks and traces: connections of a running gateway are ended, or their packets shown.

The event is written first, in the store, so that neither is done without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.admin.audit_events import record
from gateway.connection.audit_vocabulary import kicked_device, traced_device

if TYPE_CHECKING:
    from gateway.store import Store


async def record_kick(store: Store, device_id: str, count: int, *, actor: str) -> None:
    """Record that this many connections of the device will be ended. Raises UnknownDevice."""
    async with store.transaction() as tx:
        await tx.devices.get(device_id)
        reason = f"kicked: {count} connection{'' if count == 1 else 's'} ended"
        await record(tx, kicked_device(reason), device=device_id, actor=actor)


async def record_trace(store: Store, device_id: str, seconds: int, *, actor: str) -> None:
    """Record that the packets of the device will be shown, for `seconds` at most. Raises UnknownDevice."""
    async with store.transaction() as tx:
        await tx.devices.get(device_id)
        reason = f"traced: its packets are looked at, for {seconds} s at most"
        await record(tx, traced_device(reason), device=device_id, actor=actor)
