"""The load: MQTT 3.1.1 clients over TLS on uvloop, which encode once and count bytes.

It knows no server: only an address, a CA and accounts. To keep the generator cheaper than what it
measures, packets are encoded before the clock starts, written in large pieces where the load allows
it, and answers are not decoded but counted: a PUBACK has 4 bytes, a QoS 0 delivery has exactly the
length of the PUBLISH. What proves that nothing was lost on the way is the same count: each load ends
when the last byte expected has come.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from bench.packets import DISCONNECT, connect, publish, subscribe, unsubscribe

PUBACK_BYTES = 4
MARKER_ID = 0xFFFF  # the packet id of the QoS 1 message that ends a QoS 0 stream
PIECE = 65_536  # bytes given to the transport at once when pipelining


# -- one connection --------------------------------------------------------------------------------


class Refused(ConnectionError):
    """The server answered CONNECT or SUBSCRIBE with something else than yes."""


class Link(asyncio.Protocol):
    """One client connection: counts what comes, or hands it to `inbox`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.writable = asyncio.Event()
        self.writable.set()
        self.inbox: Callable[[bytes], None] = self._count
        self.seen = bytearray()  # the first bytes of what is being expected, for checks
        self._missing = 0
        self._waiter: asyncio.Future[None] | None = None
        self.lost: BaseException | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own classes do not inherit from it
        self.transport.set_write_buffer_limits(high=4 * PIECE)

    def data_received(self, data: bytes) -> None:
        self.inbox(data)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc or ConnectionResetError("the server closed the connection")
        self.writable.set()
        self.fail(self.lost)

    def fail(self, error: BaseException) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def write(self, data: bytes) -> None:
        if self.lost is not None:
            raise self.lost
        self.transport.write(data)

    def expect(self, count: int) -> asyncio.Future[None]:
        """Done when `count` more bytes have come; an error when the connection ends before."""
        self.inbox = self._count
        self.seen.clear()
        self._missing = count
        return self.wait()

    def wait(self) -> asyncio.Future[None]:
        self._waiter = asyncio.get_running_loop().create_future()
        if self.lost is not None:
            self.fail(self.lost)
        return self._waiter

    @property
    def surplus(self) -> int:
        """Bytes that came beyond those expected."""
        return -self._missing

    def done(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _count(self, data: bytes) -> None:
        if len(self.seen) < PIECE:
            self.seen += data
        self._missing -= len(data)
        if self._missing <= 0:
            self.done()

    async def ask(self, packet: bytes, answer: bytes) -> None:
        """Send and wait for exactly this answer."""
        arrived = self.expect(len(answer))
        self.write(packet)
        await arrived
        if self.seen != answer:
            raise Refused(f"the server answered {self.seen[:16].hex(' ')} instead of {answer.hex(' ')}")

    async def subscribe(self, topic_filter: str) -> None:
        await self.ask(subscribe(topic_filter), b"\x90\x03\x00\x01\x00")

    async def unsubscribe(self, topic_filter: str) -> None:
        await self.ask(unsubscribe(topic_filter), b"\xb0\x02\x00\x01")

    def close(self) -> None:
        if self.lost is None:
            self.transport.write(DISCONNECT)
            self.transport.close()


@dataclass(frozen=True)
class Target:
    """Where a server listens. `ca` is the file that verifies it; None is plain TCP."""

    port: int
    ca: str | None
    context: ssl.SSLContext | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        context = None
        if self.ca is not None:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        object.__setattr__(self, "context", context)


async def open_link(target: Target, client_id: str, username: str, password: str) -> Link:
    """A full handshake (no session is ever resumed), then CONNECT and CONNACK 0."""
    _, link = await asyncio.get_running_loop().create_connection(
        Link,
        "127.0.0.1",
        target.port,
        ssl=target.context,
        server_hostname="localhost" if target.context else None,
    )
    try:
        await link.ask(connect(client_id, username, password), b"\x20\x02\x00\x00")
    except ConnectionError:
        link.close()
        raise
    return link


# -- the loads: each returns when the server has answered for everything --------------------------


async def pipelined(links: Sequence[Link], topics: Sequence[str], payload: bytes, count: int) -> None:
    """`count` QoS 0 messages in all, as fast as TCP takes them, in pieces of 64 KiB."""

    async def stream(link: Link, topic: str, share: int) -> None:
        message = publish(topic, payload)
        together = max(1, PIECE // len(message))
        piece = message * together
        answered = link.expect(PUBACK_BYTES)
        for _ in range(share // together):
            await link.writable.wait()
            link.write(piece)
        link.write(message * (share % together) + publish(topic, payload, MARKER_ID))
        await answered

    share = max(1, count // len(links))
    await asyncio.gather(*(stream(link, topic, share) for link, topic in zip(links, topics, strict=True)))


async def windowed(
    links: Sequence[Link], topics: Sequence[str], payload: bytes, count: int, depth: int
) -> array[float]:
    """`count` QoS 1 messages, `depth` unacknowledged on each connection. Latencies in seconds."""
    rings = [[publish(topic, payload, number + 1) for number in range(depth)] for topic in topics]
    return await _in_windows(links, rings, PUBACK_BYTES, count)


async def called(
    links: Sequence[Link], requests: Sequence[bytes], answer_bytes: int, count: int, depth: int
) -> array[float]:
    """`count` times the request of each connection, `depth` unanswered. Latencies in seconds.

    All answers have the same length, which an error has not: then the load fails.
    """
    return await _in_windows(links, [[request] * depth for request in requests], answer_bytes, count)


async def _in_windows(
    links: Sequence[Link], rings: Sequence[Sequence[bytes]], answer_bytes: int, count: int
) -> array[float]:
    took = array("d")
    share = max(len(rings[0]), count // len(links))
    windows = [
        _Window(link, ring, answer_bytes, share, took) for link, ring in zip(links, rings, strict=True)
    ]
    await asyncio.gather(*(window.start() for window in windows))
    if not all(window.is_even for window in windows):
        raise Refused("the server answered with something else than expected")
    return took


class _Window:
    """Keeps the messages of a ring on their way. They go round, for a server answers in order."""

    def __init__(
        self, link: Link, ring: Sequence[bytes], answer_bytes: int, share: int, took: array[float]
    ) -> None:
        self._link, self._depth, self._took = link, len(ring), took
        self._answer_bytes = answer_bytes
        self._ring, self._size = b"".join((*ring, *ring)), len(ring[0])
        self._sent_at = [0.0] * len(ring)
        self._unsent, self._unanswered = share, share
        self._next, self._oldest, self._rest = 0, 0, 0

    @property
    def is_even(self) -> bool:
        """Whether no byte more has come than all answers have."""
        return not self._unanswered and not self._rest

    def start(self) -> asyncio.Future[None]:
        finished = self._link.wait()
        self._link.inbox = self._acknowledged
        self._send(self._depth, time.perf_counter())
        return finished

    def _send(self, count: int, now: float) -> None:
        count = min(count, self._unsent)
        if not count:
            return
        at, depth = self._next, self._depth
        for number in range(at, at + count):
            self._sent_at[number % depth] = now
        self._link.write(self._ring[at * self._size : (at + count) * self._size])
        self._next = (at + count) % depth
        self._unsent -= count

    def _acknowledged(self, data: bytes) -> None:
        count, self._rest = divmod(len(data) + self._rest, self._answer_bytes)
        now, depth = time.perf_counter(), self._depth
        for number in range(self._oldest, self._oldest + count):
            self._took.append(now - self._sent_at[number % depth])
        self._oldest = (self._oldest + count) % depth
        self._unanswered -= count
        if self._unanswered <= 0:
            self._link.done()
        else:
            self._send(count, now)


async def paced(
    links: Sequence[Link], topics: Sequence[str], payload: bytes, rate: int, seconds: float, qos: int
) -> array[float]:
    """`rate` messages a second in all, the connections by turns, whether answers come or not.

    Each message is written by itself, so it is a TLS record of its own.

    Latencies (seconds, QoS 1 only) count from the moment of writing.
    """
    ids = range(1, _Steady.RING + 1) if qos else (0,)
    took = array("d")
    steady = [
        _Steady(link, [publish(topic, payload, number) for number in ids], PUBACK_BYTES if qos else 0, took)
        for link, topic in zip(links, topics, strict=True)
    ]
    await _pace(steady, rate, seconds)
    if not qos:
        await _settle(links, topics, payload)
    return took


async def paced_calls(
    links: Sequence[Link], requests: Sequence[bytes], answer_bytes: int, rate: int, seconds: float
) -> array[float]:
    """`rate` requests a second in all, the connections by turns. Latencies in seconds."""
    took = array("d")
    steady = [
        _Steady(link, [request], answer_bytes, took) for link, request in zip(links, requests, strict=True)
    ]
    await _pace(steady, rate, seconds)
    return took


async def _pace(steady: Sequence[_Steady], rate: int, seconds: float) -> None:
    total, sent, start = int(rate * seconds), 0, time.perf_counter()
    while sent < total:
        due = min(total, int((time.perf_counter() - start) * rate))
        for number in range(sent, due):
            steady[number % len(steady)].send()
        sent = max(sent, due)
        await asyncio.sleep(0.001)
    await asyncio.gather(*(one.answered() for one in steady))


class _Steady:
    """One device of a paced load: up to RING unanswered QoS 1 messages are told apart."""

    RING = 1_000

    def __init__(self, link: Link, messages: Sequence[bytes], answer_bytes: int, took: array[float]) -> None:
        """Without `answer_bytes` nothing is answered."""
        self._link, self._messages, self._took = link, messages, took
        self._answer_bytes = answer_bytes
        self._sent_at: list[float] = []
        self._answers, self._rest = 0, 0
        if answer_bytes:
            link.inbox = self._answered

    def send(self) -> None:
        self._link.write(self._messages[len(self._sent_at) % len(self._messages)])
        self._sent_at.append(time.perf_counter())

    def _answered(self, data: bytes) -> None:
        count, self._rest = divmod(len(data) + self._rest, self._answer_bytes)
        now = time.perf_counter()
        self._took.extend(now - sent for sent in self._sent_at[self._answers : self._answers + count])
        self._answers += count
        if self._answers == len(self._sent_at):
            self._link.done()

    async def answered(self) -> None:
        if self._answer_bytes and self._answers < len(self._sent_at):
            await self._link.wait()


async def fan_out(
    publisher: Link, subscribers: Sequence[Link], topic: str, payload: bytes, count: int, ahead: int
) -> None:
    """`count` QoS 0 messages to all subscribers; at most `ahead` not yet delivered to everybody."""
    message = publish(topic, payload)
    every = len(message) * len(subscribers)
    delivered, sent = 0, 0
    finished = publisher.wait()

    def arrived(data: bytes) -> None:
        nonlocal delivered
        delivered += len(data)
        more()

    def more() -> None:
        nonlocal sent
        room = min(count, delivered // every + ahead) - sent
        if room > ahead // 2 or 0 < room == count - sent:
            sent += room
            publisher.write(message * room)
        if delivered >= count * every:
            publisher.done()

    for link in subscribers:
        link.inbox = arrived
    more()
    await finished


async def _settle(links: Sequence[Link], topics: Sequence[str], payload: bytes) -> None:
    """A QoS 1 message behind the stream of each connection: its PUBACK says that all before is done."""
    answers = [link.expect(PUBACK_BYTES) for link in links]
    for link, topic in zip(links, topics, strict=True):
        link.write(publish(topic, payload, MARKER_ID))
    await asyncio.gather(*answers)


async def open_many(
    target: Target, accounts: Sequence[tuple[str, str, str]], together: int, seconds: float
) -> list[Link]:
    """Connections for (client id, username, password), in that order, `together` at a time.

    After so many seconds no further one is begun: the list may be shorter than asked.
    """
    links: dict[int, Link] = {}
    todo = enumerate(accounts)
    until = time.perf_counter() + seconds

    async def work() -> None:
        for number, account in todo:
            links[number] = await open_link(target, *account)
            if time.perf_counter() > until:
                return

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(together):
                group.create_task(work())
    except* OSError as errors:
        for link in links.values():
            link.close()
        raise errors.exceptions[0] from None
    return [links[number] for number in sorted(links)]
