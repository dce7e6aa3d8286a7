"""Files that must not be half there, and folders that only one process at a time may set up.

For the few files that the gateway makes itself: the database, keys, certificates.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_SECONDS = 0.05


def make_folder(folder: Path) -> None:
    """Make `folder` if it is not there, for our user alone. One that exists is left as it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def locked(folder: Path, *, seconds: float = 30.0) -> Iterator[None]:
    """Hold the folder against other processes that ask for it the same way. Raises TimeoutError.

    The lock is on the folder itself: no file is left behind that another user could not open later, and
    none of SQLite's own locks is dropped by closing a descriptor of the database.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process has held {folder} for {seconds:g} s") from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Make the file with all of `data` in it, on disk when this returns. Raises FileExistsError.

    It appears under its name complete or not at all, and never over a file that is there. Whoever calls
    holds the folder's lock.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already")
    _write(path, data, mode=mode, owner=None)


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Put a file with all of `data` in the place of one that is there, on disk when this returns.

    Whoever reads it sees the old or the new one, whole. It keeps its owner: an administrator's command must
    not take the file away from the gateway's user. Whoever calls holds the folder's lock.
    """
    path = path.resolve(strict=True)  # a link stays one
    _write(path, data, mode=mode, owner=path.stat().st_uid)


def _write(path: Path, data: bytes, *, mode: int, owner: int | None) -> None:
    draft = draft_of(path)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says
        if owner is not None and owner != os.geteuid():
            os.fchown(descriptor, owner, -1)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    draft.rename(path)
    sync_folder(path.parent)


def draft_of(path: Path) -> Path:
    """Where `path` is prepared; what a killed process left there is removed. For the lock's holder alone."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    return draft


def sync_folder(folder: Path) -> None:
    """Bring to disk which names are in the folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
