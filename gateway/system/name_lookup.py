"""Looks up the addresses of names, for all but the bus: in threads of its own.

uvloop looks names up in the threads of libuv, two at a time, and so does each connection to the bus if
MQTT_BROKER is a name: two lookups that hang, because a name server is gone, would hold up every device. So
what no device waits for is looked up here, and not in the threads by which store and files are followed.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""As `getaddrinfo` answers."""

_threads = ThreadPoolExecutor(4, "name-lookup")


async def addresses_of(host: str, port: int) -> list[AddressInfo]:
    """The addresses of this host, for TCP. Raises OSError. A name that hangs takes one of four threads."""
    with suppress(OSError):  # an address is known at once: it must not wait behind names that hang
        return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)]
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    return [*await asyncio.get_running_loop().run_in_executor(_threads, look_up)]
