"""Strangers that all begin their TLS handshake at once: what is done of it in a turn of the loop has a bound.

The kind: work and memory before anybody is known (promise 7). A thousand ClientHellos at once held everybody
up for half a second, and their handshakes took 230 MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest
import uvloop
from harness.background_tasks import until
from harness.in_process import House, settle, started
from harness.mosquitto import Mosquitto

from gateway.config import Settings
from gateway.net import handshakes
from gateway.net.bounded_tls import BoundedSSLObject

PEERS = 300
UNDER_WAY, IN_A_TURN = 128, 8


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    bus = Mosquitto(tmp_path_factory.mktemp("bus")).start()
    yield settle(tmp_path_factory.mktemp("gateway"), bus)
    bus.kill()


def client_hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    begun = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        begun.do_handshake()
    return outgoing.read()


class Steps:
    """Counts the steps of handshakes, and those of one turn of the loop."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.peers: set[int] = set()
        self.now = self.most = 0
        step = BoundedSSLObject.do_handshake

        def counted(connection: BoundedSSLObject) -> None:
            if connection._incoming.pending:
                self.peers.add(id(connection))
                self.now += 1
            step(connection)

        patch.setattr(BoundedSSLObject, "do_handshake", counted)

    async def watch(self) -> None:
        while True:
            self.most, self.now = max(self.most, self.now), 0
            await asyncio.sleep(0)


def connect(house: House, number: int) -> socket.socket:
    source = (f"127.0.{100 + number % 20}.1", 0)
    return socket.create_connection(("127.0.0.1", house.port), 10, source_address=source)


def test_a_burst_of_client_hellos(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    monkeypatch.setattr(handshakes, "_PATIENCE", 3_600.0)

    async def scenario() -> None:
        async with started(settings, monkeypatch) as house, contextlib.AsyncExitStack() as open_:
            port = house.gateway.devices
            assert port is not None
            waiting = port.acceptor.handshakes._before
            hello = client_hello(house.tls)
            peers = [await asyncio.to_thread(connect, house, number) for number in range(PEERS)]
            for peer in peers:
                open_.callback(peer.close)
            await until(lambda: len(waiting) == PEERS)
            watching = asyncio.ensure_future(steps.watch())
            for peer in peers:  # in one turn of the loop
                peer.sendall(hello)
            await until(lambda: len(steps.peers) >= UNDER_WAY)
            assert len(steps.peers) == UNDER_WAY
            assert steps.most <= IN_A_TURN
            one = await asyncio.to_thread(house.join, "good")  # from an address of its own
            one.close()
            watching.cancel()

    uvloop.run(scenario())
