"""Reads entries for people: the newest that fit, and those that are written later.

Never waits for the writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.audit_trail.segments import Segment, decoded, segments_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries are asked for; None: any value fits."""

    device: str | None = None
    kind: str | None = None
    outcome: str | None = None
    since: int | None = None
    """Unix milliseconds, as `until`."""
    until: int | None = None

    def fits(self, entry: Mapping[str, Any]) -> bool:
        """Whether it is one of these."""
        time = entry.get("time")
        if type(time) is not int or not entry:
            return False
        return (
            self.device in {None, entry.get("device")}
            and self.kind in {None, entry.get("kind")}
            and self.outcome in {None, entry.get("outcome")}
            and (self.since is None or time >= self.since)
            and (self.until is None or time < self.until)
        )


def newest(folder: Path, wanted: Wanted, most: int) -> list[dict[str, Any]]:
    """The newest `most` entries that fit, the oldest of them first. Raises OSError."""
    found: list[dict[str, Any]] = []
    for segment in reversed(segments_of(folder)):
        try:
            lines, _ = segment.lines()
        except FileNotFoundError:
            continue
        for line in reversed(lines):
            entry = decoded(line)
            if wanted.fits(entry):
                found.append(entry)
                if len(found) == most:
                    return found[::-1]
    return found[::-1]


def with_id(folder: Path, entry_id: str) -> dict[str, Any] | None:
    """The newest entry that has this id. Raises OSError."""
    needle = f'"id":"{entry_id}"'.encode()
    for segment in reversed(segments_of(folder)):
        lines, _ = segment.lines()
        for line in reversed(lines):
            if needle in line and (entry := decoded(line)).get("id") == entry_id:
                return entry
    return None


class EntryTail:
    """Gives the entries that are written after it was made, as `tail -f` does."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        self._folder = folder
        segments = segments_of(folder)
        self._segment: Segment | None = segments[-1] if segments else None
        self._at = self._segment.path.stat().st_size if self._segment else 0
        self._rest = b""

    def new_entries(self) -> Iterator[dict[str, Any]]:
        """What was written since it was asked last. Raises OSError."""
        later = [one for one in segments_of(self._folder) if self._segment is None or one > self._segment]
        yield from self._read()
        for segment in later:
            self._segment, self._at, self._rest = segment, 0, b""
            yield from self._read()

    def _read(self) -> Iterator[dict[str, Any]]:
        if self._segment is None:
            return
        with self._segment.path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
            self._at = file.tell()
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from (entry for line in lines if (entry := decoded(line)))


def is_readable(folder: Path) -> bool:
    """Whether this is the folder of a trail that this user may read."""
    return os.access(folder, os.R_OK | os.X_OK) and folder.is_dir()
