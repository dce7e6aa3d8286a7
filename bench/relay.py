"""`python -m bench.relay PORT BUS-PORT CERTIFICATE KEY`: ends TLS and forwards, in Python and on uvloop.

What the gateway costs beside it is what the gateway does; what it costs beside HAProxy is what Python and
uvloop cost before anything is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One of the two connections. What comes goes to the other, which stops it while its buffer is full."""

    transport: asyncio.Transport
    other: Side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        with contextlib.suppress(AttributeError):  # the bus may not have answered yet
            self.other.transport.close()


class DeviceConnection(Side):
    """Reads nothing until the bus is there."""

    def __init__(self, bus_port: int, tasks: set[asyncio.Task[None]]) -> None:
        self._bus_port, self._tasks = bus_port, tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        self.other = Side()
        self.other.other = self
        await asyncio.get_running_loop().create_connection(lambda: self.other, "127.0.0.1", self._bus_port)
        if self.transport.is_closing():
            self.other.transport.close()
        else:
            self.transport.resume_reading()


async def _serve(port: int, bus_port: int, certificate: str, key: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # as the gateway's
    context.load_cert_chain(certificate, key)
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: DeviceConnection(bus_port, tasks), "127.0.0.1", port, ssl=context, backlog=1_024
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
