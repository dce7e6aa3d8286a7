"""Names of other services are not looked up where uvloop looks up the bus: two that hang would be all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest
import uvloop

from gateway.alerts.channels.allowed_addresses import connected
from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.http_post import post
from gateway.http.outbound_probes import ask_page, ask_port
from gateway.system.ip_address_blocks import Address
from gateway.system.name_lookup import addresses_of

ASKED = {
    "a page": lambda: ask_page("http://hooks.invalid/"),
    "a port": lambda: ask_port(Address("hooks.invalid", 80)),
    "a webhook": lambda: post("http://hooks.invalid/", b"", {}, private=True),
    "mail": lambda: connected("hooks.invalid", 25, private=True),
}


@pytest.mark.parametrize("asked", ASKED)
def test_names_are_looked_up_in_threads_of_their_own(monkeypatch, asked: str) -> None:
    found: list[str] = []

    def getaddrinfo(_host, *_more, flags=0, **_words):
        if flags != socket.AI_NUMERICHOST:
            found.append(threading.current_thread().name)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")

    async def ask() -> None:
        with contextlib.suppress(OSError, NotDelivered):
            await ASKED[asked]()

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    uvloop.run(ask())
    assert [name.rpartition("_")[0] for name in found] == ["name-lookup"]


def test_lookups_that_hang_hold_no_connection_to_another_name_up(monkeypatch) -> None:
    hanging, go_on = threading.Semaphore(0), threading.Event()

    real = socket.getaddrinfo

    def getaddrinfo(host, *more, flags=0, **words):
        if flags == socket.AI_NUMERICHOST:
            return real(host, *more, flags=flags, **words)
        hanging.release()
        go_on.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        lookups = [asyncio.ensure_future(addresses_of(f"hang-{one}.invalid", 80)) for one in range(4)]
        for _ in lookups:
            await asyncio.to_thread(hanging.acquire)
        async with asyncio.timeout(5):
            transport, _ = await loop.create_connection(asyncio.Protocol, "localhost", port)
            (address,) = await addresses_of("127.0.0.1", port)  # nor one that is no name at all
        assert address[4] == ("127.0.0.1", port)
        transport.abort()
        go_on.set()
        await asyncio.gather(*lookups, return_exceptions=True)
        server.close()

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    uvloop.run(main())
