"""What was measured in the last 24 hours, in memory: every 10 s for the last hour, every minute before.

Owns the rings, their bounds, and the form in which the store keeps them. Must not know what is measured, nor
who asks: alerts compare it, `gateway-admin status --history` draws it. Time comes from outside, and may jump.

Fixed in size: `SERIES_MAX` series of 1,800 numbers each are 7 MiB in memory, and less in the store. A series
that would be one more is left out and counted; one that had no value for a day makes room.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.observe.history_encoding import Labels, Row, SeriesRow, Unsaved, packed, unpacked

Samples: TypeAlias = Mapping[str, Mapping[Labels, float]]
"""Values by name and labels."""

FINE_SECONDS = 10
MINUTE_SECONDS = 60
FINE_SLOTS = 360
MINUTE_SLOTS = 1_440
SERIES_MAX = 450

_EARLY_MS = 9_000
"""A sample that comes sooner than this after the last one replaces it, so that the ring spans an hour."""
_DAY_MS = 86_400_000
_ROWS_AT_ONCE = 60
_NOTHING = math.nan


@dataclass(slots=True)
class _Ring:
    """When the samples of one resolution were taken; each series has its values at the same places."""

    size: int
    times: array[int] = field(init=False)
    taken: int = 0
    """The number of the next sample: the newest stands at `(taken - 1) % size`."""
    begin: int = 0
    """The number of the first there ever was."""

    def __post_init__(self) -> None:
        self.times = array("q", bytes(8 * self.size))

    def advance(self, at: int) -> int:
        """The place of a new sample, that of the oldest."""
        place = self.taken % self.size
        self.times[place] = at
        self.taken += 1
        return place

    @property
    def first(self) -> int:
        """The number of the oldest."""
        return max(self.begin, self.taken - self.size)

    @property
    def newest(self) -> int:
        """When the newest was taken; 0 when there is none."""
        return self.times[(self.taken - 1) % self.size] if self.taken > self.begin else 0

    @property
    def oldest(self) -> int:
        """When the oldest was taken; 0 when there is none."""
        return self.times[self.first % self.size] if self.taken > self.begin else 0

    def places(self, since: int, before: int | None = None) -> Iterator[int]:
        """Where the samples from `since` on and earlier than `before` stand, oldest first."""
        first = self.first
        for number in range(self.taken - 1, first - 1, -1):
            if self.times[number % self.size] < since:
                first = number + 1
                break
        for number in range(first, self.taken):
            place = number % self.size
            if before is None or self.times[place] < before:
                yield place

    def go_to(self, number: int, at: int) -> int:
        """The place of the sample of this number; those missing before it have the time of the last."""
        if self.taken == self.begin:
            self.begin = self.taken = number
        last = self.newest
        for missing in range(max(self.taken, number - self.size), number):
            self.times[missing % self.size] = last
        self.taken = number
        return self.advance(at)

    def set_back(self, newest: int, step_ms: int) -> None:
        """The newest is as old as `newest`: what is before keeps its order, and its distance up to a step."""
        for number in range(self.taken - 1, self.first - 1, -1):
            was = self.times[number % self.size]
            if was <= newest:
                return
            self.times[number % self.size] = newest
            if number > self.first:
                newest -= min(step_ms, was - self.times[(number - 1) % self.size])


class _Series:
    """The values of one series, at the places that the two rings give."""

    __slots__ = ("fine", "labels", "minutes", "name", "seen", "series_id")

    def __init__(self, row: SeriesRow, seen: int) -> None:
        self.series_id = row.series_id
        self.name = row.name
        self.labels = row.labels
        self.seen = seen
        """When it last had a value, Unix milliseconds."""
        self.fine = array("d", [_NOTHING]) * FINE_SLOTS
        self.minutes = array("d", [_NOTHING]) * MINUTE_SLOTS


class History:
    """The last 24 hours of every series."""

    def __init__(self, known: Collection[str] = (), last_of_minute: Collection[str] = ()) -> None:
        """`known` are names that may be asked for before they have a value.

        Of a minute its mean is kept, and of what only grows or names a state its last value: of the names in
        `last_of_minute`, and of those that end as Prometheus' counters do.
        """
        self._known = frozenset(known)
        self._last_of_minute = frozenset(last_of_minute)
        self._fine = _Ring(FINE_SLOTS)
        self._minutes = _Ring(MINUTE_SLOTS)
        self._series: dict[str, dict[Labels, _Series]] = {}
        self._count = 0
        self._next_id = 1
        self._new: list[SeriesRow] = []
        self._ended: list[int] = []
        self._marks = (0, 0)
        """The first number that the store does not have, of each ring."""
        self._moved = False
        """Whether times have changed that the store has."""
        self.left_out = 0
        """Series of the newest sample for which there was no room."""

    @property
    def series(self) -> int:
        """How many series it has."""
        return self._count

    @property
    def newest(self) -> int:
        """When the newest sample was taken, in Unix milliseconds; 0 without any."""
        return self._fine.newest

    def names(self) -> frozenset[str]:
        """All that may be asked for."""
        return self._known | self._series.keys()

    def latest(self, name: str) -> Mapping[Labels, float]:
        """The values of the newest sample; empty when it has none of this name."""
        if not self._fine.newest:
            return {}
        place = (self._fine.taken - 1) % FINE_SLOTS
        values = {labels: one.fine[place] for labels, one in self._series.get(name, {}).items()}
        return {labels: value for labels, value in values.items() if not math.isnan(value)}

    def since(self, name: str, seconds: float) -> Mapping[Labels, Sequence[tuple[int, float]]]:
        """Time (Unix milliseconds) and value of each sample of the last `seconds`, oldest first.

        Counted back from the newest sample. Of the last hour it is every 10 s, of what was before every
        minute.
        """
        first = self._fine.newest - int(seconds * 1_000)
        fine, minutes = self._fine, self._minutes
        fine_places = list(fine.places(first))
        # A minute stands at its end, so one that the fine ring begins to forget is known by its mean alone.
        minute_places = list(minutes.places(first, before=fine.oldest)) if first < fine.oldest else []
        found: dict[Labels, Sequence[tuple[int, float]]] = {}
        for labels, one in self._series.get(name, {}).items():
            points = [(minutes.times[place], one.minutes[place]) for place in minute_places]
            points += [(fine.times[place], one.fine[place]) for place in fine_places]
            if points := [point for point in points if not math.isnan(point[1])]:
                found[labels] = points
        return found

    def add(self, now_ms: int, samples: Samples) -> None:
        """What was measured now. What is no finite number is as good as not measured.

        After the clock was set back all that is here stays as old as it was: nothing is lost by it.
        """
        if now_ms < self._fine.newest:
            self._turn_back(now_ms)
        newest = self._fine.newest
        if newest and now_ms - newest < _EARLY_MS:
            place = (self._fine.taken - 1) % FINE_SLOTS
        else:
            if newest and now_ms // 60_000 != newest // 60_000:
                self._end_minute(newest // 60_000)
            place = self._fine.advance(now_ms)
        self._put(place, now_ms, samples)
        if not self._fine.taken % 6:
            self._drop_old(now_ms)

    def _put(self, place: int, now: int, samples: Samples) -> None:
        for of_name in self._series.values():
            for one in of_name.values():
                one.fine[place] = _NOTHING
        self.left_out = 0
        for name, values in samples.items():
            of_name = self._series.setdefault(name, {})
            for labels, value in values.items():
                if not math.isfinite(value):
                    continue
                known = of_name.get(labels) or self._added(name, labels, now)
                if known is None:
                    self.left_out += 1
                    continue
                known.fine[place] = value
                known.seen = now
            if not of_name:
                del self._series[name]

    def _added(self, name: str, labels: Labels, now: int) -> _Series | None:
        if self._count >= SERIES_MAX:
            return None
        row = SeriesRow(self._next_id, name, labels)
        self._new.append(row)
        return self._keep(row, now)

    def _keep(self, row: SeriesRow, seen: int) -> _Series:
        self._next_id = max(self._next_id, row.series_id + 1)
        self._count += 1
        one = _Series(row, seen)
        self._series.setdefault(row.name, {})[row.labels] = one
        return one

    def _end_minute(self, minute: int) -> None:
        """Keep one value of the minute for each series, at the time of its last sample."""
        since = max(minute * 60_000, self._minutes.newest + 1)
        places = list(self._fine.places(since, (minute + 1) * 60_000))
        if not places:
            return
        to = self._minutes.advance(self._fine.times[places[-1]])
        for name, of_name in self._series.items():
            last = name in self._last_of_minute or name.endswith(("_total", "_sum", "_count"))
            for one in of_name.values():
                values = [one.fine[place] for place in places if not math.isnan(one.fine[place])]
                if not values:
                    one.minutes[to] = _NOTHING
                else:
                    one.minutes[to] = values[-1] if last else math.fsum(values) / len(values)

    def _drop_old(self, now: int) -> None:
        """Series without a value for a day make room."""
        for name, of_name in list(self._series.items()):
            for labels, one in list(of_name.items()):
                if now - one.seen > _DAY_MS:
                    del of_name[labels]
                    self._count -= 1
                    self._ended.append(one.series_id)
            if not of_name:
                del self._series[name]

    def _turn_back(self, now: int) -> None:
        """The clock was set back to before the newest sample: make the samples as old as they were."""
        newest = now - FINE_SECONDS * 1_000
        behind = max(0, self._fine.newest - self._minutes.newest)
        self._fine.set_back(newest, FINE_SECONDS * 1_000)
        self._minutes.set_back(newest - behind, MINUTE_SECONDS * 1_000)
        for of_name in self._series.values():
            for one in of_name.values():
                one.seen = min(one.seen, newest)
        self._moved = True

    def unsaved(self) -> Unsaved | None:
        """Some of what the store does not have yet, the oldest first; None when it has all."""
        fine = self._rows(self._fine, FINE_SECONDS, self._marks[0])
        minutes = self._rows(self._minutes, MINUTE_SECONDS, self._marks[1])
        if fine:
            # A minute never without what it was made of: a killed gateway goes on after the last sample.
            minutes = [row for row in minutes if row.at <= fine[-1].at]
        if not (fine or minutes):
            return None
        moved: list[tuple[int, int, int]] = []
        if self._moved:
            moved += _times(self._fine, FINE_SECONDS, self._marks[0])
            moved += _times(self._minutes, MINUTE_SECONDS, self._marks[1])
            self._moved = False
        return Unsaved(
            series=tuple(self._new),
            ended=tuple(self._ended),
            rows=(*fine, *minutes),
            moved=moved,
            needed={FINE_SECONDS: self._fine.first, MINUTE_SECONDS: self._minutes.first},
            marks=(
                fine[-1].number + 1 if fine else self._marks[0],
                minutes[-1].number + 1 if minutes else self._marks[1],
            ),
        )

    def saved(self, unsaved: Unsaved) -> None:
        """The store has this now."""
        self._marks = unsaved.marks
        del self._new[: len(unsaved.series)]
        del self._ended[: len(unsaved.ended)]

    def not_saved(self, unsaved: Unsaved) -> None:
        """The store has nothing of this."""
        self._moved = self._moved or bool(unsaved.moved)

    def _rows(self, ring: _Ring, step: int, mark: int) -> list[Row]:
        first = max(mark, ring.first)
        rows: list[Row] = []
        for number in range(first, min(ring.taken, first + _ROWS_AT_ONCE)):
            place = number % ring.size
            ids, values = array("I"), array("d")
            for of_name in self._series.values():
                for one in of_name.values():
                    value = (one.fine if step == FINE_SECONDS else one.minutes)[place]
                    if not math.isnan(value):
                        ids.append(one.series_id)
                        values.append(value)
            rows.append(Row(step, number, ring.times[place], packed(ids, values)))
        return rows

    def load(self, series: Sequence[SeriesRow], rows: Sequence[Row], now_ms: int) -> int:
        """Go on from what the store has, by number; once, before anything is added.

        Returns how many rows are damaged: these are left out.
        """
        by_id: dict[int, _Series] = {}
        for known in series[:SERIES_MAX]:
            by_id[known.series_id] = self._keep(known, 0)
        self._next_id = max([self._next_id, *(known.series_id + 1 for known in series)])
        damaged = 0
        for row in rows:
            ring = {FINE_SECONDS: self._fine, MINUTE_SECONDS: self._minutes}.get(row.step)
            values = unpacked(row.values, SERIES_MAX)
            if ring is None or values is None or row.number < ring.taken or row.at < ring.newest:
                damaged += 1
                continue
            place = ring.go_to(row.number, row.at)
            for series_id, one in by_id.items():
                held = one.fine if ring is self._fine else one.minutes
                held[place] = values.get(series_id, _NOTHING)
                if series_id in values:
                    one.seen = max(one.seen, row.at)
        self._marks = self._fine.taken, self._minutes.taken
        if max(self._fine.newest, self._minutes.newest) > now_ms:
            self._turn_back(now_ms)
        self._ended += [known.series_id for known in series if known.series_id not in by_id]
        return damaged


def _times(ring: _Ring, step: int, before: int) -> list[tuple[int, int, int]]:
    """Step, number and time of each sample whose number is less."""
    return [(step, number, ring.times[number % ring.size]) for number in range(ring.first, before)]
