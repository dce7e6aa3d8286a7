"""Files that are there as a whole or not at all, and folders that only one process at a time may set up.

For the few files that the gateway makes itself: the database, keys, certificates.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.system.file_errors import who_may

_LOCK = ".gateway.lock"
_POLL_SECONDS = 0.05


def make_folder(folder: Path) -> None:
    """Make `folder` if it is not there, for our user alone. One that exists is left as it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def locked(folder: Path, *, seconds: float = 30.0) -> Iterator[None]:
    """Hold the folder against other processes that ask for it the same way. Raises TimeoutError, OSError.

    The lock is on a file of ours in it, which nobody else can open: on the folder itself anybody who may read
    it could hold a lock, and keep the gateway from starting. The file is removed when the work is done, so
    that none is left which another user could not open later; and it is not one of the database's, whose own
    locks closing any descriptor of them would drop.
    """
    path = folder / _LOCK
    deadline = time.monotonic() + seconds
    while True:
        descriptor = open_ours(path)
        try:
            _lock(descriptor, deadline, f"another process has held {path} for {seconds:g} s")
            if not _is_file(path, descriptor):
                continue  # whoever held it has removed it: a lock on a file that is gone keeps nobody out
            try:
                yield
            finally:
                with suppress(OSError):  # if it is left it does no harm
                    path.unlink()
            return
        finally:
            os.close(descriptor)


def open_ours(path: Path) -> int:
    """A descriptor of the file that a lock is on, made for our user alone if it is not there.

    Raises OSError.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except PermissionError as error:
        if not os.path.lexists(path):  # it can't be made, so that there is nothing to remove
            said = who_may(path.parent, os.R_OK | os.W_OK)
            raise PermissionError(f"nothing can be written in {path.parent}: {said}") from None
        raise PermissionError(
            f"{path} can't be opened ({error.strerror}): run this as the owner of {path.parent}, or "
            "remove that file if nothing else of the gateway runs"
        ) from None
    try:
        _keep_to_ourselves(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _keep_to_ourselves(descriptor: int, path: Path) -> None:
    found, user, owner = os.fstat(descriptor), os.geteuid(), _owner_of(path.parent)
    # In a folder where all may write, /tmp say, anybody can have put it there to hold us up.
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in {user, owner, 0}:
        raise PermissionError(f"{path} is not a file of the gateway's: remove it")
    if user in {0, found.st_uid}:
        os.fchmod(descriptor, 0o600)  # whatever the umask says
    if user == found.st_uid == 0 != owner:
        # An administrator's command, killed in its work, must not keep the gateway's user out.
        os.fchown(descriptor, owner, -1)


def _owner_of(folder: Path) -> int:
    return folder.stat().st_uid


def _lock(descriptor: int, deadline: float, too_late: str) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(too_late) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _is_file(path: Path, descriptor: int) -> bool:
    """Whether the file of this descriptor is still the one of that name."""
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Make the file with all of `data` in it, on disk when this returns. Raises FileExistsError.

    It appears under its name complete or not at all, and never replaces a file. The caller holds the folder's
    lock.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already: name a new file")
    _write(path, data, mode=mode, owner=None)


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Put a file with all of `data` in the place of one that is there, on disk when this returns.

    Whoever reads it sees the old or the new one, whole. It keeps its owner: an administrator's command must
    not take the file away from the gateway's user. The caller holds the folder's lock.
    """
    path = path.resolve(strict=True)  # a link stays one
    _write(path, data, mode=mode, owner=path.stat().st_uid)


def put_file(path: Path, data: bytes, *, mode: int) -> None:
    """Make the file, or replace the one that is there: as `write_new` and `replace_file` do."""
    (replace_file if path.exists() else write_new)(path, data, mode=mode)


def _write(path: Path, data: bytes, *, mode: int, owner: int | None) -> None:
    draft = draft_of(path)
    try:
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
    except OSError as error:
        if error.filename is None:  # the system names a file when it is opened, and not when the disk is full
            error.filename = str(path)
        raise


def draft_of(path: Path) -> Path:
    """The file in which the new content of `path` is written before it is renamed.

    What a killed process left there is removed. For the holder of the folder's lock alone.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    return draft


def sync_folder(folder: Path) -> None:
    """Have the names in the folder on disk (fsync), as after a file was made or renamed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
