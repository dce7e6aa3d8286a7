"""One gateway per data folder: a file that is locked for as long as the process lives.

A second gateway on the same store would report events that are the first one's, and count the uses of a key
without those of the first. The lock
is on a file of its own: the folder's lock (`gateway.system.atomic_files`) is held for moments only, by
commands too, and the database's locks would be dropped by closing any descriptor of its files.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gateway.system.atomic_files import make_folder, open_ours

_NAME = ".gateway.running"
_HOLDER_BYTES_MAX = 1_024
"""Bytes of the file that are read: it holds a process id and a host name."""


class Held(Exception):
    """A different process uses the folder or the database. The text says which."""


@contextmanager
def hold(data: Path, database: Path) -> Iterator[None]:
    """Hold the data folder and the database, wherever that is. Raises Held, OSError.

    Each has a lock of its own: a gateway with a different data folder may use a database in this one.

    The file stays: what counts is the lock, which ends with the process however that ends.
    """
    with ExitStack() as stack:
        make_folder(data)
        stack.enter_context(_hold(data / _NAME, data))
        make_folder(database.parent)
        file = database.resolve()
        stack.enter_context(_hold(file.with_name(f".{file.name}.running"), database))
        yield


@contextmanager
def _hold(path: Path, what: Path) -> Iterator[None]:
    descriptor = open_ours(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(f"{what} is in use by {_holder(descriptor)}: stop that one, or name another") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


def _holder(descriptor: int) -> str:
    pid, _, host = (
        os.pread(descriptor, _HOLDER_BYTES_MAX, 0).decode("utf-8", "replace").strip().partition(" ")
    )
    if not pid.isdecimal():
        return "another gateway"
    # In a container the number is that of its own process table.
    where = f" on {host}" if host and host != socket.gethostname() else ""
    return f"another gateway, process {pid}{where}"
