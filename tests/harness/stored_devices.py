"""Devices in a store of the test's own, whose rows are what is tested: of others nothing is kept."""

from __future__ import annotations

from gateway.store import NewDevice, Store


async def add_devices(store: Store, *device_ids: str) -> None:
    """Add these, without roles and labels."""
    await store.devices.add_all([NewDevice(one, "c", [], {}) for one in device_ids])
