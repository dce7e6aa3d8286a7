"""Makes a hash with old parameters, or one of Mosquitto's, anew: when no login waits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.auth.passwords import Busy, PasswordPool
from gateway.policy.engine.identity import Device
from gateway.store import Store, StoreError


class OldHashes:
    """Those of devices that have just logged in."""

    def __init__(
        self, store: Store, passwords: PasswordPool, start: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        """`start` runs something beside everything else."""
        self._store = store
        self._passwords = passwords
        self._start = start
        self._under_way: set[str] = set()

    def replace(self, device: Device, secret: bytes) -> None:
        """Begin to. What can't be done now is tried again at the next login: the old hash stays good."""
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
