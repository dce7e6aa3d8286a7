"""Where the control socket stands, and how it is opened from both ends.

`control.sock` in the data folder, mode 0600. One that a killed gateway left behind is taken away by the next,
which holds the folder's lock. An address may have some hundred bytes (unix(7)), and a path more: then the
folder is opened, and the address goes by its descriptor.
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


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The address of the socket in this folder, good for as long as the block takes. Raises OSError."""
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
    _take_away(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before it has a name: Linux gives the file these rights, so that nobody else is ever let in.
        os.fchmod(listening.fileno(), 0o600)
        with _address(folder) as address:
            listening.bind(address)
        path.chmod(0o600)  # where the line above is not enough
        listening.listen(_BACKLOG)
        listening.setblocking(False)  # noqa: FBT003 - the standard library's own form
    except BaseException:
        listening.close()
        raise
    return listening


def _take_away(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(f"{path} is not a socket: move it away")
    path.unlink()


def take_away(folder: Path) -> None:
    """Remove the socket's file, for whoever opened it and still holds the folder's lock."""
    (folder / NAME).unlink(missing_ok=True)


def connect(folder: Path, seconds: float) -> socket.socket:
    """A connection to the gateway that works with this folder, which waits this long for anything.

    Raises OSError: FileNotFoundError or ConnectionRefusedError where no gateway runs.
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
