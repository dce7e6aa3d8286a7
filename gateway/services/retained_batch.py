"""Replaces some retained messages by themselves under the active key, and the newer message always wins.

What is retained is replaced by publishing it again, and somebody else may do so at the same moment. A
subscription shows in which order the bus took them: when another retained message came between the one that
was read and our own, ours has overwritten it, and it is put back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from enum import Enum, auto

from gateway.bus_client.connection import BusConnection, BusError
from gateway.bus_client.packet_reader import Delivery
from gateway.keys.key_ring import KeyRing
from gateway.keys.payload_envelope import Envelope, OpenFailed, read_envelope, reseal
from gateway.mqtt.errors import PacketTooLarge
from gateway.mqtt.properties import Property, PropertyId

PATIENCE = 10.0
"""Seconds that the bus may be silent while something of it is awaited."""
LOST = "too long to be put back, and overwritten here by the older one: publish it again"
"""What became of a newer message, as TOO_LONG of one that was to be re-sealed."""
TOO_LONG = (
    "longer than the bus takes once it is re-sealed, and still under an older key: raise max_packet_size in "
    "the configuration of the bus"
)
_AT_ONCE = 20
"""Topics of a batch that are re-sealed side by side."""
_NOT_KEPT = frozenset({PropertyId.SUBSCRIPTION_IDENTIFIER, PropertyId.TOPIC_ALIAS})


class Result(Enum):
    """What became of one topic."""

    RESEALED = auto()
    CURRENT = auto()
    CHANGED = auto()
    CLEARED = auto()
    LEFT = auto()


class _Slot:
    """One topic, by what the bus has sent of it."""

    __slots__ = ("changed", "echoed", "fault", "foreign", "latest", "sent", "tried")

    def __init__(self) -> None:
        self.latest: Delivery | None = None
        """What is retained: the last retained message of this topic, whoever published it."""
        self.fault = ""
        """Why nobody can open it, or what went wrong."""
        self.tried = 0
        """The hash of the message that was tried last: it is not tried again, another one is."""
        self.sent: bytes | None = None
        """What we have published here last."""
        self.echoed: asyncio.Event | None = None
        """Set once the bus showed it; None before the first publish."""
        self.foreign: Delivery | None = None
        """Somebody else's message that the bus showed before ours."""
        self.changed = False
        """Whether such a message was put back."""

    @property
    def has_ours(self) -> bool:
        """Whether what the bus showed last is what we published: nothing of others came after it."""
        return self.latest is not None and self.latest.payload == self.sent

    def note(self, delivery: Delivery) -> None:
        """The next retained message of this topic."""
        if self.echoed is None or self.echoed.is_set():
            self.latest = delivery
        elif delivery.payload == self.sent:
            self.latest = delivery
            self.echoed.set()
        else:
            self.foreign = delivery


class Batch:
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
            envelope = envelope_of(topic, slot.latest)
        except OpenFailed as failed:
            slot.fault, slot.tried = str(failed), hash(slot.latest.payload)
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
        slot.tried = hash(slot.latest.payload)
        try:
            payload, properties = reseal(self._ring, envelope), slot.latest.properties
            foreign = await self._replace(connection, topic, slot, payload, properties)
        except OpenFailed as failed:
            slot.fault = str(failed)
            return
        except PacketTooLarge:
            slot.fault = TOO_LONG
            return
        while foreign is not None and slot.has_ours:
            slot.changed, standing = True, slot.sent
            try:
                foreign = await self._put_back(connection, topic, slot, foreign)
            except PacketTooLarge:
                slot.fault, slot.tried = LOST, hash(standing)
                return

    async def _put_back(
        self, connection: BusConnection, topic: str, slot: _Slot, overwritten: Delivery
    ) -> Delivery | None:
        """Publish again what ours has overwritten; the answer is what this has overwritten in turn.

        Raises PacketTooLarge.
        """
        if not overwritten.whole:
            # Of its payload nothing is held, and an empty one would clear the topic.
            raise PacketTooLarge("longer than any message may be")
        # `rewrapped` (sealed again, nothing new is said) may make it too long. Heard twice is better than
        # overwritten by ours.
        for payload in (_with_rewrapped_mark(overwritten.payload), overwritten.payload):
            try:
                return await self._replace(connection, topic, slot, payload, overwritten.properties)
            except PacketTooLarge:
                if slot.foreign is not None:
                    return None  # came after ours, and stands
        raise PacketTooLarge("longer than the bus takes")

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
        if not await within(PATIENCE, slot.echoed):
            raise BusError("it does not tell what it was sent")
        return slot.foreign

    def results(self) -> dict[str, Result | str]:
        """What became of each of the topics, or why nobody can open its message."""
        return {topic: self._result_of(topic, slot) for topic, slot in self.slots.items()}

    def _result_of(self, topic: str, slot: _Slot) -> Result | str:
        older = self._older(topic, slot)
        if slot.fault:
            return slot.fault
        if older is not None:
            return Result.LEFT
        if slot.changed:
            return Result.CHANGED
        if slot.latest is None or not slot.latest.payload:
            return Result.CLEARED
        if slot.sent is None:
            return Result.CURRENT
        return Result.RESEALED if slot.has_ours else Result.CHANGED


def envelope_of(topic: str, delivery: Delivery) -> Envelope | None:
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


async def within(seconds: float, event: asyncio.Event) -> bool:
    """Whether it is set in that time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
