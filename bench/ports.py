"""Ports for servers that are about to start: nobody else on this machine is given the same one meanwhile."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

_LOWEST = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, ours until this process ends.

    A server binds it only some time after it was chosen. So it is none of those that the kernel hands to
    outgoing connections, and a lock on one byte of a file keeps it from other processes that choose here.
    """
    held, first = _held(), random.randrange(_LOWEST, _highest())
    for port in [*range(first, _highest()), *range(_LOWEST, first)]:
        if port in _given:
            continue
        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            fcntl.lockf(held, fcntl.LOCK_UN, 1, port)
            continue
        _given.add(port)
        return port
    raise OSError("no port is free")


_given: set[int] = set()  # a process may lock twice what it has locked itself


@cache
def _held() -> int:
    path = Path(tempfile.gettempdir()) / f"ports-of-tests-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


@cache
def _highest() -> int:
    return int(_EPHEMERAL.read_text().split()[0])
