"""Delivers messages through the channels: through each independently, and again and again until one arrives.

A channel that hangs or fails holds up nothing else: it has a bounded queue and a task of its own. That it
fails is logged once, and is a reading (`channel_status`), so that a rule can report it through the others.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from gateway.alerts.channels.channel import SECONDS_MAX, Channel, NotDelivered
from gateway.alerts.channels.settings import ChannelSettings
from gateway.alerts.notification_grouping import Listed, Message
from gateway.alerts.reading_catalogue import CHANNEL_WORDS
from gateway.alerts.readings_protocol import Labels
from gateway.alerts.shipped_rules import CHANNEL_RULE
from gateway.observe.logs import get_logger

WAITING_MAX = 100
"""Messages that wait for one channel at most; the oldest is dropped for one more."""
AGE_MAX = 86_400
"""Seconds after which a message is no longer worth delivering."""
_PAUSES = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds to wait after the first failure in a row, the second, and so on."""
_IN_A_ROW = 3
"""Attempts to deliver one message before the next is tried: one that a service never takes holds up no
other."""

_log = get_logger()


class Task(Protocol):
    """What runs a channel: an `asyncio.Task`."""

    def cancel(self) -> bool:
        """End it."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """A message that waits for one channel."""

    message: Message
    since: float
    """When it was made, in seconds of a clock that never goes back."""
    attempts: int = 0


@dataclass(eq=False)
class _Worker:
    """One channel, and what waits for it."""

    settings: ChannelSettings
    channel: Channel
    waiting: deque[_Waiting] = field(default_factory=deque)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    """How many there were in a row."""
    logged: str = ""
    """The reason for which it fails that was logged last; empty while it works."""
    task: Task | None = None


class Deliveries:
    """All channels of a gateway."""

    def __init__(
        self,
        make: Callable[[ChannelSettings], Channel],
        start: Callable[[Coroutine[Any, Any, None]], Task],
        now: Callable[[], int],
        done: Callable[[str, str], None],
        *,
        steady: Callable[[], float],
        pauses: tuple[float, ...] = _PAUSES,
    ) -> None:
        """`make` makes a channel, `start` runs a task.

        `now` gives Unix milliseconds, `steady` seconds of a clock that never goes back.

        `done` is called with the ids of message and channel once it was delivered there, or given up.
        """
        self._make = make
        self._start = start
        self._now = now
        self._steady = steady
        self._done = done
        self._pauses = pauses
        self._workers: dict[str, _Worker] = {}

    def use(self, channels: Iterable[ChannelSettings], *, anew: bool = False) -> None:
        """Deliver through these from now on. What waits for a channel still waits if its settings change.

        `anew`: a setting of all channels has changed, so each is made again.
        """
        wanted = {one.name: one for one in channels}
        for name, worker in list(self._workers.items()):
            if wanted.get(name) == worker.settings and not anew:
                del wanted[name]
            elif worker.task is not None:
                worker.task.cancel()
                if name not in wanted:
                    del self._workers[name]
                    for one in worker.waiting:
                        self._give_up(worker, one.message, "the channel was removed")
        for name, settings in wanted.items():
            worker = _Worker(settings, self._make(settings))
            before = self._workers.get(name)
            if before is not None:
                worker.waiting = before.waiting
            worker.more.set()
            self._workers[name] = worker
            worker.task = self._start(self._run(worker))

    def addressed(self, message: Message) -> dict[str, Message]:
        """What each channel is to send of it, by the channel's name."""
        found = {name: _for(worker.settings, message) for name, worker in self._workers.items()}
        return {name: one for name, one in found.items() if one is not None}

    def put(self, channel: str, message: Message) -> None:
        """Deliver it through this channel, if there is one of that name."""
        worker = self._workers.get(channel)
        if worker is None:
            self._done(message.message_id, channel)
            return
        if len(worker.waiting) >= WAITING_MAX:
            self._give_up(worker, worker.waiting.popleft().message, f"{WAITING_MAX} others wait")
        # One that was saved by the process before this one is as old as its time says.
        age = max(0, self._now() - message.at) / 1_000
        worker.waiting.append(_Waiting(message, self._steady() - age))
        worker.more.set()

    def status(self) -> Mapping[Labels, float]:
        """Whether each channel delivered what it was last given: the reading `channel_status`."""
        return {
            (("channel", name),): CHANNEL_WORDS["down" if worker.failures else "up"]
            for name, worker in self._workers.items()
        }

    def waiting(self, channel: str) -> int:
        """How many messages wait for it."""
        worker = self._workers.get(channel)
        return len(worker.waiting) if worker else 0

    async def _run(self, worker: _Worker) -> None:
        while True:
            await worker.more.wait()
            worker.more.clear()
            while worker.waiting:
                pause = await self._attempt(worker, worker.waiting[0])
                if pause:
                    await asyncio.sleep(pause)

    async def _attempt(self, worker: _Worker, one: _Waiting) -> float:
        """Try once; return how many seconds to wait before the next attempt, of whatever message."""
        name, message = worker.settings.name, one.message
        if self._steady() - one.since > AGE_MAX:
            worker.waiting.remove(one)
            self._give_up(worker, message, "it is a day old")
            return 0
        try:
            async with asyncio.timeout(
                2 * SECONDS_MAX
            ):  # a channel has its own bound; this is for a fault in it
                await worker.channel.send(message)
        except (NotDelivered, TimeoutError) as error:
            return self._failed(worker, one, str(error) or "no answer in time")
        except Exception as error:  # noqa: BLE001 - a fault of one channel must not end the others' alerts
            _log.error("internal error", channel=name, reason=type(error).__name__)
            return self._failed(worker, one, f"a fault of the gateway: {type(error).__name__}")
        if one in worker.waiting:
            worker.waiting.remove(one)
        if worker.failures:
            _log.info("alerts delivered again", channel=name)
        worker.failures, worker.logged = 0, ""
        self._done(message.message_id, name)
        return 0

    def _failed(self, worker: _Worker, one: _Waiting, reason: str) -> float:
        if reason != worker.logged:
            _log.error(
                "alert not delivered", channel=worker.settings.name, reason=f"{reason}; it is tried again"
            )
        worker.logged = reason
        pause = self._pauses[min(worker.failures, len(self._pauses) - 1)]
        worker.failures += 1
        one.attempts += 1
        if one.attempts % _IN_A_ROW == 0 and one in worker.waiting:
            worker.waiting.remove(one)
            worker.waiting.append(one)
        # Spread at random, so that not all gateways come at the same moment to a service that is back.
        return pause * (1 + secrets.randbelow(200) / 1_000)

    def _give_up(self, worker: _Worker, message: Message, why: str) -> None:
        _log.error(
            "alert given up",
            channel=worker.settings.name,
            reason=why,
            alerts=dict(message.counts),
            state=message.state,
        )
        self._done(message.message_id, worker.settings.name)


def _for(settings: ChannelSettings, message: Message) -> Message | None:
    """What of a message this channel is to send; None: nothing."""

    def is_for(one: Listed) -> bool:
        of_itself = one.alert == CHANNEL_RULE and one.labels.get("channel") == settings.name
        return one.severity.reaches(settings.min_severity) and not of_itself

    listed = tuple(one for one in message.alerts if is_for(one))
    if len(listed) == len(message.alerts):
        return message
    if not listed:
        return None
    rules = {one.alert for one in listed}
    counts = {rule: count for rule, count in message.counts.items() if rule in rules}
    if len(message.alerts) == message.count:
        counts = Counter(one.alert for one in listed)
    return msgspec.structs.replace(message, alerts=listed, counts=counts)
