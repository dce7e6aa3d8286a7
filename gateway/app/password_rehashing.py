"""Replaces a password hash that has old parameters, or is Mosquitto's, after a login: when no other waits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.auth.passwords import Busy, PasswordPool
from gateway.policy.engine.identity import Device
from gateway.store import Store, StoreError


class OldHashes:
    """The hashes to be replaced, of devices that have just logged in."""

    def __init__(
        self, store: Store, passwords: PasswordPool, start: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        """`start` runs a coroutine in a task of its own."""
        self._store = store
        self._passwords = passwords
        self._start = start
        self._under_way: set[str] = set()

    def replace(self, device: Device, secret: bytes) -> None:
        """Begin to replace this device's.

        If it fails the old hash stays valid, and the next login tries again.
        """
        if device.device_id not in self._under_way:
            self._under_way.add(device.device_id)
            self._start(self._replace(device, secret))

    async def _replace(self, device: Device, secret: bytes) -> None:
        try:
            with contextlib.suppress(Busy, StoreError):
                credential = await self._passwords.hash(secret)
                await self._store.devices.rehash_credential(
                    device.device_id, version=device.version, credential=credential
                )
        finally:
            self._under_way.discard(device.device_id)
