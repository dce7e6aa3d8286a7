"""Who may begin a TLS handshake, and when: real sockets, handshakes that end when the test says so.

The kind: what strangers can make the gateway do in one turn of the event loop, or hold at once, has a bound,
and whoever reaches it is of the largest crowd.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from gateway.net import handshakes
from gateway.net.acceptor import Acceptor
from gateway.net.handshakes import Handshakes, PendingHandshake
from gateway.system.ip_address_blocks import place_of

TURNS = 60
"""More turns of the event loop than any of this takes."""


@dataclass
class Port:
    """Handshakes, with a clock of their own."""

    now: float = 0.0
    begun: list[PendingHandshake] = field(default_factory=list)
    cancelled: list[PendingHandshake] = field(default_factory=list)
    peers: list[socket.socket] = field(default_factory=list)
    ends: dict[PendingHandshake, asyncio.Event] = field(default_factory=dict)

    why: dict[PendingHandshake, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.handshakes = Handshakes(lambda: self.now)

    def begin(self, pending: PendingHandshake) -> asyncio.Task[None]:
        self.begun.append(pending)
        self.ends[pending] = asyncio.Event()

        async def do_handshake() -> None:
            try:
                await self.ends[pending].wait()
            except asyncio.CancelledError:
                self.cancelled.append(pending)
                raise
            finally:
                pending.peer.close()

        return asyncio.ensure_future(do_handshake())

    def come(self, host: str, *, says: bytes = b"hello") -> PendingHandshake:
        here, there = socket.socketpair()
        here.setblocking(False)
        self.peers.append(there)
        pending = PendingHandshake(
            here,
            place_of(host),
            self.now + 10.0,
            begin=lambda: self.begin(pending),
            turn_away=lambda why: self.why.update({pending: why}),
        )
        self.handshakes.add(pending)
        there.sendall(says)
        return pending

    def hosts(self) -> list[str]:
        return [one.place for one in self.begun]


async def turns(count: int = TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    for peer in made.peers:
        peer.close()


@contextlib.asynccontextmanager
async def stopping(port: Port):
    try:
        yield
    finally:
        port.handshakes.stop()
        await turns(5)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "_UNDER_WAY_MAX", 6)
    monkeypatch.setattr(handshakes, "_BEFORE_MAX", 12)
    monkeypatch.setattr(handshakes, "_BEGUN_AT_ONCE", 2)


async def test_whoever_says_nothing_begins_nothing(port):
    async with stopping(port):
        silent = port.come("10.0.1.1", says=b"")
        await turns()
        assert port.begun == []
        port.peers[0].sendall(b"h")
        await turns()
        assert port.begun == [silent]


async def test_in_one_turn_of_the_loop_no_more_than_a_few_begin(port):
    async with stopping(port):
        for number in range(6):
            port.come(f"10.0.{number}.1")
        most = before = 0
        for _ in range(TURNS):
            await asyncio.sleep(0)
            most, before = max(most, len(port.begun) - before), len(port.begun)
        assert most == 2
        assert len(port.begun) == 6


async def test_no_more_are_under_way_than_there_is_room_for_and_the_others_wait(port):
    async with stopping(port):
        for _ in range(8):
            port.come("10.0.1.1")
        await turns()
        assert len(port.begun) == 6
        for pending in port.begun[:2]:
            port.ends[pending].set()
        await turns()
        assert len(port.begun) == 8
        assert port.cancelled == []


async def test_one_that_comes_alone_takes_the_place_of_the_oldest_of_a_crowd(port):
    async with stopping(port):
        crowd = [port.come("10.0.1.1") for _ in range(9)]
        await turns()
        alone = port.come("10.0.2.1")
        await turns()
        assert port.begun[-1] is alone
        assert port.cancelled == [crowd[0]]


async def test_honest_crowds_of_the_same_size_wait_for_one_another(port):
    async with stopping(port):
        for host in ("10.0.1.1", "10.0.2.1", "10.0.3.1") * 3:
            port.come(host)
        await turns()
        assert port.hosts() == ["10.0.1.1", "10.0.2.1", "10.0.3.1"] * 2
        assert port.cancelled == []


async def test_places_take_turns_however_long_their_lines_are(port):
    async with stopping(port):
        for host in ["10.0.1.1"] * 8 + ["10.0.2.1"] * 2:
            port.come(host)
        await turns()
        assert port.hosts()[:4] == ["10.0.1.1", "10.0.2.1"] * 2


async def test_addresses_of_one_owner_are_one_place(port):
    async with stopping(port):
        for number in range(8):
            port.come(f"2001:db8::{number}")
        await turns()
        alone = port.come("2001:db8:1::1")
        await turns()
        assert port.begun[-1] is alone


async def test_one_that_does_not_go_on_makes_room_after_a_while_for_its_own_place_too(port):
    async with stopping(port):
        crowd = [port.come("10.0.1.1") for _ in range(7)]
        await turns()
        port.handshakes.look()
        await turns()
        assert len(port.begun) == 6
        port.now = 2.5
        port.handshakes.look()
        await turns()
        assert port.cancelled == [crowd[0]]
        assert port.begun[-1] is crowd[6]


async def test_whoever_says_nothing_until_the_deadline_is_turned_away(port):
    async with stopping(port):
        silent = port.come("10.0.1.1", says=b"")
        await turns()
        port.now = 9.0
        port.handshakes.look()
        assert silent.peer.fileno() >= 0
        port.now = 10.5
        port.handshakes.look()
        assert port.why.get(silent, "") == "TLS: no handshake within the deadline"
        assert silent.peer.fileno() < 0


async def test_of_too_many_that_say_nothing_the_oldest_of_the_largest_crowd_goes(port):
    async with stopping(port):
        honest = port.come("10.0.2.1", says=b"")
        crowd = [port.come("10.0.1.1", says=b"") for _ in range(12)]
        assert port.why.get(crowd[0], "") == "others wait, and it has not begun"
        assert port.why.get(honest, "") == ""
        port.peers[0].sendall(b"h")
        await turns()
        assert port.begun == [honest]


async def test_one_that_waits_for_its_turn_and_has_to_go_begins_nothing(port):
    async with stopping(port):
        crowd = [port.come("10.0.1.1") for _ in range(8)]
        await turns()
        port.now = 10.5
        port.handshakes.look()  # two are past the deadline, and were never begun
        await turns()
        assert [port.why.get(one, "") for one in crowd[6:]] == ["TLS: no handshake within the deadline"] * 2
        assert len(port.begun) == 6


async def test_the_end_leaves_no_socket_open(port):
    arrived = [port.come(f"10.0.{number % 3}.1", says=b"h" * (number % 2)) for number in range(11)]
    await turns(3)
    port.handshakes.stop()
    await turns()
    assert [one.peer.fileno() for one in arrived] == [-1] * 11


async def test_what_is_to_come_before_a_peer_comes_before_its_handshake():
    order = []

    def protocol():
        order.append("handshake")
        return asyncio.Protocol()

    acceptor = Acceptor(
        lambda *_: None, None, backlog=1, loopback_only=True, now=asyncio.get_running_loop().time, patience=1
    )
    acceptor.before_peer = (lambda: order.append("look"), lambda: order.append("lag"))
    peer, client = socket.socketpair()
    peer.setblocking(False)
    with client:
        await acceptor.do_handshake(peer, protocol, 1)
        assert order == ["look", "lag", "handshake"]
