"""CVE-2026-57216 (RabbitMQ): "loopback only" was judged by what the listener is bound to, not by the peer.

The one thing that loopback has here is to be spoken to without TLS, and a name may be bound to anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace

import pytest

from gateway.http import server as http_server
from gateway.net import acceptor as acceptor_module
from gateway.net.device_port import DevicePort
from gateway.net.device_side import DeviceSide
from gateway.net.tasks import Tasks
from gateway.system.ip_address_blocks import Address, is_loopback, plain, shown

PEERS = {
    "127.0.0.1": True,
    "127.8.9.10": True,
    "::1": True,
    "::ffff:127.0.0.1": True,
    "192.0.2.7": False,
    "::ffff:192.0.2.7": False,
    "fe80::1%lo": False,
    "0.0.0.0": False,
    "localhost": False,
    "": False,
}


@pytest.mark.parametrize("peer", PEERS)
async def test_without_tls_devices_come_from_this_machine_alone(
    monkeypatch: pytest.MonkeyPatch, peer: str
) -> None:
    assert is_loopback(peer) == PEERS[peer]
    here, there = socket.socketpair()
    tasks = Tasks()
    registry = SimpleNamespace(tasks=tasks, loop_time=lambda: 0.0, context=SimpleNamespace())
    acceptor = DevicePort(registry, None).acceptor
    arrivals = [(here, (peer, 7))]

    class Bound:
        """Bound to everything."""

        def accept(self) -> tuple[socket.socket, tuple[str, int]]:
            if not arrivals:
                raise BlockingIOError
            return arrivals.pop()

    taken = []

    async def do_handshake(_: DevicePort, connection: socket.socket, link: DeviceSide) -> None:
        taken.append(link.address)
        connection.close()

    monkeypatch.setattr(DevicePort, "_do_handshake", do_handshake)
    bound = Bound()
    acceptor._sockets = [bound]
    acceptor._accept(bound)
    await asyncio.sleep(0)
    assert taken == ([shown(plain(peer), 7)] if PEERS[peer] else [])
    there.setblocking(False)
    assert there.recv(1) == b"", "it is left open"
    there.close()
    await tasks.stop()


@pytest.mark.parametrize("loopback_only", [False, True])
async def test_and_so_do_those_who_ask_the_api(monkeypatch: pytest.MonkeyPatch, loopback_only: bool) -> None:
    monkeypatch.setattr(acceptor_module, "is_loopback", lambda _: False)  # this machine is another one now

    async def application(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    tasks = Tasks()
    server = await http_server.serve(
        application,
        [Address("127.0.0.1", 0)],
        start=tasks.start,
        connections=5,
        connections_per_address=5,
        loopback_only=loopback_only,
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.acceptor.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200") == (not loopback_only)
    writer.close()
    await server.close()
    await tasks.stop()
