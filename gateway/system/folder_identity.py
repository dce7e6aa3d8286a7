"""Tells one folder from another without giving away its path."""

from __future__ import annotations

import hashlib
from pathlib import Path


def folder_identity(folder: Path) -> str:
    """What distinguishes this folder on this machine, without giving away its path. Empty when there is none.

    It is made of the device and inode: in a container the same folder may have a different path.
    """
    try:
        seen = folder.stat()
    except OSError:
        return ""
    return hashlib.blake2b(f"{seen.st_dev} {seen.st_ino}".encode(), digest_size=8).hexdigest()
