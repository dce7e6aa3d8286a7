"""Errors with files, in words that say what to do: whose rights are missing, or what the system says."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""What the system says of a disk that takes nothing more."""
_REMEDIES = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room on that disk, or raise the quota of this user",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EROFS: "mount it to be written to",
    errno.ENOENT: "put its folder back",
    errno.ENOTDIR: "put its folder back",
}
"""By what the system says of a write."""


def who_may(path: Path, wanted: int = os.R_OK) -> str:
    """Why the user who runs this can't use `path`, and who can: for whoever was refused. Never raises.

    `wanted` is what was to be done: `os.R_OK`, `os.W_OK` or both.
    """
    us = _user(os.geteuid())
    path = path.absolute()
    for part in [*reversed(path.parents), path]:
        if part != path and os.access(part, os.X_OK):
            continue
        try:
            found = part.stat()
        except OSError:
            break
        if part == path and os.access(part, wanted):
            break
        owner, mode = _user(found.st_uid), stat.S_IMODE(found.st_mode)
        what = "it" if part == path else f"the folder {part}"
        remedy = f"give that user the rights ({_chmod(part, wanted)})"
        if found.st_uid != os.geteuid():
            remedy = f"run this as {owner}, or let {us} in"
        return f"{us} may not: {what} belongs to {owner}, mode {mode:04o}; {remedy}"
    return f"{us} may not"


def why(path: Path, error: OSError) -> str:
    """What to say of an error in reading `path`: whose rights are missing, or what the system says."""
    return who_may(path) if isinstance(error, PermissionError) else error.strerror or type(error).__name__


def not_written(path: Path, error: OSError) -> str:
    """What to say when `path` can't be written: why, and what to do."""
    if not error.errno:  # it was raised here, and says what to do
        return f"{path} can't be written: {error}"
    if isinstance(error, PermissionError):
        # A new file is written beside the old one and renamed, so it is the folder's rights that count.
        return f"{path} can't be written ({who_may(path.parent, os.R_OK | os.W_OK)})"
    remedy = _REMEDIES.get(error.errno, "see to the disk and the folder")
    return f"{path} can't be written ({error.strerror}): {remedy}"


def _chmod(path: Path, wanted: int) -> str:
    rights = ("r" if wanted & os.R_OK else "") + ("w" if wanted & os.W_OK else "")
    return f"chmod u+{rights}{'x' if path.is_dir() else ''} {path}"


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def is_unreachable(path: Path) -> bool:
    """Whether we lack the rights even to see if `path` is there."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return False
