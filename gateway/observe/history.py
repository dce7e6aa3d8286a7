"""What was measured in the last 24 hours, in memory: every 10 s for the last hour, every minute before that.

Owns the ring buffers, and which samples the store has yet to save. Must not know what is measured, nor who
asks: alerts compare it, `gateway-admin status --history` draws it. Time comes from outside, and may jump.

A sample is all values of one moment; samples are numbered. A series is one metric with one set of labels.

Fixed in size: `SERIES_MAX` series of 1,800 numbers each are 7 MiB in memory, and less in the store. A series
beyond that is left out and counted; one that had no value for a day makes room.
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
"""From one sample to the next, in the two rings."""
FINE_SLOTS = 360
MINUTE_SLOTS = 1_440
"""Samples in each ring: an hour and a day."""
SERIES_MAX = 450
"""Series, of all metrics together."""

_EARLY_MS = 9_000
"""A sample that comes sooner than this after the last one replaces it, so that the fine ring spans an
hour."""
_DAY_MS = 86_400_000
_ROWS_AT_ONCE = 60
"""Samples of each ring in one save."""
_NOTHING = math.nan


@dataclass(slots=True)
class _Ring:
    """The times of the samples at one interval; each series has its values at the same positions."""

    size: int
    step_s: int
    """Seconds from one sample to the next."""
    times_ms: array[int] = field(init=False)
    """Unix milliseconds, by position."""
    next_number: int = 0
    """The number of the next sample: the newest stands at `(next_number - 1) % size`."""
    first_number: int = 0
    """The lowest number that this ring ever had, from the store or measured."""

    def __post_init__(self) -> None:
        self.times_ms = array("q", bytes(8 * self.size))

    def advance(self, at_ms: int) -> int:
        """Add a sample; returns its position, which was that of the oldest."""
        position = self.next_number % self.size
        self.times_ms[position] = at_ms
        self.next_number += 1
        return position

    @property
    def oldest_number(self) -> int:
        """The number of the oldest sample."""
        return max(self.first_number, self.next_number - self.size)

    @property
    def newest_ms(self) -> int:
        """When the newest sample was taken, Unix ms; 0 when there is none."""
        return (
            self.times_ms[(self.next_number - 1) % self.size] if self.next_number > self.first_number else 0
        )

    @property
    def oldest_ms(self) -> int:
        """When the oldest sample was taken, Unix ms; 0 when there is none."""
        return self.times_ms[self.oldest_number % self.size] if self.next_number > self.first_number else 0

    def positions(self, since_ms: int, before_ms: int | None = None) -> Iterator[int]:
        """The positions of the samples from `since_ms` on and earlier than `before_ms`, oldest first."""
        first = self.oldest_number
        for number in range(self.next_number - 1, first - 1, -1):
            if self.times_ms[number % self.size] < since_ms:
                first = number + 1
                break
        for number in range(first, self.next_number):
            position = number % self.size
            if before_ms is None or self.times_ms[position] < before_ms:
                yield position

    def add_numbered(self, number: int, at_ms: int) -> int:
        """Add the sample of this number; returns its position. Skipped ones get the time of the last one."""
        if self.next_number == self.first_number:
            self.first_number = self.next_number = number
        last_ms = self.newest_ms
        for missing in range(max(self.next_number, number - self.size), number):
            self.times_ms[missing % self.size] = last_ms
        self.next_number = number
        return self.advance(at_ms)

    def make_older(self, newest_ms: int) -> None:
        """Give the newest sample the time `newest_ms`.

        Older ones keep their order, and their distance if it is no more than `step_s`.
        """
        for number in range(self.next_number - 1, self.oldest_number - 1, -1):
            old_ms = self.times_ms[number % self.size]
            if old_ms <= newest_ms:
                return
            self.times_ms[number % self.size] = newest_ms
            if number > self.oldest_number:
                before_ms = self.times_ms[(number - 1) % self.size]
                newest_ms -= min(self.step_s * 1_000, old_ms - before_ms)


class _Series:
    """The values of one series, at the positions that the two rings give."""

    __slots__ = ("fine", "labels", "last_value_ms", "minutes", "name", "series_id")

    def __init__(self, row: SeriesRow, last_value_ms: int) -> None:
        self.series_id = row.series_id
        self.name = row.name
        self.labels = row.labels
        self.last_value_ms = last_value_ms
        """When it last had a value, Unix milliseconds."""
        self.fine = array("d", [_NOTHING]) * FINE_SLOTS
        self.minutes = array("d", [_NOTHING]) * MINUTE_SLOTS


class History:
    """The last 24 hours of every series."""

    def __init__(self, known: Collection[str] = (), last_of_minute: Collection[str] = ()) -> None:
        """`known` are names that may be asked for before they have a value.

        For a minute the mean is kept; but the last value of what stands for a state (`last_of_minute`), and
        of what only grows, as the names of Prometheus' counters end.
        """
        self._names = frozenset(known)
        self._last_of_minute = frozenset(last_of_minute)
        self._fine = _Ring(FINE_SLOTS, FINE_SECONDS)
        self._minutes = _Ring(MINUTE_SLOTS, MINUTE_SECONDS)
        self._series: dict[str, dict[Labels, _Series]] = {}
        self._count = 0
        self._next_id = 1
        self._new: list[SeriesRow] = []
        self._ended: list[int] = []
        self._unsaved_from = (0, 0)
        """The number of the first sample that the store does not have: of the fine ring, of the minutes."""
        self._stored_times_changed = False
        """Whether samples that the store has were given other times."""
        self.left_out = 0
        """Series of the newest sample for which there was no room."""

    @property
    def series(self) -> int:
        """How many series it has."""
        return self._count

    @property
    def newest(self) -> int:
        """When the newest sample was taken, in Unix milliseconds; 0 without any."""
        return self._fine.newest_ms

    def names(self) -> frozenset[str]:
        """All names that may be asked for."""
        return self._names | self._series.keys()

    def latest(self, name: str) -> Mapping[Labels, float]:
        """The values of the newest sample; empty when it has none of this name."""
        if not self._fine.newest_ms:
            return {}
        position = (self._fine.next_number - 1) % FINE_SLOTS
        values = {labels: one.fine[position] for labels, one in self._series.get(name, {}).items()}
        return {labels: value for labels, value in values.items() if not math.isnan(value)}

    def since(self, name: str, seconds: float) -> Mapping[Labels, Sequence[tuple[int, float]]]:
        """Time (Unix milliseconds) and value of each sample of the last `seconds`, oldest first.

        They are counted back from the newest sample: one every 10 s for the last hour, one a minute before.
        """
        first = self._fine.newest_ms - int(seconds * 1_000)
        fine, minutes = self._fine, self._minutes
        fine_positions = list(fine.positions(first))
        # A minute has the time of its last sample. While the fine ring has that sample, the fine samples that
        # are left stand for the minute; afterwards its one value does.
        minute_positions = (
            list(minutes.positions(first, before_ms=fine.oldest_ms)) if first < fine.oldest_ms else []
        )
        found: dict[Labels, Sequence[tuple[int, float]]] = {}
        for labels, one in self._series.get(name, {}).items():
            points = [(minutes.times_ms[position], one.minutes[position]) for position in minute_positions]
            points += [(fine.times_ms[position], one.fine[position]) for position in fine_positions]
            if points := [point for point in points if not math.isnan(point[1])]:
                found[labels] = points
        return found

    def add(self, now_ms: int, samples: Samples) -> None:
        """Add what was measured now. What is no finite number counts as not measured.

        If the clock was set back to before the newest sample, that one becomes ten seconds old, and older
        ones keep their distance from it. Only a gap becomes shorter, and what is before it may stay.
        """
        if now_ms < self._fine.newest_ms:
            self._make_older(now_ms)
        newest = self._fine.newest_ms
        if newest and now_ms - newest < _EARLY_MS:
            position = (self._fine.next_number - 1) % FINE_SLOTS
        else:
            if newest and now_ms // 60_000 != newest // 60_000:
                self._end_minute(newest // 60_000)
            position = self._fine.advance(now_ms)
        self._put(position, now_ms, samples)
        if not self._fine.next_number % 6:  # about once a minute
            self._drop_old(now_ms)

    def _put(self, position: int, now_ms: int, samples: Samples) -> None:
        for of_name in self._series.values():
            for one in of_name.values():
                one.fine[position] = _NOTHING
        self.left_out = 0
        for name, values in samples.items():
            of_name = self._series.setdefault(name, {})
            for labels, value in values.items():
                if not math.isfinite(value):
                    continue
                known = of_name.get(labels) or self._added(name, labels, now_ms)
                if known is None:
                    self.left_out += 1
                    continue
                known.fine[position] = value
                known.last_value_ms = now_ms
            if not of_name:
                del self._series[name]

    def _added(self, name: str, labels: Labels, now_ms: int) -> _Series | None:
        if self._count >= SERIES_MAX:
            return None
        row = SeriesRow(self._next_id, name, labels)
        self._new.append(row)
        return self._new_series(row, now_ms)

    def _new_series(self, row: SeriesRow, last_value_ms: int) -> _Series:
        self._next_id = max(self._next_id, row.series_id + 1)
        self._count += 1
        one = _Series(row, last_value_ms)
        self._series.setdefault(row.name, {})[row.labels] = one
        return one

    def _end_minute(self, minute: int) -> None:
        """Keep one value of the minute for each series, at the time of its last sample."""
        since = max(minute * 60_000, self._minutes.newest_ms + 1)
        positions = list(self._fine.positions(since, (minute + 1) * 60_000))
        if not positions:
            return
        to = self._minutes.advance(self._fine.times_ms[positions[-1]])
        for name, of_name in self._series.items():
            last = name in self._last_of_minute or name.endswith(("_total", "_sum", "_count"))
            for one in of_name.values():
                values = [one.fine[position] for position in positions if not math.isnan(one.fine[position])]
                if not values:
                    one.minutes[to] = _NOTHING
                else:
                    one.minutes[to] = values[-1] if last else math.fsum(values) / len(values)

    def _drop_old(self, now_ms: int) -> None:
        """Drop series that had no value for a day."""
        for name, of_name in list(self._series.items()):
            for labels, one in list(of_name.items()):
                if now_ms - one.last_value_ms > _DAY_MS:
                    del of_name[labels]
                    self._count -= 1
                    self._ended.append(one.series_id)
            if not of_name:
                del self._series[name]

    def _make_older(self, now_ms: int) -> None:
        """The clock was set back to before the newest sample: give the samples earlier times."""
        newest = now_ms - FINE_SECONDS * 1_000
        behind = max(0, self._fine.newest_ms - self._minutes.newest_ms)
        self._fine.make_older(newest)
        self._minutes.make_older(newest - behind)
        for of_name in self._series.values():
            for one in of_name.values():
                one.last_value_ms = min(one.last_value_ms, newest)
        self._stored_times_changed = True

    def unsaved(self) -> Unsaved | None:
        """Some of what the store does not have yet, the oldest first; None when it has all."""
        fine = self._rows(self._fine, self._unsaved_from[0])
        minutes = self._rows(self._minutes, self._unsaved_from[1])
        if fine:
            # No minute later than the last fine sample: from there the next process goes on after a kill.
            minutes = [row for row in minutes if row.at <= fine[-1].at]
        if not (fine or minutes):
            return None
        moved: list[tuple[int, int, int]] = []
        if self._stored_times_changed:
            moved += _times(self._fine, self._unsaved_from[0])
            moved += _times(self._minutes, self._unsaved_from[1])
            self._stored_times_changed = False
        return Unsaved(
            series=tuple(self._new),
            ended=tuple(self._ended),
            rows=(*fine, *minutes),
            moved=moved,
            needed={ring.step_s: ring.oldest_number for ring in (self._fine, self._minutes)},
            unsaved_from=(
                fine[-1].number + 1 if fine else self._unsaved_from[0],
                minutes[-1].number + 1 if minutes else self._unsaved_from[1],
            ),
        )

    def saved(self, unsaved: Unsaved) -> None:
        """The store has this now."""
        self._unsaved_from = unsaved.unsaved_from
        del self._new[: len(unsaved.series)]
        del self._ended[: len(unsaved.ended)]

    def not_saved(self, unsaved: Unsaved) -> None:
        """The store has nothing of this."""
        self._stored_times_changed = self._stored_times_changed or bool(unsaved.moved)

    def _rows(self, ring: _Ring, unsaved_from: int) -> list[Row]:
        first = max(unsaved_from, ring.oldest_number)
        rows: list[Row] = []
        for number in range(first, min(ring.next_number, first + _ROWS_AT_ONCE)):
            position = number % ring.size
            ids, values = array("I"), array("d")
            for of_name in self._series.values():
                for one in of_name.values():
                    value = (one.fine if ring is self._fine else one.minutes)[position]
                    if not math.isnan(value):
                        ids.append(one.series_id)
                        values.append(value)
            rows.append(Row(ring.step_s, number, ring.times_ms[position], packed(ids, values)))
        return rows

    def load(self, series: Sequence[SeriesRow], rows: Sequence[Row], now_ms: int) -> int:
        """Go on from what the store has, by number; once, before anything is added.

        What is no longer kept under its name makes room at once.

        Returns how many rows are damaged: these are left out.
        """
        by_id: dict[int, _Series] = {}
        wanted = [one for one in series if not self._names or one.name in self._names]
        for known in wanted[:SERIES_MAX]:
            by_id[known.series_id] = self._new_series(known, 0)
        self._next_id = max([self._next_id, *(known.series_id + 1 for known in series)])
        damaged = 0
        for row in rows:
            ring = {one.step_s: one for one in (self._fine, self._minutes)}.get(row.step_s)
            values = unpacked(row.values, SERIES_MAX)
            if ring is None or values is None or row.number < ring.next_number or row.at < ring.newest_ms:
                damaged += 1
                continue
            position = ring.add_numbered(row.number, row.at)
            for series_id, one in by_id.items():
                held = one.fine if ring is self._fine else one.minutes
                held[position] = values.get(series_id, _NOTHING)
                if series_id in values:
                    one.last_value_ms = max(one.last_value_ms, row.at)
        self._unsaved_from = self._fine.next_number, self._minutes.next_number
        if max(self._fine.newest_ms, self._minutes.newest_ms) > now_ms:
            self._make_older(now_ms)
        self._ended += [known.series_id for known in series if known.series_id not in by_id]
        return damaged


def _times(ring: _Ring, end_number: int) -> list[tuple[int, int, int]]:
    """Interval (s), number and time (Unix ms) of each sample with a number below `end_number`."""
    return [
        (ring.step_s, number, ring.times_ms[number % ring.size])
        for number in range(ring.oldest_number, end_number)
    ]
