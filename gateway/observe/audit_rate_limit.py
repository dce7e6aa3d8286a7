"""How many audit events are written one by one: an allowance per device and one for strangers.

Nobody can hide an attempt in noise. In every minute, whatever anybody does, the first events of each device
are written, for each kind and outcome; and so is the first event for each pair of a rule and the first level
of a topic, up to a number of pairs, so that a real attempt shows among events that were caused to hide it.
What is left out is counted by device, kind and outcome. Strangers share an allowance of their own and are
counted by place, for a device id that is only claimed may be anybody's.

Memory is bounded by the number of devices, for only authenticated ones are counted by their id, and by a
number of places. Must not know what becomes of the events that are written. Time comes from outside.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gateway.connection.audit_vocabulary import Kind, Outcome, Source
from gateway.observe.audit_event import AuditEvent
from gateway.system.ip_address_blocks import place_of

FIRST_PER_KIND = 5
"""Events of each kind and outcome that are written per device and minute in any case."""
RULES_AND_TOPICS = 20
"""Pairs of deciding rule and first topic level of which one more event each is written per device and
minute."""
PER_DEVICE_MAX = 500
"""Events beyond those that are written per device and minute, as far as the rate of all devices (`DEVICES`)
allows."""
PER_PLACE_MAX = 100
"""Events of the strangers of one place that are written per minute, as far as the rate of all strangers
(`STRANGERS`) allows."""
PLACES_MAX = 1_000
"""Places that are counted one by one; the strangers of all others count as one place."""
_MINUTE = 60_000
"""Milliseconds."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate of a token bucket: `burst` events at once, and `per_second` in the long run."""

    burst: int
    per_second: int


DEVICES = Rate(1_000, 200)
STRANGERS = Rate(200, 50)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What events that are counted together have in common.

    `place` is None for an authenticated device, and empty for strangers of places beyond `PLACES_MAX`.
    """

    device: str | None
    place: str | None
    kind: Kind
    outcome: Outcome


class _TokenBucket:
    """How many events may still be written at once: it fills up with time."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = float(rate.burst)
        self._at = 0

    def take(self, now: int, *, leave: int = 0) -> bool:
        """Take one if at least `leave` are left then; return whether it was taken."""
        # While the clock is set back nothing is added, and nothing taken away.
        gained = max(0, now - self._at) * self._rate.per_second / 1_000
        self._left = min(self._rate.burst, self._left + gained)
        self._at = now
        if self._left < leave + 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class _Written:
    """What was written in this minute about one device, or about the strangers of one place.

    There may be thousands of these, most for a device that only logged in: so no container is made before it
    is needed.
    """

    first: tuple[tuple[Kind, Outcome], ...] = ()
    """Kind and outcome of each of the first events."""
    rules_and_topics: tuple[tuple[str | None, str], ...] = ()
    """The pairs of rule and first topic level for which an event was written."""
    more: int = 0
    """How many events were written beyond those."""


class AuditRateLimit:
    """Decides which events are written one by one.

    Each consumer of audit events that needs one has its own.
    """

    def __init__(self, *, devices: Rate = DEVICES, strangers: Rate = STRANGERS) -> None:
        self._devices = _TokenBucket(devices)
        self._strangers = _TokenBucket(strangers)
        self._kept_for_others = strangers.burst // 2
        self._minute = -1
        self._of_device: dict[str, _Written] = {}
        self._of_place: dict[str, _Written] = {}

    def admits(self, event: AuditEvent, now: int) -> bool:
        """Whether it is written by itself. `now` in milliseconds."""
        if event.source is Source.HOUSE:
            return True
        minute = now // _MINUTE
        if minute != self._minute:
            self._minute = minute
            self._of_device.clear()
            self._of_place.clear()
        if event.count > 1:
            return False  # it is a count of what was left out
        if event.device is not None and event.source is Source.DEVICE:
            return self._admits_of_device(event.device, event, now)
        return self._admits_of_stranger(_place(event), now)

    def _admits_of_device(self, device: str, event: AuditEvent, now: int) -> bool:
        written = self._of_device.get(device)
        if written is None:
            written = self._of_device[device] = _Written()
        what = event.kind, event.outcome
        if written.first.count(what) < FIRST_PER_KIND:
            written.first += (what,)
            self._devices.take(now)
            return True
        if event.topic is not None and len(written.rules_and_topics) < RULES_AND_TOPICS:
            rule_and_topic = event.rule, event.topic.partition("/")[0]
            if rule_and_topic not in written.rules_and_topics:
                written.rules_and_topics += (rule_and_topic,)
                self._devices.take(now)
                return True
        if written.more < PER_DEVICE_MAX and self._devices.take(now):
            written.more += 1
            return True
        return False

    def _admits_of_stranger(self, place: str, now: int) -> bool:
        if place not in self._of_place and len(self._of_place) >= PLACES_MAX:
            place = ""
        written = self._of_place.setdefault(place, _Written())
        if written.more >= PER_PLACE_MAX:
            return False
        # Half of it is kept for places about which little was written yet.
        if not self._strangers.take(now, leave=0 if written.more < FIRST_PER_KIND else self._kept_for_others):
            return False
        written.more += 1
        return True


class LeftOutCounts:
    """What was left out, until somebody writes how much."""

    def __init__(self) -> None:
        self._counts: OrderedDict[LeftOut, int] = OrderedDict()
        self._places = 0

    def count(self, event: AuditEvent) -> None:
        """Count an event that is not written by itself."""
        place = None if _is_authenticated(event) else _place(event)
        key = LeftOut(event.device if place is None else None, place, event.kind, event.outcome)
        if place and key not in self._counts:
            if self._places >= PLACES_MAX:
                key = LeftOut(None, "", event.kind, event.outcome)
            else:
                self._places += 1
        self._counts[key] = self._counts.get(key, 0) + event.count

    def take(self, most: int) -> list[tuple[LeftOut, int]]:
        """At most `most` of the counts since they were last taken, the oldest first."""
        taken: list[tuple[LeftOut, int]] = []
        while self._counts and len(taken) < most:
            key, count = self._counts.popitem(last=False)
            taken.append((key, count))
            if key.place:
                self._places -= 1
        return taken


def _is_authenticated(event: AuditEvent) -> bool:
    return event.source is Source.DEVICE and event.device is not None


def _place(event: AuditEvent) -> str:
    # Without the port.
    return place_of((event.address or "").rpartition(":")[0])
