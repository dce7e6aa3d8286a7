"""How many audit events are written one by one: an allowance per device and one for strangers.

Nobody can hide an attempt behind noise. Of each device the first events of each kind and outcome are
written in every minute, whatever anybody does, and so is the first on each of some topic roots, so that a
real attempt shows among decoys. What is left out is counted by device, kind and outcome. Strangers share an
allowance of their own, counted by place, for a device id that is only claimed may be anybody's.

Memory is bounded by the number of devices, for only a device that has proven who it is counts here, and by a
number of places. Must not know what becomes of the events that are written. Time comes from outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.connection.audit_vocabulary import Kind, Outcome, Source
from gateway.observe.audit_event import AuditEvent
from gateway.system.ip_address_blocks import place_of

FIRST = 5
"""Of each kind and outcome, written per device and minute, whatever there was before."""
ROOTS = 20
"""Different pairs of deciding rule and first topic level written per device and minute beyond those."""
OF_A_DEVICE = 500
"""Written per device and minute beyond those, as far as the share of all devices goes."""
OF_A_PLACE = 100
"""Written of the strangers of one place per minute, as far as the share of all strangers goes."""
PLACES = 1_000
"""Places that are counted one by one; the strangers of all others count as one place."""
_MINUTE = 60_000


@dataclass(frozen=True, slots=True)
class Share:
    """`at_once`, and `per_second` in the long run."""

    at_once: int
    per_second: int


DEVICES = Share(1_000, 200)
STRANGERS = Share(200, 50)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Events that are counted together. `place` is that of strangers; empty for those beyond `PLACES`."""

    device: str | None
    place: str | None
    kind: Kind
    outcome: Outcome


class _TokenBucket:
    """What is left of a share: it fills up with time."""

    __slots__ = ("_at", "_left", "_share")

    def __init__(self, share: Share) -> None:
        self._share = share
        self._left = float(share.at_once)
        self._at = 0

    def take(self, now: int, *, leave: int = 0) -> bool:
        """Take one, if more than `leave` are left afterwards; whether that was so."""
        # A clock that was set back gives nothing and takes nothing.
        gained = max(0, now - self._at) * self._share.per_second / 1_000
        self._left = min(self._share.at_once, self._left + gained)
        self._at = now
        if self._left < leave + 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class _Written:
    """What was written of one device, or of the strangers of one place, in this minute.

    Of thousands of devices, most of which only came: so no container is made before it is needed.
    """

    first: tuple[tuple[Kind, Outcome], ...] = ()
    """Kind and outcome of each of the first events."""
    roots: tuple[tuple[str | None, str], ...] = ()
    """Rule and first level of the topic, of what was written for its topic."""
    more: int = 0
    """All others."""


class AuditRateLimit:
    """One for each consumer that can't take everything."""

    def __init__(self, *, devices: Share = DEVICES, strangers: Share = STRANGERS) -> None:
        self._devices = _TokenBucket(devices)
        self._strangers = _TokenBucket(strangers)
        self._kept_for_others = strangers.at_once // 2
        self._minute = -1
        self._of_device: dict[str, _Written] = {}
        self._of_place: dict[str, _Written] = {}

    def takes(self, event: AuditEvent, now: int) -> bool:
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
            return self._takes_device(event.device, event, now)
        return self._takes_stranger(_place(event), now)

    def _takes_device(self, device: str, event: AuditEvent, now: int) -> bool:
        written = self._of_device.get(device)
        if written is None:
            written = self._of_device[device] = _Written()
        what = event.kind, event.outcome
        if written.first.count(what) < FIRST:
            written.first += (what,)
            self._devices.take(now)
            return True
        if event.topic is not None and len(written.roots) < ROOTS:
            root = event.rule, event.topic.partition("/")[0]
            if root not in written.roots:
                written.roots += (root,)
                self._devices.take(now)
                return True
        if written.more < OF_A_DEVICE and self._devices.take(now):
            written.more += 1
            return True
        return False

    def _takes_stranger(self, place: str, now: int) -> bool:
        if place not in self._of_place and len(self._of_place) >= PLACES:
            place = ""
        written = self._of_place.setdefault(place, _Written())
        if written.more >= OF_A_PLACE:
            return False
        # One place alone uses up half of it: the other half is for those of whom little was written.
        if not self._strangers.take(now, leave=0 if written.more < FIRST else self._kept_for_others):
            return False
        written.more += 1
        return True


class Tally:
    """What was left out, until somebody writes how much."""

    def __init__(self) -> None:
        self._counts: dict[LeftOut, int] = {}
        self._places = 0

    def count(self, event: AuditEvent) -> None:
        """This is not written by itself."""
        place = None if _is_known(event) else _place(event)
        key = LeftOut(event.device if place is None else None, place, event.kind, event.outcome)
        if place and key not in self._counts:
            if self._places >= PLACES:
                key = LeftOut(None, "", event.kind, event.outcome)
            else:
                self._places += 1
        self._counts[key] = self._counts.get(key, 0) + event.count

    def take(self, most: int) -> list[tuple[LeftOut, int]]:
        """What was left out since the last question, at most `most`; those that wait longest first."""
        taken: list[tuple[LeftOut, int]] = []
        while self._counts and len(taken) < most:
            key = next(iter(self._counts))
            taken.append((key, self._counts.pop(key)))
            if key.place:
                self._places -= 1
        return taken


def _is_known(event: AuditEvent) -> bool:
    return event.source is Source.DEVICE and event.device is not None


def _place(event: AuditEvent) -> str:
    # Without the port.
    return place_of((event.address or "").rpartition(":")[0])
