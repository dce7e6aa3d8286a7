"""The store: devices, the log of their changes, and how often each sealing key was used.

What is acknowledged here has been synced to disk. It knows nothing of policy or connections, and
the data path never waits for it: `gateway.store.directory` keeps what that needs in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gateway.core.identity import Device


async def open_store(url: str) -> Store:
    """The store at `url` (`sqlite:///path`), made if it is not there, its tables brought up to date.

    Raises StoreError when it cannot be opened, is damaged, or was made by a newer version.
    """
    raise NotImplementedError


class Store:
    """Each method is one transaction, and raises StoreError when the database fails."""

    async def add_device(
        self, device_id: str, *, credential: str, roles: Sequence[str], labels: Mapping[str, str]
    ) -> Device:
        """A new device, enabled. Raises DeviceExists."""
        raise NotImplementedError

    async def device(self, device_id: str) -> Device | None:
        """The device of this id, if there is one."""
        raise NotImplementedError

    async def devices(self, only: Collection[str] | None = None) -> list[Device]:
        """All devices, or those of the ids in `only` that exist, sorted by id."""
        raise NotImplementedError

    async def set_enabled(self, device_id: str, *, enabled: bool) -> Device:
        """Let the device in or keep it out; its sessions end. Raises UnknownDevice."""
        raise NotImplementedError

    async def remove_device(self, device_id: str) -> None:
        """Forget the device. Raises UnknownDevice."""
        raise NotImplementedError

    async def set_credential(self, device_id: str, credential: str) -> Device:
        """Another secret (a PHC hash); its sessions end. Raises UnknownDevice."""
        raise NotImplementedError

    async def rehash_credential(self, device_id: str, *, version: int, credential: str) -> bool:
        """The same secret hashed anew: no session ends. False when the device has changed since `version`."""
        raise NotImplementedError

    async def last_change(self) -> int:
        """The number of the latest change, 0 if there was none."""
        raise NotImplementedError

    async def changes_since(self, seq: int) -> tuple[int, frozenset[str] | None]:
        """The latest number and the ids touched after `seq`; None for the ids when the log starts later."""
        raise NotImplementedError

    async def add_key_uses(self, key_id: str, n: int) -> int:
        """Count `n` more uses of the sealing key; the answer is how many there are now."""
        raise NotImplementedError

    async def key_uses(self) -> dict[str, int]:
        """How often each sealing key was used."""
        raise NotImplementedError

    async def reopen(self) -> None:
        """Open the same database once more after a failure. Never makes a new one. Raises StoreError."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back the files. The store cannot be used after."""
        raise NotImplementedError
