"""Re-seals some retained messages under the active key; somebody else's newer one wins, but see `LOST`.

A retained message is replaced by publishing it again, sealed under the active key, and somebody else may
publish at the same moment. Our subscription shows in which order the bus received the messages: if a retained
message of somebody else came between the one that was read and our own, ours has overwritten it, and it is
published again ("put back").
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
"""Seconds: for our own message to come back, and for the bus to be silent while it sends what it retains."""
LOST = "too long to be put back, and overwritten here by the older one: publish it again"
"""Result for a topic: what happened to somebody else's newer message."""
TOO_LONG = (
    "longer than the bus takes once it is re-sealed, and still under an older key: raise max_packet_size in "
    "the configuration of the bus"
)
"""Result for a topic: why its message could not be re-sealed."""
_AT_ONCE = 20
"""Topics of a batch that are re-sealed concurrently."""
_NOT_OF_THE_MESSAGE = frozenset({PropertyId.SUBSCRIPTION_IDENTIFIER, PropertyId.TOPIC_ALIAS})
"""Properties of a delivery that are not published again."""


class Result(Enum):
    """What happened to the message of one topic."""

    RESEALED = auto()
    CURRENT = auto()
    """It was sealed under the active key already."""
    CHANGED = auto()
    """Somebody else published a newer message, which is retained now."""
    CLEARED = auto()
    """Nothing is retained there any more."""
    LEFT = auto()
    """It is still sealed under an older key, because somebody published it after ours."""


class _RetainedTopic:
    """The state of one topic, from what the bus has sent."""

    __slots__ = ("changed", "echoed", "fault", "latest", "overwritten", "sent", "tried")

    def __init__(self) -> None:
        self.latest: Delivery | None = None
        """What is retained: the last retained message of this topic, whoever published it."""
        self.fault = ""
        """Why its message can't be opened, or what went wrong."""
        self.tried = 0
        """Hash of the payload that needs no further try: the one tried last or, after `LOST`, ours."""
        self.sent: bytes | None = None
        """The payload that we published to this topic last."""
        self.echoed: asyncio.Event | None = None
        """Set once the bus has delivered `sent` back to us; None before we publish for the first time."""
        self.overwritten: Delivery | None = None
        """Somebody else's message that the bus delivered just before `sent`, which has overwritten it."""
        self.changed = False
        """Whether such a message was put back."""

    @property
    def has_ours(self) -> bool:
        """Whether what the bus delivered last is what we published: nothing of others came after it."""
        return self.latest is not None and self.latest.payload == self.sent

    def note(self, delivery: Delivery) -> None:
        """Take in the next retained message of this topic."""
        if self.echoed is None or self.echoed.is_set():
            self.latest = delivery
        elif delivery.payload == self.sent:
            self.latest = delivery
            self.echoed.set()
        else:
            self.overwritten = delivery


class Batch:
    """Topics that are subscribed to together, so few that Mosquitto drops no message of them."""

    def __init__(self, ring: KeyRing, topics: Iterable[str]) -> None:
        self._ring = ring
        self.by_topic = {topic: _RetainedTopic() for topic in topics}

    def take(self, delivery: Delivery) -> None:
        """Take in a retained message."""
        if retained := self.by_topic.get(delivery.topic):
            retained.note(delivery)

    @property
    def present(self) -> int:
        """How many of the topics have a retained message."""
        return sum(
            retained.latest is not None and bool(retained.latest.payload)
            for retained in self.by_topic.values()
        )

    def _older(self, topic: str, retained: _RetainedTopic) -> Envelope | None:
        """The envelope on this topic that is sealed under an older key; None if there is none.

        Also None if it can't be opened: then `fault` says why from now on.
        """
        if retained.latest is None or retained.fault:
            return None
        try:
            envelope = envelope_of(topic, retained.latest)
        except OpenFailed as failed:
            retained.fault, retained.tried = str(failed), hash(retained.latest.payload)
            return None
        return None if envelope is None or envelope.key_id == self._ring.active_id else envelope

    async def reseal(self, connection: BusConnection) -> None:
        """Re-seal what is sealed under an older key, `_AT_ONCE` at a time."""
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
        """Publish again what ours has overwritten. Returns what this has overwritten in turn.

        Raises PacketTooLarge.
        """
        if not overwritten.whole:
            # It was too long for us to keep its payload, and an empty one would clear the topic.
            raise PacketTooLarge("longer than any message may be")
        # The flag `rewrapped` (`Envelope.rewrapped`) may make it too long. Without it subscribers get the
        # message twice, which is better than leaving ours in its place.
        for payload in (_flagged_as_resealed(overwritten.payload), overwritten.payload):
            try:
                return await self._replace(connection, topic, retained, payload, overwritten.properties)
            except PacketTooLarge:
                if retained.overwritten is not None:
                    return None  # this payload was not sent: what came meanwhile, after ours, stays
        raise PacketTooLarge("longer than the bus takes")

    async def _replace(
        self,
        connection: BusConnection,
        topic: str,
        retained: _RetainedTopic,
        payload: bytes,
        properties: Sequence[Property],
    ) -> Delivery | None:
        """Publish a retained message. Returns somebody else's newer message if this has overwritten one."""
        retained.sent, retained.overwritten = payload, None
        retained.echoed = asyncio.Event()
        kept = [one for one in properties if one.identifier not in _NOT_OF_THE_MESSAGE]
        await connection.publish(topic, payload, retain=True, properties=kept)
        if not await is_set_within(PATIENCE, retained.echoed):
            raise BusError("it does not deliver what it was sent")
        return retained.overwritten

    def results(self) -> dict[str, Result | str]:
        """By topic, what happened to its message, or why it can't be opened, re-sealed or put back."""
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
    """The envelope in a retained message; None if the topic was cleared. Raises OpenFailed."""
    if not delivery.whole:
        raise OpenFailed("longer than any message may be")
    return read_envelope(delivery.payload, topic=topic) if delivery.payload else None


def _flagged_as_resealed(payload: bytes) -> bytes:
    """A message that is to be put back, with the flag `rewrapped`, so that no gateway delivers it again."""
    try:
        is_flagged = read_envelope(payload).rewrapped
    except OpenFailed:
        return payload
    return payload if is_flagged else payload.rstrip()[:-1] + b',"rewrapped":true}'


async def is_set_within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for the event. Returns whether it was set within this many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
