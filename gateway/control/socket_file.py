"""Where the control socket is, and how it is opened from both ends.

It is `control.sock` in the data folder, mode 0600. One that a killed gateway left is removed by the next,
which holds the folder's lock. The address of a socket may have some hundred bytes (unix(7)), and a path may
be longer: then the folder is opened, and the address is made of its descriptor.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "control.sock"
_ADDRESS_MAX = 103
"""Bytes: macOS has room for 104 with the NUL at the end, Linux for 108."""
_BACKLOG = 16
"""Connections that wait in the kernel until they are accepted."""


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The address of the socket in this folder, valid within the `with` block. Raises OSError."""
    path = folder / NAME
    if len(os.fsencode(path)) <= _ADDRESS_MAX:
        yield str(path)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


def listen(folder: Path) -> socket.socket:
    """Open the socket, for whoever holds the folder's lock. Raises OSError."""
    path = folder / NAME
    _remove_old(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before it has a name: Linux then gives its file these rights, so that nobody else ever gets in.
        os.fchmod(listening.fileno(), 0o600)
        with _address(folder) as address:
            listening.bind(address)
        path.chmod(0o600)  # for systems on which the line above does nothing
        listening.listen(_BACKLOG)
        listening.setblocking(False)  # noqa: FBT003 - the standard library's own form
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_old(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(f"{path} is not a socket: move it away")
    path.unlink()


def remove(folder: Path) -> None:
    """Remove the socket's file. The caller opened it, and still holds the folder's lock."""
    (folder / NAME).unlink(missing_ok=True)


def connect(folder: Path, seconds: float) -> socket.socket:
    """A connection to the gateway with this data folder; each call on it waits `seconds` at most.

    Raises OSError: FileNotFoundError or ConnectionRefusedError if no gateway runs.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        with _address(folder) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection
