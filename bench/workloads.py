"""What is measured: one class per kind of row.

A row turns (server with open connections, seconds) into a Round: what one unit of work cost the
server. It neither starts servers nor knows how many rounds there are, nor who is compared with whom.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bench import accounts, load, resource_usage
from bench.packets import publish
from bench.peers import Gateway, Peer

PAYLOAD = bytes(range(256))
DEPTH = 20  # unacknowledged QoS 1 messages of each connection
MICRO = 1e6

T = TypeVar("T")


class NotMeasured(Exception):
    """This row means nothing for this server."""


@dataclass
class Round:
    """One round. `value` is in the row's unit, `bus` that of the Mosquitto behind the server."""

    value: float
    bus: float | None = None
    rate: float | None = None  # units a second
    p50: float | None = None  # seconds
    p99: float | None = None
    generator: float | None = None  # share of a core that the load generator used
    number: int = 0  # those of the same number are compared
    others: float = 0.0  # processors that neither we nor the servers kept busy


def _telemetry(devices: int) -> list[str]:
    """The topics of the first devices; all have the same length."""
    return [accounts.telemetry(name) for name in accounts.FLEET[:devices]]


class Session:
    """A running server and the connections that are kept open to it from row to row."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.target = peer, peer.target
        self.counts: dict[str, int] = {}  # row -> units that fill a second here
        self.unseen, self.newcomers = iter(accounts.FIRST), iter(accounts.IDLE)
        self.idle: list[load.Link] = []
        self.tokens: dict[str, str] = {}  # by account, where the server issues some
        self._fleet: list[load.Link] = []
        self._single: dict[str, load.Link] = {}

    async def fleet(self, size: int) -> list[load.Link]:
        """The first `size` of the hundred devices; all of them are connected."""
        if not self._fleet or any(link.lost for link in self._fleet):
            self.close()
            wanted = [(name, name, accounts.SECRET) for name in accounts.FLEET]
            self._fleet = await load.open_many(self.target, wanted, together=8, seconds=120)
        return self._fleet[:size]

    async def single(self, name: str, target: load.Target) -> load.Link:
        """A connection that is kept beside the fleet."""
        if name not in self._single or self._single[name].lost:
            self._single[name] = await load.open_link(target, name, name, accounts.SECRET)
        return self._single[name]

    async def heard(self, work: Awaitable[T], messages: int, payload: bytes = PAYLOAD) -> tuple[T, Cost]:
        """`metered`, and a listener on the bus has to hear so many telemetry messages."""
        listener = await self.single(accounts.LISTENER, self.peer.plain)
        await listener.subscribe(accounts.ALL_TELEMETRY)
        everything = listener.expect(messages * len(publish(_telemetry(1)[0], payload)))

        async def both() -> T:
            result = await work
            await everything
            return result

        outcome = await self.metered(both())
        await listener.unsubscribe(accounts.ALL_TELEMETRY)
        return outcome

    def close(self) -> None:
        for link in (*self._fleet, *self._single.values(), *self.idle):
            link.close()
        self._fleet, self._single, self.idle = [], {}, []

    async def metered(self, work: Awaitable[T]) -> tuple[T, Cost]:
        """What the processes used between the first byte sent and the last byte expected."""
        pids, bus = self.peer.pids(), [self.peer.bus.pid] if self.peer.bus else []
        before = (
            resource_usage.cpu_seconds(pids),
            resource_usage.cpu_seconds(bus),
            time.process_time(),
            time.perf_counter(),
        )
        result = await work
        after = (
            resource_usage.cpu_seconds(pids),
            resource_usage.cpu_seconds(bus),
            time.process_time(),
            time.perf_counter(),
        )
        return result, Cost(*(then - now for now, then in zip(before, after, strict=True)))

    def round(self, cost: Cost, units: int, took: Sequence[float] = ()) -> Round:
        return Round(
            value=cost.server / units * MICRO,
            bus=cost.bus / units * MICRO if self.peer.bus else None,
            rate=units / cost.wall,
            p50=resource_usage.percentile(took, 0.50) if took else None,
            p99=resource_usage.percentile(took, 0.99) if took else None,
            generator=cost.own / cost.wall,
        )


@dataclass(frozen=True)
class Cost:
    """Seconds of CPU and of the clock."""

    server: float
    bus: float
    own: float
    wall: float


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    key: str
    title: str
    budget: float | None = None  # what the design allows the gateway
    unit: str = "µs"
    latency: bool = field(default=False, kw_only=True)  # it has some
    rate: bool = field(default=True, kw_only=True)  # units a second say something
    adds_up: bool = field(default=False, kw_only=True)  # rounds are parts of a whole: their mean is shown
    by_name: bool = field(default=False, kw_only=True)  # takes minutes: only when it is asked for
    side_by_side: bool = field(default=False, kw_only=True)  # all servers at the same time

    async def measure(self, session: Session, seconds: float) -> Round:
        raise NotImplementedError

    async def prepare(self, session: Session, seconds: float) -> None:
        """Warm up, and learn how much work fills a round."""

    def finish(self, session: Session) -> None:
        """The last round of this row on these servers is over."""


@dataclass(frozen=True)
class Filled(Row):
    """As much work as fills the round: the amount is learnt from a shorter one."""

    async def once(self, session: Session, count: int) -> tuple[int, Cost, Sequence[float]]:
        raise NotImplementedError

    async def prepare(self, session: Session, seconds: float) -> None:
        count, limit = 500, seconds / 4
        while True:
            units, cost, _ = await self.once(session, count)
            session.counts[self.key] = max(500, int(units / cost.wall))
            if cost.wall >= limit / 4:
                return
            count = int(min(count * 20, count * limit / cost.wall + 1))

    async def measure(self, session: Session, seconds: float) -> Round:
        units, cost, took = await self.once(session, int(session.counts[self.key] * seconds))
        return session.round(cost, units, took)


@dataclass(frozen=True)
class Pipelined(Filled):
    """Devices publish QoS 0 as fast as TCP takes it; one listener on the bus hears all of it."""

    connections: int = 10
    size: int = len(PAYLOAD)

    async def once(self, session: Session, count: int) -> tuple[int, Cost, Sequence[float]]:
        links, topics = await session.fleet(self.connections), _telemetry(self.connections)
        each, payload = max(1, count // len(links)), (PAYLOAD * 16)[: self.size]
        work = load.pipelined(links, topics, payload, each * len(links))
        # And the marker of each stream.
        _, cost = await session.heard(work, (each + 1) * len(links), payload)
        return each * len(links), cost, ()


@dataclass(frozen=True)
class InFlight(Filled):
    """Devices publish QoS 1, a few unacknowledged; one listener hears all of it.

    Without it a broker that acknowledges first and delivers later would be paid for half its work.
    """

    connections: int = 10
    latency: bool = field(default=True, kw_only=True)

    async def once(self, session: Session, count: int) -> tuple[int, Cost, Sequence[float]]:
        links, topics = await session.fleet(self.connections), _telemetry(self.connections)
        each = max(DEPTH, count // len(links))
        work = load.windowed(links, topics, PAYLOAD, each * len(links), DEPTH)
        took, cost = await session.heard(work, each * len(links))
        return each * len(links), cost, took


@dataclass(frozen=True)
class Paced(Row):
    """Devices that speak now and then, each message by itself; one listener hears all of it."""

    connections: int = 100
    in_all: int = 5_000  # messages a second
    qos: int = 0
    rate: bool = field(default=False, kw_only=True)

    async def prepare(self, session: Session, seconds: float) -> None:
        await self.measure(session, seconds / 4)

    async def measure(self, session: Session, seconds: float) -> Round:
        links, topics = await session.fleet(self.connections), _telemetry(self.connections)
        units = int(self.in_all * seconds)
        work = load.paced(links, topics, PAYLOAD, self.in_all, seconds, self.qos)
        took, cost = await session.heard(work, units + (0 if self.qos else len(links)))
        return session.round(cost, units, took)


@dataclass(frozen=True)
class FanOut(Filled):
    """One publisher, a hundred TLS subscribers. The unit is a delivered message."""

    async def once(self, session: Session, count: int) -> tuple[int, Cost, Sequence[float]]:
        links = await session.fleet(len(accounts.FLEET))
        publisher = await session.single(accounts.PUBLISHER, session.target)
        messages = max(5, count // len(links))
        await asyncio.gather(*(link.subscribe(accounts.NEWS) for link in links))
        _, cost = await session.metered(
            load.fan_out(publisher, links, accounts.NEWS, PAYLOAD, messages, ahead=50)
        )
        await asyncio.gather(*(link.unsubscribe(accounts.NEWS) for link in links))
        return messages * len(links), cost, ()


@dataclass(frozen=True)
class Connecting(Row):
    """From TCP to CONNACK with a full handshake; closing is not counted."""

    first: bool = False
    most: int = 400

    async def wanted(self, session: Session, most: int) -> list[tuple[str, str, str]]:
        """Client ids, user names and passwords."""
        if self.first:
            return [
                (name, name, accounts.SECRET) for name, _ in zip(session.unseen, range(most), strict=False)
            ]
        return [(client, name, accounts.SECRET) for client, name in again(most)]

    async def prepare(self, session: Session, seconds: float) -> None:
        wanted = await self.wanted(session, len(accounts.AGAIN))
        for link in await load.open_many(session.target, wanted, together=4, seconds=seconds):
            link.close()

    async def measure(self, session: Session, seconds: float) -> Round:
        wanted = await self.wanted(session, self.most)
        links, cost = await session.metered(
            load.open_many(session.target, wanted, together=4, seconds=seconds)
        )
        for link in links:
            link.close()
        return session.round(cost, len(links))


def again(most: int) -> list[tuple[str, str]]:
    """Client ids and user names of the accounts that come again and again, by turns."""
    names = [accounts.AGAIN[number % len(accounts.AGAIN)] for number in range(most)]
    return [(f"{name}-{number}", name) for number, name in enumerate(names)]


@dataclass(frozen=True)
class Idle(Row):
    """Proportional set size for each further connection, the first hundred not counted.

    Each round adds some and keeps them, for memory that was freed is not a measure of what is needed.
    """

    unit: str = "KiB"
    each: int = 130  # a first login takes a server that hashes secrets a while
    rate: bool = field(default=False, kw_only=True)
    adds_up: bool = field(default=True, kw_only=True)

    async def prepare(self, session: Session, seconds: float) -> None:
        """All the fleet is connected before anything is counted."""
        del seconds
        await session.fleet(len(accounts.FLEET))

    async def measure(self, session: Session, seconds: float) -> Round:
        names = itertools.islice(session.newcomers, self.each if seconds >= 1 else self.each // 3)
        wanted = [(name, name, accounts.SECRET) for name in names]
        before = resource_usage.memory_kib(session.peer.pids())
        links = await load.open_many(session.target, wanted, together=8, seconds=60)
        session.idle += links
        await asyncio.sleep(1)  # let the server finish what a login leaves behind
        grown = resource_usage.memory_kib(session.peer.pids()) - before
        return Round(value=grown / len(links))

    def finish(self, session: Session) -> None:
        for link in session.idle:
            link.close()
        session.idle.clear()


@dataclass(frozen=True)
class Sealing(Filled):
    """What a sensitive topic costs in addition: the same load on both kinds of topic, and the difference.

    Nobody listens, so that the bus does the same for both.
    """

    size: int = 256
    rate: bool = field(default=False, kw_only=True)

    async def once(self, session: Session, count: int) -> tuple[int, Cost, Sequence[float]]:
        if not isinstance(session.peer, Gateway):
            raise NotMeasured
        links, payload = await session.fleet(10), (PAYLOAD * 16)[: self.size]
        each = max(1, count // len(links))
        costs = []
        for topic in (accounts.telemetry, accounts.private):
            topics = [topic(name) for name in accounts.FLEET[: len(links)]]
            _, cost = await session.metered(load.pipelined(links, topics, payload, each * len(links)))
            costs.append(cost)
        plain, sealed = costs
        more = Cost(sealed.server - plain.server, sealed.bus - plain.bus, sealed.own, sealed.wall)
        return each * len(links), more, ()
