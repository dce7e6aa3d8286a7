"""The entries on disk: JSON lines in files, each named for the number of its first entry.

A segment ends with the day (UTC) or when it is full, so that what is no longer kept is deleted in whole
files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.audit_trail.errors import TrailDamaged, TrailError
from gateway.system.atomic_files import sync_folder

SEGMENT_ENTRIES_MAX = 65_536
"""Entries of one segment, at most."""
_NAME = re.compile(r"([0-9]{16})\.jsonl")
_DROPPED = b'"kept_from":'
"""Stands in an entry that says which entries retention drops."""


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A file of entries."""

    first: int
    """The number of its first entry."""
    path: Path

    def lines(self) -> tuple[list[bytes], bytes]:
        """Its complete lines, and what follows them without a line feed. Raises OSError."""
        *whole, rest = self.path.read_bytes().split(b"\n")
        return whole, rest

    def newest_time(self) -> int | None:
        """The time of its last complete entry, in Unix milliseconds; None if that can't be read."""
        lines, _ = self.lines()
        return _time_of(lines[-1]) if lines else None

    def oldest_time(self) -> int | None:
        """The time of its first entry, as `newest_time`."""
        with self.path.open("rb") as file:
            return _time_of(file.readline())


class Numbered(msgspec.Struct):
    """The one field that is decoded to know an entry's number."""

    seq: int


_numbered = msgspec.json.Decoder(Numbered)


def number_of(line: bytes) -> int:
    """The number that stands in an entry; -1 if the line is none."""
    try:
        return _numbered.decode(line).seq
    except (msgspec.DecodeError, ValueError):
        return -1


def decoded(line: bytes) -> dict[str, Any]:
    """What an entry says; empty when that can't be read."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _time_of(line: bytes) -> int | None:
    found = decoded(line).get("time")
    return found if type(found) is int else None


def retentions(first: int, lines: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Which of these entries, the first of them number `first`, say that those before one are dropped.

    Gives their numbers, each with that of the one that is kept.
    """
    for number, line in enumerate(lines, first):
        if _DROPPED in line:
            said = decoded(line)
            kept_from = said.get("kept_from")
            if said.get("kind") == "audit" and type(kept_from) is int:
                yield number, kept_from


def signed_retention(segments: Sequence[Segment], signed: int) -> int:
    """From which entry on all are kept, as the last of the first `signed` entries says that speaks of it.

    0 if none does. What is not signed does not count: whoever deletes entries could append it, without the
    key.
    """
    for segment in reversed(segments):
        if segment.first < signed:
            for number, kept_from in reversed([*retentions(segment.first, segment.lines()[0])]):
                if number < signed:
                    return kept_from
    return 0


def segments_of(folder: Path) -> list[Segment]:
    """All segments, the oldest first. Raises OSError."""
    paths = folder.iterdir() if folder.is_dir() else ()
    named = ((_NAME.fullmatch(path.name), path) for path in paths)
    return sorted(Segment(int(match[1]), path) for match, path in named if match)


def holding(segments: Sequence[Segment], index: int) -> Sequence[Segment]:
    """The segments from the one on that has the entry `index`; all of them, if it is no longer kept."""
    place = sum(segment.first <= index for segment in segments)
    return segments[max(place - 1, 0) :]


def entries_from(folder: Path, index: int) -> Iterator[tuple[int, bytes]]:
    """All complete entries from `index` on with their numbers, as far as they are kept. Raises OSError.

    A segment that is deleted while they are read is left out.
    """
    for segment in holding(segments_of(folder), index):
        try:
            lines, _ = segment.lines()
        except FileNotFoundError:
            continue
        for number, line in enumerate(lines, segment.first):
            if number >= index:
                yield number, line


def entry(folder: Path, index: int) -> bytes | None:
    """The entry `index`; None: it is not kept any more, or not there yet. Raises OSError."""
    found = next(entries_from(folder, index), None)
    return found[1] if found is not None and found[0] == index else None


class OpenSegment:
    """The segment that entries are written to."""

    def __init__(self, segment: Segment, size: int, count: int) -> None:
        """`size` in bytes, of the `count` entries that are there. Raises OSError."""
        self.segment = segment
        self.count = count
        self._size = size
        self._file = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self._file, size)
            sync_folder(segment.path.parent)
        except OSError:
            os.close(self._file)
            raise

    @classmethod
    def new(cls, folder: Path, first: int) -> OpenSegment:
        """An empty one, for the entry `first`. Raises OSError, and TrailDamaged: there is one."""
        path = folder / f"{first:016}.jsonl"
        if path.exists() and path.stat().st_size:
            raise TrailDamaged(f"{path} is there already, and was not written by this trail")
        return cls(Segment(first, path), 0, 0)

    def append(self, lines: Sequence[bytes]) -> None:
        """Append entries, on disk when this returns.

        Raises OSError: then some may have been written. Raises it too if the file of that name is a different
        one now.
        """
        if not self._is_there():
            raise TrailError(
                f"{self.segment.path} was replaced or taken away while it was in use: put it back"
            )
        left = memoryview(b"\n".join(lines) + b"\n")
        at = self._size
        while left:
            written = os.pwrite(self._file, left, at)
            at, left = at + written, left[written:]
        os.fsync(self._file)
        self._size = at
        self.count += len(lines)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _is_there(self) -> bool:
        # A deleted file that is still open takes entries for ever, and nobody would ever read them.
        try:
            return os.path.samestat(self.segment.path.stat(), os.fstat(self._file))
        except (FileNotFoundError, NotADirectoryError):
            return False
