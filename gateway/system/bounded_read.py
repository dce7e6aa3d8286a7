"""Reads a file of unknown size, never more of it than a bound."""

from __future__ import annotations

from pathlib import Path


def read_at_most(path: Path, most: int) -> bytes | None:
    """The content; None if it is longer than `most` bytes. Of a pipe it waits for the end. Raises OSError."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    return content if len(content) <= most else None
