"""Re-seals under the active key what the bus retains on sensitive topics, while everything else goes on.

It works in rounds until one finds nothing new, for Mosquitto drops messages that a subscriber can't take at
once. Each round finds out which topics there are, and re-seals those whose message is sealed under an older
key. It does so in batches that are small enough for the bus to drop nothing: of a batch no message may be
missed, since somebody else may publish at the same moment (`gateway.services.retained_batch`).

All that it re-seals has the flag `rewrapped`, so that no gateway delivers it to present subscribers, who got
the message before; those who subscribe later get it. What it puts back has it, too, if that is sealed and
does not become too long by it. The flag's name on the wire is older than the word re-seal: see
`gateway.keys.payload_envelope.Envelope.rewrapped`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gateway.bus_client.connection import BusConnection, BusError, Handler
from gateway.bus_client.packet_reader import Delivery
from gateway.keys.key_ring import KeyRing
from gateway.keys.payload_envelope import OpenFailed
from gateway.mqtt.packets import Subscription, Version
from gateway.services.retained_batch import (
    LOST,
    PATIENCE,
    TOO_LONG,
    Batch,
    Result,
    envelope_of,
    is_set_within,
)

_AS_PUBLISHED = 0x08
"""Subscription options: Retain As Published, and QoS 0, which Mosquitto delivers in the order of arrival."""
_BATCH = 200
"""Topics at a time: far below what Mosquitto queues for a subscriber before it drops (1,000)."""
_ROUNDS_MAX = 12
"""Two rounds are enough if the bus sends everything and nobody interferes: the second finds nothing new.
Further ones are for messages that were dropped. They are bounded because a bus may drop something each time,
or somebody may keep publishing under an older key."""
_WE_PUBLISHED_THERE = frozenset({Result.RESEALED, Result.CHANGED})
"""Results of topics that we published to. With CHANGED, somebody else's message came after ours, or ours
overwrote it and we put it back."""

Opener = Callable[[Handler], Awaitable[BusConnection]]
"""Opens a connection to the bus that passes deliveries to the handler."""
Progress = Callable[[int, int], None]
"""Called with how many topics of a round are done, re-sealed or not, and how many it has to re-seal."""


@dataclass(slots=True)
class ResealingOutcome:
    """What happened to the retained messages on sensitive topics; the numbers count topics."""

    resealed: int = 0
    current: int = 0
    """Those that were sealed under the active key already."""
    changed: int = 0
    """Those that somebody else replaced meanwhile; the newer message is retained."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """By topic, the reason why its message can't be opened, or is too long to be re-sealed or put back."""
    left: int = 0
    """Those still sealed under an older key: somebody published such a message after ours in the last round,
    or they are too long to be re-sealed."""
    lost: int = 0
    """Those where ours has overwritten somebody else's newer message, which is too long to be put back."""
    complete: bool = False
    """Whether the last round found nothing new: then the bus has shown all that it retains."""


async def reseal_retained(
    open_connection: Opener,
    ring: KeyRing,
    filters: Sequence[str],
    *,
    end_topic: str,
    progress: Progress = lambda _done, _total: None,
) -> ResealingOutcome:
    """Re-seal what is retained on the topics of `filters`. Raises BusError, KeysUnavailable.

    `end_topic` is a topic that nobody else uses: when our own message to it arrives, all before it has been
    sent.
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
        self._results: dict[str, Result | str] = {}
        """By topic, as in `Batch.results`."""
        self._given_up: dict[str, int] = {}
        """By topic, the hash of the payload that could not be re-sealed: only a different one is tried
        again."""

    async def round(self, filters: Sequence[str]) -> bool:
        """Read what is retained, and re-seal what has to be. Returns whether nothing new was found."""
        seen_before = set(self._results)
        found: dict[str, bool] = {}

        def note(delivery: Delivery) -> None:
            found[delivery.topic] = self._is_older(delivery)

        whole = True
        async with self._reading(note) as reader:
            try:
                await reader.read_all(filters)
            except BusError:
                # Some versions of Mosquitto send nothing more to a subscriber after dropping a message for
                # it.
                if not found:
                    raise
                whole = False
        # Cleared meanwhile, or dropped by the bus? When it is asked for each by name, it sends what there is.
        missed = [topic for topic in seen_before - found.keys() if self._results[topic] is not Result.CLEARED]
        dropped = await self._reseal_older(missed, show_progress=False)
        older = [topic for topic, is_older in found.items() if is_older]
        await self._reseal_older(older, show_progress=True)
        return whole and not dropped and not older and found.keys() <= seen_before

    def _is_older(self, delivery: Delivery) -> bool:
        """Whether there is something to re-seal; if not, the result for the topic is noted."""
        topic = delivery.topic
        try:
            envelope = envelope_of(topic, delivery)
        except OpenFailed as failed:
            self._results[topic] = str(failed)
            return False
        before = self._results.get(topic)
        if envelope is None:
            self._results[topic] = Result.CLEARED
        elif envelope.key_id != self._ring.active_id:
            return not isinstance(before, str) or self._given_up.get(topic) != hash(delivery.payload)
        elif before in {None, Result.CLEARED} or (
            isinstance(before, str) and self._given_up.get(topic) != hash(delivery.payload)
        ):
            self._results[topic] = Result.CURRENT
        return False

    async def _reseal_older(self, topics: Sequence[str], *, show_progress: bool) -> int:
        """Re-seal what is sealed under an older key. Returns how many of these topics have a message."""
        present = 0
        for start in range(0, len(topics), _BATCH):
            batch = Batch(self._ring, topics[start : start + _BATCH])
            async with self._reading(batch.take) as reader:
                await reader.read_all(batch.by_topic)
                present += batch.present
                await batch.reseal(reader.connection)
            for topic, result in batch.results().items():
                # `CURRENT` does not replace an earlier `RESEALED` or `CHANGED`.
                if result is not Result.CURRENT or self._results.get(topic) not in _WE_PUBLISHED_THERE:
                    self._results[topic] = result
                    self._given_up[topic] = batch.by_topic[topic].tried
            if show_progress:
                self._progress(min(start + _BATCH, len(topics)), len(topics))
        return present

    @contextlib.asynccontextmanager
    async def _reading(self, note: Callable[[Delivery], None]) -> AsyncIterator[_RetainedReader]:
        reader = _RetainedReader(self._end_topic, note)
        reader.connection = await self._open(reader.take)
        try:
            if reader.connection.version is not Version.V5:
                raise BusError("it speaks MQTT 3.1.1 only, which has no Retain As Published")
            yield reader
        finally:
            reader.connection.close()

    def outcome(self, *, complete: bool) -> ResealingOutcome:
        """The results of all topics, added up."""
        results = Counter(self._results.values())
        return ResealingOutcome(
            resealed=results[Result.RESEALED],
            current=results[Result.CURRENT],
            changed=results[Result.CHANGED],
            unreadable={topic: why for topic, why in self._results.items() if isinstance(why, str)},
            left=results[Result.LEFT] + results[TOO_LONG],
            lost=results[LOST],
            complete=complete,
        )


class _RetainedReader:
    """Subscribes to filters, and passes their retained messages to `note` in the order of the bus."""

    connection: BusConnection

    def __init__(self, end_topic: str, note: Callable[[Delivery], None]) -> None:
        self._end_topic = end_topic
        self._note = note
        self._end_seen = asyncio.Event()
        self._read_count = 0

    def take(self, _: BusConnection, delivery: Delivery) -> None:
        """Take in a message from the bus."""
        self._read_count += 1
        if delivery.topic == self._end_topic:
            self._end_seen.set()
        elif delivery.retain:
            self._note(delivery)

    async def read_all(self, filters: Iterable[str]) -> None:
        """Subscribe, and wait for all retained messages: the last one has come when our own message arrives.

        Raises BusError if nothing arrives for `PATIENCE` seconds.
        """
        wanted = [Subscription(one.encode(), _AS_PUBLISHED) for one in filters]
        await self.connection.subscribe([*wanted, Subscription(self._end_topic.encode(), 0)])
        await self.connection.publish(self._end_topic, b"", retain=False)
        read_count = -1
        while read_count < self._read_count:
            read_count = self._read_count
            if await is_set_within(PATIENCE, self._end_seen):
                return
        raise BusError("it does not send what it retains")
