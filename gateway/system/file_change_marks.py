"""How it is seen that a file has changed, appeared or gone, without reading it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

Mark: TypeAlias = tuple[int, ...]
"""Inode, size and two times of a file; it differs when the file has changed."""


def mark(path: Path | os.DirEntry[str]) -> Mark:
    """The mark of a file, links followed; of one that can't be looked at, the error number alone."""
    try:
        stat = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    # The change time too: copying tools set the modification time back.
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def marks(paths: Iterable[Path]) -> dict[str, Mark]:
    """The mark of each file, by its path."""
    return {str(path): mark(path) for path in paths}
