"""By what it is seen that a file has changed, appeared or gone, without reading it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

Mark: TypeAlias = tuple[int, ...]


def mark(path: Path | os.DirEntry[str]) -> Mark:
    """Of this file, links followed: of one that can't be looked at, why."""
    try:
        stat = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    # The change time too: copying tools set the modification time back.
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def marks(paths: Iterable[Path]) -> dict[str, Mark]:
    """Of each of them, by its path."""
    return {str(path): mark(path) for path in paths}
