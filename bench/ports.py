"""Ports for servers that are about to start: nobody else on this machine is given the same one meanwhile."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from itertools import chain, repeat
from pathlib import Path

_LOWEST, _BEYOND = 10_000, 65_536
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on, ours until this process ends.

    A server binds it only some time after it was chosen. So it is none of those that the kernel hands to
    outgoing connections, and a lock on one byte of a file keeps it from other processes that choose here.
    """
    apart = _apart()
    first = random.randrange(len(apart) or 1)
    for wanted in chain(apart[first:], apart[:first], repeat(0, _BEYOND)):
        try:
            with socket.create_server(("127.0.0.1", wanted)) as probe:
                port = int(probe.getsockname()[1])
        except OSError:
            continue
        # A process may lock twice what it has locked itself.
        if port not in _given and _is_locked(port):
            _given.add(port)
            return port
    raise OSError("no port is free")


_given: set[int] = set()


@cache
def _apart() -> range:
    """Ports for no outgoing connection; none where these may have all of them, or the kernel does not say."""
    try:
        first, last = map(int, _EPHEMERAL.read_text().split())
    except (OSError, ValueError):
        return range(0)
    return max(range(_LOWEST, first), range(last + 1, _BEYOND), key=len)


def _is_locked(port: int) -> bool:
    try:
        fcntl.lockf(_held(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _held() -> int:
    path = Path(tempfile.gettempdir()) / f"ports-of-tests-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
