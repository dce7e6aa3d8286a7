"""What goes on beside the logins: which devices are known is saved, and old hashes are made anew.

Owns the file `known-devices` in the data folder, and when it is written. What it is good for is said in
`gateway.auth.known_devices`. Without it nobody is refused: devices are strangers until they log in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from gateway.auth.known_devices import KnownDevices, Snapshot
from gateway.auth.passwords import Busy, PasswordPool
from gateway.observe.logs import get_logger
from gateway.observe.save_failures import Saves
from gateway.policy.engine.identity import Device
from gateway.store import Store, StoreError
from gateway.system.atomic_files import locked, make_folder, replace_file, write_new

FILE = "known-devices"
_SAVE_SECONDS = 10.0
_LOCK_SECONDS = 2.0
_SIZE_MAX = 16_777_216
"""Bytes that are read at most: it has a seventh of that when it is full."""

_log = get_logger()


class KnownDevicesFile:
    """Saves what is known of devices, so that a restart makes strangers of none."""

    def __init__(self, folder: Path, known: KnownDevices, saves: Saves | None = None) -> None:
        self._path = folder / FILE
        self._known = known
        self._saves = saves or Saves()

    def load(self) -> None:
        """Know what was saved. A file that can't be used is as good as none, and the log says so."""
        try:
            with self._path.open("rb") as file:
                data = file.read(_SIZE_MAX)
            self._known.load(data)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            reason = f"{self._path}: {error}; all devices are new until their next login"
            _log.warning("known devices not read", reason=reason)

    async def run(self) -> None:
        """Save every ten seconds if there is something new, for ever."""
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            await self.save()

    async def save(self) -> None:
        """Save what is new; what can't be saved now is kept for the next time."""
        snapshot = self._known.take_unsaved()
        if snapshot is None:
            return
        try:
            await asyncio.to_thread(self._write, snapshot)
        except BaseException as error:
            # When it is stopped meanwhile, too: the end of the gateway saves once more.
            self._known.put_back()
            if not isinstance(error, OSError):
                raise
            self._saves.failed("known devices", error)
        else:
            self._saves.done("known devices")

    def _write(self, snapshot: Snapshot) -> None:
        data = snapshot.to_bytes()
        make_folder(self._path.parent)
        with locked(self._path.parent, seconds=_LOCK_SECONDS):
            if self._path.exists():
                replace_file(self._path, data, mode=0o600)
            else:
                write_new(self._path, data, mode=0o600)


class OldHashes:
    """Makes a hash with old parameters, or one of Mosquitto's, anew: when no login waits."""

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
