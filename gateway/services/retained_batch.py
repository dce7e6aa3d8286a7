"""Re-seals some retained messages under the active key; a newer message of somebody else always wins.

What is retained is replaced by publishing it again, sealed under the active key, and somebody else may
publish at the same moment. A subscription shows in which order the bus took the messages: when a retained
message of somebody else came between the one that was read and our own, ours has overwritten it, and it is
put back.
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
"""What became of somebody else's newer message."""
TOO_LONG = (
    "longer than the bus takes once it is re-sealed, and still under an older key: raise max_packet_size in "
    "the configuration of the bus"
)
"""What became of a message that was to be re-sealed."""
_AT_ONCE = 20
"""Topics of a batch that are re-sealed side by side."""
_NOT_OF_THE_MESSAGE = frozenset({PropertyId.SUBSCRIPTION_IDENTIFIER, PropertyId.TOPIC_ALIAS})
"""Properties of a delivery that are not published again."""


class Result(Enum):
    """What became of one topic."""

    RESEALED = auto()
    CURRENT = auto()
    """Its message was under the active key already."""
    CHANGED = auto()
    """Somebody else published a newer message, which stands."""
    CLEARED = auto()
    """Nothing is retained there any more."""
    LEFT = auto()
    """Its message is still under an older key: somebody published it after ours."""


class _RetainedTopic:
    """One topic, by what the bus has sent of it."""

    __slots__ = ("changed", "echoed", "fault", "latest", "overwritten", "sent", "tried")

    def __init__(self) -> None:
        self.latest: Delivery | None = None
        """What is retained: the last retained message of this topic, whoever published it."""
        self.fault = ""
        """Why nobody can open it, or what went wrong."""
        self.tried = 0
        """The hash of the message that was tried last: it is not tried again, a different one is."""
        self.sent: bytes | None = None
        """What we have published to this topic last."""
        self.echoed: asyncio.Event | None = None
        """Set once the bus has delivered it to us; None before the first publish."""
        self.overwritten: Delivery | None = None
        """Somebody else's message that the bus delivered before that one: ours has overwritten it."""
        self.changed = False
        """Whether such a message was put back."""

    @property
    def has_ours(self) -> bool:
        """Whether what the bus delivered last is what we published: nothing of others came after it."""
        return self.latest is not None and self.latest.payload == self.sent

    def note(self, delivery: Delivery) -> None:
        """The next retained message of this topic."""
        if self.echoed is None or self.echoed.is_set():
            self.latest = delivery
        elif delivery.payload == self.sent:
            self.latest = delivery
            self.echoed.set()
        else:
            self.overwritten = delivery


class Batch:
    """Topics subscribed together, few enough that Mosquitto drops none."""

    def __init__(self, ring: KeyRing, topics: Iterable[str]) -> None:
        self._ring = ring
        self.by_topic = {topic: _RetainedTopic() for topic in topics}

    def take(self, delivery: Delivery) -> None:
        """A retained message."""
        if retained := self.by_topic.get(delivery.topic):
            retained.note(delivery)

    @property
    def present(self) -> int:
        """On how many of the topics there is a message."""
        return sum(
            retained.latest is not None and bool(retained.latest.payload)
            for retained in self.by_topic.values()
        )

    def _older(self, topic: str, retained: _RetainedTopic) -> Envelope | None:
        """What is to be re-sealed on this topic; None for nothing."""
        if retained.latest is None or retained.fault:
            return None
        try:
            envelope = envelope_of(topic, retained.latest)
        except OpenFailed as failed:
            retained.fault, retained.tried = str(failed), hash(retained.latest.payload)
            return None
        return None if envelope is None or envelope.key_id == self._ring.active_id else envelope

    async def reseal(self, connection: BusConnection) -> None:
        """Re-seal what is under an older key, some at a time."""
        waiting = iter(self.by_topic.items())

        async def work() -> None:
            for topic, retained in waiting:
                await self._reseal(connection, topic, retained)

        for outcome in await asyncio.gather(*(work() for _ in range(_AT_ONCE)), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _reseal(self, connection: BusConnection, topic: str, retained: _RetainedTopic) -> None:
        envelope = self._older(topic, retained)
        if envelope is None or retained.latest is None:
            return
        retained.tried = hash(retained.latest.payload)
        try:
            payload, properties = reseal(self._ring, envelope), retained.latest.properties
            overwritten = await self._replace(connection, topic, retained, payload, properties)
        except OpenFailed as failed:
            retained.fault = str(failed)
            return
        except PacketTooLarge:
            retained.fault = TOO_LONG
            return
        while overwritten is not None and retained.has_ours:
            retained.changed, ours = True, retained.sent
            try:
                overwritten = await self._put_back(connection, topic, retained, overwritten)
            except PacketTooLarge:
                retained.fault, retained.tried = LOST, hash(ours)
                return

    async def _put_back(
        self, connection: BusConnection, topic: str, retained: _RetainedTopic, overwritten: Delivery
    ) -> Delivery | None:
        """Publish again what ours has overwritten; the answer is what this has overwritten in turn.

        Raises PacketTooLarge.
        """
        if not overwritten.whole:
            # Of its payload nothing is held, and an empty one would clear the topic.
            raise PacketTooLarge("longer than any message may be")
        # `rewrapped` (sealed again, nothing new is said) may make it too long. That subscribers get it twice
        # is better than that ours stands in its place.
        for payload in (_flagged_as_resealed(overwritten.payload), overwritten.payload):
            try:
                return await self._replace(connection, topic, retained, payload, overwritten.properties)
            except PacketTooLarge:
                if retained.overwritten is not None:
                    return None  # came after ours, and stands
        raise PacketTooLarge("longer than the bus takes")

    async def _replace(
        self,
        connection: BusConnection,
        topic: str,
        retained: _RetainedTopic,
        payload: bytes,
        properties: Sequence[Property],
    ) -> Delivery | None:
        """Publish a retained message; the answer is what it has overwritten and should not have."""
        retained.sent, retained.overwritten = payload, None
        retained.echoed = asyncio.Event()
        kept = [one for one in properties if one.identifier not in _NOT_OF_THE_MESSAGE]
        await connection.publish(topic, payload, retain=True, properties=kept)
        if not await is_set_within(PATIENCE, retained.echoed):
            raise BusError("it does not deliver what it was sent")
        return retained.overwritten

    def results(self) -> dict[str, Result | str]:
        """What became of each of the topics, or why nobody can open its message."""
        return {topic: self._result_of(topic, retained) for topic, retained in self.by_topic.items()}

    def _result_of(self, topic: str, retained: _RetainedTopic) -> Result | str:
        older = self._older(topic, retained)
        if retained.fault:
            return retained.fault
        if older is not None:
            return Result.LEFT
        if retained.changed:
            return Result.CHANGED
        if retained.latest is None or not retained.latest.payload:
            return Result.CLEARED
        if retained.sent is None:
            return Result.CURRENT
        return Result.RESEALED if retained.has_ours else Result.CHANGED


def envelope_of(topic: str, delivery: Delivery) -> Envelope | None:
    """The envelope that is retained there; None when the topic was cleared. Raises OpenFailed."""
    if not delivery.whole:
        raise OpenFailed("longer than any message may be")
    return read_envelope(delivery.payload, topic=topic) if delivery.payload else None


def _flagged_as_resealed(payload: bytes) -> bytes:
    """A message to be put back: as it was, but with `rewrapped`, so that no gateway delivers it once more."""
    try:
        is_flagged = read_envelope(payload).rewrapped
    except OpenFailed:
        return payload
    return payload if is_flagged else payload.rstrip()[:-1] + b',"rewrapped":true}'


async def is_set_within(seconds: float, event: asyncio.Event) -> bool:
    """Whether the event is set in that time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
