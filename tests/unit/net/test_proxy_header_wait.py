"""Whose header is demanded, and that exactly the header is read: real sockets, a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from gateway.http import server as http_server
from gateway.net import proxy_header_wait
from gateway.net.device_port import DevicePort
from gateway.net.proxy_header_wait import ProxiedPeers
from gateway.net.tasks import Tasks
from gateway.system.ip_address_blocks import Address

PROXY = Address("10.0.0.2", 40_000)
LINE = b"PROXY TCP4 192.0.2.7 10.0.0.2 51234 8883\r\n"
SOURCE = Address("192.0.2.7", 51234)
PROXIES = [ipaddress.ip_network("10.0.0.0/30"), ipaddress.ip_network("2001:db8::/64")]


class Port:
    """Proxies that connect, and whom they bring."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[tuple[Address, float, bytes]] = []
        self.ours: list[socket.socket] = []
        self.theirs: list[socket.socket] = []
        self.proxied = ProxiedPeers(PROXIES, now=lambda: self.now, patience=10.0)

    def come(self, address: Address = PROXY) -> socket.socket:
        here, there = socket.socketpair()
        here.setblocking(False)
        self.ours.append(here)
        self.theirs.append(there)
        self.proxied.add(here, address, self._start_peer)
        return there

    def _start_peer(self, peer: socket.socket, address: Address, since: float) -> None:
        left = b""
        with contextlib.suppress(BlockingIOError):
            left = peer.recv(100)
        self.told.append((address, since, left))


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[Port]:
    monkeypatch.setattr(proxy_header_wait, "_WAITING_MAX", 3)
    made = Port()
    yield made
    for one in (*made.ours, *made.theirs):
        one.close()


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("host", "demanded"),
    [
        ("10.0.0.2", True),
        ("10.0.0.4", False),
        ("::ffff:10.0.0.2", True),
        ("2001:db8::1", True),
        ("2001:db8:1::1", False),
        ("fe80::1%eth0", False),
        ("", False),
    ],
)
async def test_of_whom_a_header_is_demanded(port, host, demanded):
    assert port.proxied.demands_of(host) == demanded


async def test_what_follows_the_header_in_the_same_segment_is_left_for_tls(port):
    port.come().sendall(LINE + b"client hello")
    await turns()
    assert port.told == [(SOURCE, 100.0, b"client hello")]


async def test_a_header_may_come_byte_by_byte_and_nobody_is_asked_in_vain(port, monkeypatch):
    asked = []
    true = ProxiedPeers._readable
    monkeypatch.setattr(ProxiedPeers, "_readable", lambda self, peer: (asked.append(1), true(self, peer))[1])
    there = port.come()
    for byte in LINE:
        port.now += 0.1
        there.sendall(bytes([byte]))
        await turns(3)
    assert port.told == [(SOURCE, 100.0, b"")]
    assert len(asked) == len(LINE)


async def test_a_proxy_that_speaks_for_itself_keeps_its_address(port):
    port.come().sendall(b"PROXY UNKNOWN\r\n")
    await turns()
    assert port.told == [(PROXY, 100.0, b"")]


@pytest.mark.parametrize("said", [b"\x16\x03\x01\x02\x00", b"PROXY TCP4 nonsense\r\n"])
async def test_without_a_good_header_it_is_closed(port, said):
    there = port.come()
    there.sendall(said)
    await turns()
    assert port.told == []
    assert len(port.proxied) == 0
    assert port.ours[0].fileno() == -1


async def test_one_that_leaves_is_forgotten(port):
    port.come().close()
    await turns()
    assert len(port.proxied) == 0


async def test_the_header_has_until_the_deadline(port):
    there = port.come()
    there.sendall(LINE[:-1])
    await turns()
    port.now += 10.0
    port.proxied.look()
    assert len(port.proxied) == 1
    port.now += 0.1
    port.proxied.look()
    assert len(port.proxied) == 0
    assert there.recv(1) == b""


async def test_of_too_many_the_oldest_goes(port):
    first = port.come()
    others = [port.come() for _ in range(3)]
    assert first.recv(1) == b""
    for other in others:
        other.sendall(LINE)
    await turns()
    assert len(port.told) == 3


async def test_the_end_leaves_no_socket_open(port):
    for _ in range(3):
        port.come()
    port.proxied.stop()
    assert [one.fileno() for one in port.ours] == [-1] * 3


@pytest.mark.parametrize(
    ("peer", "line", "taken"),
    [
        ("127.0.0.1", LINE, ["192.0.2.7:51234"]),
        ("192.0.2.9", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", []),
    ],
)
async def test_what_is_for_this_machine_alone_is_judged_by_the_tcp_peer(monkeypatch, peer, line, taken):
    here, there = socket.socketpair()
    tasks = Tasks()
    plane = SimpleNamespace(tasks=tasks, loop_time=lambda: 0.0, context=SimpleNamespace())
    proxies = [ipaddress.ip_network(peer)]
    acceptor = DevicePort(plane, None, proxies).acceptor
    met = []

    async def do_handshake(_: DevicePort, connection: socket.socket, link: object) -> None:
        met.append(link.address)
        connection.close()

    monkeypatch.setattr(DevicePort, "_do_handshake", do_handshake)
    with contextlib.suppress(OSError):
        there.sendall(line)
    acceptor._take_in(here, Address(peer, 7))
    await turns()
    assert met == taken
    acceptor.close()
    there.close()
    await tasks.stop()


async def test_a_request_comes_from_whom_the_header_names(monkeypatch):
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["client"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    tasks = Tasks()
    server = await http_server.serve(
        application,
        [Address("127.0.0.1", 0)],
        start=tasks.start,
        connections=5,
        connections_per_address=5,
        proxies=[ipaddress.ip_network("127.0.0.1")],
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.acceptor.port)
    writer.write(LINE + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    assert seen == [("192.0.2.7", 51234)]
    writer.close()
    await server.close()
    await tasks.stop()
