"""Wills revoked by a change of the rules: a device that comes back with such a will is let in without it.

It was once let in with this will, so refusing it now would lock it out for what somebody else changed. They
are kept in memory only, as hashes, and bounded: the oldest go. Must not know the rules, nor what a connection
is.
"""

from __future__ import annotations

from gateway.connection.hash_set import hash_of

PAIRS_MAX = 16_384
"""Pairs of device and topic: twice as many as there are connections by default."""


class RevokedWills:
    """Those of all devices. Only a change of the rules that ends a live connection adds one."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[int, None] = {}

    def add(self, device_id: str, topic: str) -> None:
        """The will of this device on this topic was revoked."""
        key = _key(device_id, topic)
        self._keys.pop(key, None)
        self._keys[key] = None
        if len(self._keys) > PAIRS_MAX:
            del self._keys[next(iter(self._keys))]

    def has(self, device_id: str, topic: str) -> bool:
        """Whether it was revoked. For any client id: the device may have been assigned one."""
        return bool(self._keys) and _key(device_id, topic) in self._keys


def _key(device_id: str, topic: str) -> int:
    return hash_of(f"{device_id}\0{topic}".encode())
