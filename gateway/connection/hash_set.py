"""Sets of 64-bit hashes, small enough to keep one per device, and saved in the form they are kept in.

Must not know what the hashes stand for.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from hashlib import blake2b


def hash_of(data: bytes) -> int:
    """The hash that stands for a topic, a filter or a client id: a signed number of 64 bits."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big", signed=True)


class HashSet:
    """A set of hashes in eight bytes each."""

    __slots__ = ("_sorted",)

    def __init__(self, saved: bytes = b"") -> None:
        self._sorted = array("q")
        self._sorted.frombytes(saved[: len(saved) & ~7])
        if sys.byteorder == "big":
            self._sorted.byteswap()

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, key: int) -> bool:
        at = bisect_left(self._sorted, key)
        return at < len(self._sorted) and self._sorted[at] == key

    def add(self, key: int) -> None:
        """Add a hash that the set does not have."""
        self._sorted.insert(bisect_left(self._sorted, key), key)

    def discard(self, key: int) -> bool:
        """Remove a hash; whether the set had it."""
        at = bisect_left(self._sorted, key)
        if at == len(self._sorted) or self._sorted[at] != key:
            return False
        del self._sorted[at]
        return True

    def to_bytes(self) -> bytes:
        """The saved form: sorted, eight bytes each, little-endian."""
        saved = self._sorted
        if sys.byteorder == "big":
            saved = array("q", saved)
            saved.byteswap()
        return saved.tobytes()
