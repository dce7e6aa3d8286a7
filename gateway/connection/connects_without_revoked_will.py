"""Whose will a change of the rules ended with its connection: who comes back with it is let in without it.

It was let in with this will, so to refuse it now would lock it out for what somebody else changed. Kept in
memory alone, as hashes, and bounded: the oldest go. Must not know the rules, nor what a connection is.
"""

from __future__ import annotations

from gateway.connection.hash_set import key_of

PAIRS_MAX = 16_384
"""Pairs of device and topic: twice as many as there are connections by default."""


class WillsTakenBack:
    """Of all devices of a process. Only a change of the rules on a live connection adds one."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[int, None] = {}

    def add(self, device_id: str, topic: str) -> None:
        """The will of this device on this topic was taken back."""
        key = _key(device_id, topic)
        self._keys.pop(key, None)
        self._keys[key] = None
        if len(self._keys) > PAIRS_MAX:
            del self._keys[next(iter(self._keys))]

    def has(self, device_id: str, topic: str) -> bool:
        """Whether it was, whatever client id the device comes back with: it may have been given one."""
        return bool(self._keys) and _key(device_id, topic) in self._keys


def _key(device_id: str, topic: str) -> int:
    return key_of(f"{device_id}\0{topic}".encode())
