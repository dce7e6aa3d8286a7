"""Re-seals under the active key what the bus retains on sensitive topics, while everybody goes on.

What is retained is replaced by publishing it again, and somebody else may do so at the same moment: the
newer message must win. A subscription shows in which order the bus took them (Retain As Published tells
the retained ones): when another message came between the one that was read and our own, ours has
overwritten it, and it is put back. All that is published here is marked, so that no gateway delivers to its
subscribers, live, what they have heard before; see `gateway.core.envelope.Envelope.rewrapped`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from gateway.core.envelope import Envelope, OpenFailed, read_envelope
from gateway.core.envelope import rewrap as rewrapped
from gateway.core.keyring import KeyRing
from gateway.mqtt.errors import PacketTooLarge
from gateway.mqtt.packets import Subscription, Version
from gateway.mqtt.properties import Property, PropertyId
from gateway.mqtt.topics import covers
from gateway.net.bus_client import BusConnection, BusError, Handler
from gateway.net.bus_reader import Delivery

_AS_PUBLISHED = 0x08
"""Retain As Published, and QoS 0, for which Mosquitto has one queue: what it took first is heard first."""
_AT_ONCE = 20
_LOOKS = 5
_PATIENCE = 10.0
"""How long the bus may be silent while something of it is awaited, in seconds."""
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
    """Why not, by topic: nobody can open these."""
    left: int = 0
    """Are still under an older key, for the bus did not say in time what it did."""


async def rewrap(
    open_connection: Opener,
    ring: KeyRing,
    filters: Sequence[str],
    *,
    marker: str,
    progress: Progress = lambda _done, _total: None,
) -> Outcome:
    """Re-seal what is retained on the topics of `filters`. Raises BusError, KeysUnavailable.

    `marker` is a topic that nobody else uses, for messages of our own. `progress` is told how many of how
    many are done.
    """
    work = _Rewrap(ring, marker, progress)
    connection = await open_connection(work.take)
    try:
        if connection.version is not Version.V5:
            raise BusError("it speaks MQTT 3.1.1 only, which does not tell retained messages from others")
        for _ in range(_LOOKS):
            await work.look(connection, filters)
            todo = work.todo()
            if not todo:
                break
            await work.reseal(connection, todo)
    finally:
        connection.close()
    return work.outcome()


class _Slot:
    """What is known of one topic, by what the bus has sent of it, in its order."""

    __slots__ = ("changed", "echoed", "fault", "foreign", "latest", "sent", "tried")

    def __init__(self, latest: Delivery) -> None:
        self.latest = latest
        """What is retained: the last retained message of this topic, whoever published it."""
        self.fault = ""
        """Why nobody can open it."""
        self.sent: list[bytes] = []
        """What we have published here: the bus may tell of each more than once."""
        self.echoed: asyncio.Event | None = None
        """While we wait for the bus to tell of the last of them."""
        self.foreign: Delivery | None = None
        """Somebody else's message that the bus told of before that."""
        self.tried = self.changed = False
        """Whether it was under an older key once, and whether a message of somebody else was put back."""

    def note(self, delivery: Delivery) -> None:
        """The next retained message of this topic."""
        if self.echoed is not None and delivery.payload != self.sent[-1]:
            if delivery.payload not in self.sent:
                self.foreign = delivery
            return
        self.latest, self.fault = delivery, ""
        if self.echoed is not None:
            self.echoed.set()


class _Rewrap:
    def __init__(self, ring: KeyRing, marker: str, progress: Progress) -> None:
        self._ring = ring
        self._marker = marker
        self._progress = progress
        self._slots: dict[str, _Slot] = {}
        self._marked = asyncio.Event()
        self._heard = 0

    def take(self, _: BusConnection, delivery: Delivery) -> None:
        """A message from the bus."""
        self._heard += 1
        if delivery.topic == self._marker:
            self._marked.set()
        elif delivery.retain:
            slot = self._slots.get(delivery.topic)
            if slot is None:
                self._slots[delivery.topic] = _Slot(delivery)
            else:
                slot.note(delivery)

    async def look(self, connection: BusConnection, filters: Sequence[str]) -> None:
        """Have the bus send what it retains. All of it is there when a message comes that we send last."""
        self._marked.clear()
        wanted = [Subscription(one.encode(), _AS_PUBLISHED) for one in _distinct(filters)]
        await connection.subscribe([*wanted, Subscription(self._marker.encode(), 0)])
        await connection.publish(self._marker, b"", retain=False)
        heard = -1
        while heard < self._heard:
            heard = self._heard
            if await _within(_PATIENCE, self._marked):
                return
        raise BusError("it does not send what it retains")

    def todo(self) -> list[str]:
        """The topics with a message under an older key that may be opened."""
        return [topic for topic, slot in self._slots.items() if self._older(topic, slot) is not None]

    def _older(self, topic: str, slot: _Slot) -> Envelope | None:
        """What is to be re-sealed on this topic; None for nothing."""
        if slot.fault:
            return None
        try:
            envelope = _envelope(topic, slot.latest)
        except OpenFailed as failed:
            slot.fault = str(failed)
            return None
        return None if envelope is None or envelope.key_id == self._ring.active_id else envelope

    async def reseal(self, connection: BusConnection, topics: Sequence[str]) -> None:
        """Re-seal what is retained on these, some at a time."""
        waiting, total, done = iter(topics), len(topics), 0

        async def work() -> None:
            nonlocal done
            for topic in waiting:
                await self._reseal(connection, topic, self._slots[topic])
                done += 1
                self._progress(done, total)

        outcomes = await asyncio.gather(*(work() for _ in range(_AT_ONCE)), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    async def _reseal(self, connection: BusConnection, topic: str, slot: _Slot) -> None:
        slot.tried = True
        envelope = self._older(topic, slot)
        if envelope is None:
            return  # somebody else was faster
        try:
            payload, properties = rewrapped(self._ring, envelope), slot.latest.properties
            while (foreign := await self._replace(connection, topic, slot, payload, properties)) is not None:
                slot.changed = True
                payload, properties = _marked(foreign.payload), foreign.properties
        except OpenFailed as failed:
            slot.fault = str(failed)
        except PacketTooLarge:
            slot.fault = "longer than the bus takes, once it is marked as re-sealed"

    async def _replace(
        self,
        connection: BusConnection,
        topic: str,
        slot: _Slot,
        payload: bytes,
        properties: Sequence[Property],
    ) -> Delivery | None:
        """Publish a retained message; the answer is what it has overwritten and should not have."""
        slot.sent.append(payload)
        slot.echoed, slot.foreign = asyncio.Event(), None
        try:
            kept = [one for one in properties if one.identifier not in _NOT_KEPT]
            await connection.publish(topic, payload, retain=True, properties=kept)
            await _within(_PATIENCE, slot.echoed)
        finally:
            # If the bus did not tell of it, the next look says what stands there.
            slot.echoed = None
        return slot.foreign

    def outcome(self) -> Outcome:
        """What became of all."""
        result = Outcome()
        for topic, slot in self._slots.items():
            if self._older(topic, slot) is not None:
                result.left += 1
            elif slot.fault:
                result.unreadable[topic] = slot.fault
            elif slot.changed or (slot.tried and slot.latest.payload not in slot.sent):
                result.changed += 1
            elif slot.tried:
                result.resealed += 1
            elif slot.latest.payload:
                result.current += 1
        return result


def _envelope(topic: str, delivery: Delivery) -> Envelope | None:
    """The envelope that is retained there; None when the topic was cleared. Raises OpenFailed."""
    if not delivery.whole:
        raise OpenFailed("longer than any message may be")
    if not delivery.payload:
        return None
    envelope = read_envelope(delivery.payload)
    if envelope.topic != topic:
        raise OpenFailed("sealed for another topic")
    return envelope


def _distinct(filters: Sequence[str]) -> list[str]:
    """Those that no other one covers: what two of them match might come twice."""
    return [
        one
        for index, one in enumerate(filters)
        if not any(
            covers(other, one) and (index > place or not covers(one, other))
            for place, other in enumerate(filters)
            if place != index
        )
    ]


def _marked(payload: bytes) -> bytes:
    """A message to be put back: as it was, but nobody shall hear it again."""
    try:
        again = read_envelope(payload).rewrapped
    except OpenFailed:
        return payload
    return payload if again else payload.rstrip()[:-1] + b',"rewrapped":true}'


async def _within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
