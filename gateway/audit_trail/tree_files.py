"""The hashes of the tree on disk: one file per level, each hash 32 bytes, in order.

Level 0 has the leaves. Each hash of level L+1 is the root over 256 hashes of level L, once all of them are
there: these 256 are a tile of C2SP's tlog-tiles. So a proof reads a few kilobytes, whatever the tree's size.
Hashes are kept for ever, also those of entries that are not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.audit_trail.errors import TrailDamaged
from gateway.audit_trail.merkle import HASH_BYTES, perfect_root
from gateway.system.atomic_files import sync_folder

TILE = 256
"""Hashes of one level that have one hash in the next."""
_TILE_BITS = 8
_WRITTEN_SECONDS = 0.2
"""A gateway that writes has brought a level up to the one below it by then."""


class TreeFiles:
    """The levels of one tree. Whoever reads sees what was complete when it was opened."""

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        """Raises OSError."""
        self._folder = folder
        self._flags = os.O_CLOEXEC | (os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY)
        self._writable = writable
        self._files: list[int] = []
        self._counts: list[int] = []
        if writable:
            folder.mkdir(mode=0o700, exist_ok=True)
        while (folder / str(len(self._files))).exists():
            self._open_level()

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return self.count(0)

    @property
    def levels(self) -> int:
        """How many levels have a file."""
        return len(self._files)

    def count(self, level: int) -> int:
        """How many hashes a level has."""
        return self._counts[level] if level < len(self._counts) else 0

    def look_again(self, level: int) -> int:
        """Wait a little, and return how many hashes a level has then: a gateway may just be writing them."""
        time.sleep(_WRITTEN_SECONDS)
        if level == self.levels and (self._folder / str(level)).exists():
            self._open_level()
        elif level < self.levels:
            self._counts[level] = os.fstat(self._files[level]).st_size // HASH_BYTES
        return self.count(level)

    def read(self, level: int, start: int, count: int) -> bytes:
        """Some hashes of a level, as they stand there. Raises TrailDamaged: they are not there."""
        wanted = count * HASH_BYTES
        found = os.pread(self._files[level], wanted, start * HASH_BYTES) if level < self.levels else b""
        if len(found) != wanted:
            raise TrailDamaged(
                f"{self._folder / str(level)} is too short: it has no hashes {start} to {start + count - 1}"
            )
        return found

    def hashes(self, level: int, start: int, count: int) -> list[bytes]:
        """Some hashes of a level. Raises TrailDamaged."""
        found = self.read(level, start, count)
        return [found[at : at + HASH_BYTES] for at in range(0, len(found), HASH_BYTES)]

    def subtree(self, start: int, size: int) -> bytes:
        """As `gateway.audit_trail.merkle.Subtrees`. Raises TrailDamaged."""
        level, bits = divmod(size.bit_length() - 1, _TILE_BITS)
        return perfect_root(self.hashes(level, start >> (level * _TILE_BITS), 1 << bits))

    # For the writer

    def grow(self, leaves: Sequence[bytes]) -> None:
        """Append these, and the hashes over them. Raises OSError: then some may have been written."""
        level, added = 0, b"".join(leaves)
        while added:
            self._append(level, added)
            complete, known = self.count(level) // TILE, self.count(level + 1)
            tiles = range(known, complete)
            added = b"".join(perfect_root(self.hashes(level, tile * TILE, TILE)) for tile in tiles)
            level += 1

    def cut(self, size: int) -> None:
        """Forget all leaves from `size` on, and what was made of them."""
        for level, file in enumerate(self._files):
            kept = min(self._counts[level], size >> (level * _TILE_BITS))
            os.ftruncate(file, kept * HASH_BYTES)
            self._counts[level] = kept

    def sync(self) -> None:
        """Have all of it on disk (fsync)."""
        for file in self._files:
            os.fsync(file)

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())
        self._counts.clear()

    def _append(self, level: int, data: bytes) -> None:
        while level >= self.levels:
            self._open_level()
            sync_folder(self._folder)
        at, left = self._counts[level] * HASH_BYTES, memoryview(data)
        while left:
            written = os.pwrite(self._files[level], left, at)
            at, left = at + written, left[written:]
        self._counts[level] += len(data) // HASH_BYTES

    def _open_level(self) -> None:
        file = os.open(self._folder / str(self.levels), self._flags, 0o600)
        self._files.append(file)
        self._counts.append(os.fstat(file).st_size // HASH_BYTES)
