"""Re-seals under the active key what the bus retains on sensitive topics, while everybody goes on.

It works in rounds until one finds nothing new, for Mosquitto drops what a subscriber can't take at once. Each
round looks which topics there are, and re-seals those whose message is under an older key. It re-seals in
batches that are small enough for the bus to drop nothing: here not one message may be missed. What is
retained is replaced by publishing it again, and somebody else may do so at the same moment: the newer message
must win. A subscription shows in which order the bus took them: when another retained message came between
the one that was read and our own, ours has overwritten it, and it is put back.

All that is published here is marked, so that no gateway delivers it to those subscribed already, who heard it
before; whoever subscribes later gets it. The mark's name on the wire is older than the word re-seal: see
`gateway.keys.payload_envelope.Envelope.rewrapped`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.bus_client.connection import BusConnection, BusError, Handler
from gateway.bus_client.packet_reader import Delivery
from gateway.keys.key_ring import KeyRing
from gateway.keys.payload_envelope import Envelope, OpenFailed, read_envelope, reseal
from gateway.mqtt.errors import PacketTooLarge
from gateway.mqtt.packets import Subscription, Version
from gateway.mqtt.properties import Property, PropertyId

_AS_PUBLISHED = 0x08
"""Retain As Published, and QoS 0, for which Mosquitto has one queue: what it took first is heard first."""
_BATCH = 200
"""Topics at a time: far below what Mosquitto queues for a subscriber before it drops (1,000)."""
_AT_ONCE = 20
"""Topics of a batch that are re-sealed side by side."""
_ROUNDS_MAX = 12
"""Two do, if the bus shows all at once and nobody interferes: the second finds nothing new. The others are
for what it dropped. There is a bound because a bus may drop something each time, or somebody may go on
publishing under an older key."""
_PATIENCE = 10.0
"""Seconds that the bus may be silent while something of it is awaited."""
_LOST = "longer than any message may be, and overwritten here by the older one: publish it again"
_NOT_KEPT = frozenset({PropertyId.SUBSCRIPTION_IDENTIFIER, PropertyId.TOPIC_ALIAS})

Opener = Callable[[Handler], Awaitable[BusConnection]]
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Outcome:
    """What became of the retained messages on sensitive topics."""

    resealed: int = 0
    current: int = 0
    """Were under the active key already."""
    changed: int = 0
    """Were replaced by somebody else meanwhile; the newer message stands."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Reason, by topic, for messages nobody can open, or too long to be re-sealed or put back."""
    left: int = 0
    """Are still under an older key: somebody published such a message after ours, in the last round."""
    complete: bool = False
    """Whether the bus has shown all that it retains."""


class _Result(Enum):
    """What became of one topic."""

    RESEALED = auto()
    CURRENT = auto()
    CHANGED = auto()
    CLEARED = auto()
    LEFT = auto()


_DONE_HERE = frozenset({_Result.RESEALED, _Result.CHANGED})


async def reseal_retained(
    open_connection: Opener,
    ring: KeyRing,
    filters: Sequence[str],
    *,
    end_topic: str,
    progress: Progress = lambda _done, _total: None,
) -> Outcome:
    """Re-seal what is retained on the topics of `filters`. Raises BusError, KeysUnavailable.

    `end_topic` is one that nobody else uses: our own message there shows that all before it was sent.
    `progress` hears how many of how many are done.
    """
    work = _Resealing(open_connection, ring, end_topic, progress)
    complete = not filters
    for _ in range(0 if complete else _ROUNDS_MAX):
        if complete := await work.round(filters):
            break
    return work.outcome(complete=complete)


class _Resealing:
    def __init__(self, open_connection: Opener, ring: KeyRing, end_topic: str, progress: Progress) -> None:
        self._open = open_connection
        self._ring = ring
        self._end_topic = end_topic
        self._progress = progress
        self._results: dict[str, _Result | str] = {}
        """By topic what became of it, or the reason why nobody can open its message."""
        self._given_up: dict[str, int] = {}
        """By topic the hash of the message that was given up: it is not tried again, another one is."""

    async def round(self, filters: Sequence[str]) -> bool:
        """Look once, and re-seal what is found. Returns True when this round found nothing new."""
        seen_before = set(self._results)
        found: dict[str, bool] = {}

        def note(delivery: Delivery) -> None:
            found[delivery.topic] = self._is_older(delivery)

        whole = True
        async with self._listening(note) as ear:
            try:
                await ear.hear_all(filters)
            except BusError:
                # Some versions of Mosquitto send nothing more to a subscriber they dropped a message for.
                if not found:
                    raise
                whole = False
        # Cleared, or dropped by the bus just now? Asked for one by one, it sends what there is.
        missed = [
            topic for topic in seen_before - found.keys() if self._results[topic] is not _Result.CLEARED
        ]
        dropped = await self._treat(missed, show_progress=False)
        older = [topic for topic, is_older in found.items() if is_older]
        await self._treat(older, show_progress=True)
        return whole and not dropped and not older and found.keys() <= seen_before

    def _is_older(self, delivery: Delivery) -> bool:
        """Whether there is something to re-seal; if not, what became of the topic is noted."""
        topic = delivery.topic
        try:
            envelope = _envelope(topic, delivery)
        except OpenFailed as failed:
            self._results[topic] = str(failed)
            return False
        before = self._results.get(topic)
        if envelope is None:
            self._results[topic] = _Result.CLEARED
        elif envelope.key_id != self._ring.active_id:
            return not isinstance(before, str) or self._given_up.get(topic) != hash(delivery.payload)
        elif before in {None, _Result.CLEARED} or (
            isinstance(before, str) and self._given_up.get(topic) != hash(delivery.payload)
        ):
            self._results[topic] = _Result.CURRENT
        return False

    async def _treat(self, topics: Sequence[str], *, show_progress: bool) -> int:
        """Re-seal what is under an older key on these; the answer is how many of them hold a message."""
        present = 0
        for start in range(0, len(topics), _BATCH):
            batch = _Batch(self._ring, topics[start : start + _BATCH])
            async with self._listening(batch.take) as ear:
                await ear.hear_all(batch.slots)
                present += batch.present
                await batch.reseal(ear.connection)
            for topic, result in batch.results().items():
                # `CURRENT` does not replace an earlier `RESEALED` or `CHANGED`.
                if result is not _Result.CURRENT or self._results.get(topic) not in _DONE_HERE:
                    self._results[topic] = result
                    self._given_up[topic] = batch.slots[topic].given_up
            if show_progress:
                self._progress(min(start + _BATCH, len(topics)), len(topics))
        return present

    @contextlib.asynccontextmanager
    async def _listening(self, note: Callable[[Delivery], None]) -> AsyncIterator[_Ear]:
        ear = _Ear(self._end_topic, note)
        ear.connection = await self._open(ear.take)
        try:
            if ear.connection.version is not Version.V5:
                raise BusError("it speaks MQTT 3.1.1 only, which does not tell retained messages from others")
            yield ear
        finally:
            ear.connection.close()

    def outcome(self, *, complete: bool) -> Outcome:
        """What became of all topics."""
        results = Counter(self._results.values())
        return Outcome(
            resealed=results[_Result.RESEALED],
            current=results[_Result.CURRENT],
            changed=results[_Result.CHANGED],
            unreadable={topic: why for topic, why in self._results.items() if isinstance(why, str)},
            left=results[_Result.LEFT],
            complete=complete,
        )


class _Ear:
    """Hears the retained messages of some filters, in the bus's order."""

    connection: BusConnection

    def __init__(self, end_topic: str, note: Callable[[Delivery], None]) -> None:
        self._end_topic = end_topic
        self._note = note
        self._end_seen = asyncio.Event()
        self._heard = 0

    def take(self, _: BusConnection, delivery: Delivery) -> None:
        """A message from the bus."""
        self._heard += 1
        if delivery.topic == self._end_topic:
            self._end_seen.set()
        elif delivery.retain:
            self._note(delivery)

    async def hear_all(self, filters: Iterable[str]) -> None:
        """Wait for what the bus retains: all of it has come when our own message does, which is sent last."""
        wanted = [Subscription(one.encode(), _AS_PUBLISHED) for one in filters]
        await self.connection.subscribe([*wanted, Subscription(self._end_topic.encode(), 0)])
        await self.connection.publish(self._end_topic, b"", retain=False)
        heard = -1
        while heard < self._heard:
            heard = self._heard
            if await _within(_PATIENCE, self._end_seen):
                return
        raise BusError("it does not send what it retains")


class _Slot:
    """One topic, by what the bus has sent of it."""

    __slots__ = ("changed", "echoed", "fault", "foreign", "given_up", "latest", "sent")

    def __init__(self) -> None:
        self.latest: Delivery | None = None
        """What is retained: the last retained message of this topic, whoever published it."""
        self.fault = ""
        """Why nobody can open it, or what went wrong."""
        self.given_up = 0
        """The hash of the message that stood then."""
        self.sent: bytes | None = None
        """What we have published here last."""
        self.echoed: asyncio.Event | None = None
        """Set once the bus showed it; None before the first publish."""
        self.foreign: Delivery | None = None
        """Somebody else's message that the bus showed before ours."""
        self.changed = False
        """Whether such a message was put back."""

    def note(self, delivery: Delivery) -> None:
        """The next retained message of this topic."""
        if self.echoed is None or self.echoed.is_set():
            self.latest = delivery
        elif delivery.payload == self.sent:
            self.latest = delivery
            self.echoed.set()
        else:
            self.foreign = delivery


class _Batch:
    """Topics subscribed together, few enough that Mosquitto drops none."""

    def __init__(self, ring: KeyRing, topics: Iterable[str]) -> None:
        self._ring = ring
        self.slots = {topic: _Slot() for topic in topics}

    def take(self, delivery: Delivery) -> None:
        """A retained message."""
        if slot := self.slots.get(delivery.topic):
            slot.note(delivery)

    @property
    def present(self) -> int:
        """On how many of the topics there is a message."""
        return sum(slot.latest is not None and bool(slot.latest.payload) for slot in self.slots.values())

    def _older(self, topic: str, slot: _Slot) -> Envelope | None:
        """What is to be re-sealed on this topic; None for nothing."""
        if slot.latest is None or slot.fault:
            return None
        try:
            envelope = _envelope(topic, slot.latest)
        except OpenFailed as failed:
            slot.fault, slot.given_up = str(failed), hash(slot.latest.payload)
            return None
        return None if envelope is None or envelope.key_id == self._ring.active_id else envelope

    async def reseal(self, connection: BusConnection) -> None:
        """Re-seal what is under an older key, some at a time."""
        waiting = iter(self.slots.items())

        async def work() -> None:
            for topic, slot in waiting:
                await self._reseal(connection, topic, slot)

        for outcome in await asyncio.gather(*(work() for _ in range(_AT_ONCE)), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _reseal(self, connection: BusConnection, topic: str, slot: _Slot) -> None:
        envelope = self._older(topic, slot)
        if envelope is None or slot.latest is None:
            return
        slot.given_up = hash(slot.latest.payload)
        try:
            payload, properties = reseal(self._ring, envelope), slot.latest.properties
            foreign = await self._replace(connection, topic, slot, payload, properties)
        except OpenFailed as failed:
            slot.fault = str(failed)
            return
        except PacketTooLarge:
            slot.fault = "longer than the bus takes, once it is marked as re-sealed"
            return
        while foreign is not None:
            if not foreign.whole:
                # Of its payload nothing is held, and an empty one would clear the topic.
                slot.fault, slot.given_up = _LOST, hash(payload)
                return
            slot.changed, overwritten = True, foreign
            payload = _with_rewrapped_mark(overwritten.payload)
            try:
                foreign = await self._replace(connection, topic, slot, payload, overwritten.properties)
            except PacketTooLarge:
                if slot.foreign is not None:
                    return  # came after ours, and stands
                # The mark made it so. Heard twice is better than overwritten by ours.
                payload = overwritten.payload
                foreign = await self._replace(connection, topic, slot, payload, overwritten.properties)

    async def _replace(
        self,
        connection: BusConnection,
        topic: str,
        slot: _Slot,
        payload: bytes,
        properties: Sequence[Property],
    ) -> Delivery | None:
        """Publish a retained message; the answer is what it has overwritten and should not have."""
        slot.sent, slot.foreign = payload, None
        slot.echoed = asyncio.Event()
        kept = [one for one in properties if one.identifier not in _NOT_KEPT]
        await connection.publish(topic, payload, retain=True, properties=kept)
        if not await _within(_PATIENCE, slot.echoed):
            raise BusError("it does not tell what it was sent")
        return slot.foreign

    def results(self) -> dict[str, _Result | str]:
        """What became of each of the topics, or why nobody can open its message."""
        return {topic: self._result_of(topic, slot) for topic, slot in self.slots.items()}

    def _result_of(self, topic: str, slot: _Slot) -> _Result | str:
        older = self._older(topic, slot)
        if slot.fault:
            return slot.fault
        if slot.changed:
            return _Result.CHANGED
        if slot.latest is None or not slot.latest.payload:
            return _Result.CLEARED
        if older is not None:
            return _Result.LEFT
        return _Result.RESEALED if slot.latest.payload == slot.sent else _Result.CURRENT


def _envelope(topic: str, delivery: Delivery) -> Envelope | None:
    """The envelope that is retained there; None when the topic was cleared. Raises OpenFailed."""
    if not delivery.whole:
        raise OpenFailed("longer than any message may be")
    return read_envelope(delivery.payload, topic=topic) if delivery.payload else None


def _with_rewrapped_mark(payload: bytes) -> bytes:
    """A message to be put back: as it was, but marked so that nobody hears it again."""
    try:
        is_marked = read_envelope(payload).rewrapped
    except OpenFailed:
        return payload
    return payload if is_marked else payload.rstrip()[:-1] + b',"rewrapped":true}'


async def _within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
