"""`gateway-admin status --history`: the last 24 hours as small curves, from the store."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from gateway.cli.output import Failure
from gateway.cli.settings_policy_store import store_of

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.observe.history import History
    from gateway.observe.history_encoding import Labels

COLUMNS = 72
_BARS = "▁▂▃▄▅▆▇█"
_NOTHING = " "
_SERIES_MAX = 200
"""Series that are shown in one answer."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one series in the time that was asked for."""

    name: str
    labels: Labels
    points: Sequence[tuple[int, float]]
    """Unix milliseconds and value, oldest first."""

    def json(self) -> dict[str, object]:
        """As a script gets it."""
        return {
            "name": self.name,
            "labels": dict(self.labels),
            "points": [[at, value] for at, value in self.points],
        }


@dataclass(frozen=True, slots=True)
class _Shown:
    """A curve that is shown when no metric is asked for by name."""

    title: str
    name: str
    is_rate: bool = False
    """Whether its growth per second is shown, summed over all its series."""
    factor: float = 1.0
    unit: str = ""


SHOWN = (
    _Shown("connections", "connections"),
    _Shown("messages from devices", "messages_from_devices_total", is_rate=True, unit="/s"),
    _Shown("messages to devices", "messages_to_devices_total", is_rate=True, unit="/s"),
    _Shown("logins", "logins_total", is_rate=True, unit="/s"),
    _Shown("logins refused", "logins_refused_total", is_rate=True, unit="/s"),
    _Shown("publishes denied", "publishes_denied_total", is_rate=True, unit="/s"),
    _Shown("bus reachable", "bus_reachable"),
    _Shown("event loop late", "loop_lag_seconds", factor=1_000, unit=" ms"),
    _Shown("memory of the gateway", "process_resident_memory_bytes", factor=2**-20, unit=" MiB"),
    _Shown("CPU of the gateway", "process_cpu_seconds_total", is_rate=True, factor=100, unit=" %"),
    _Shown("CPU of the machine", "cpu_percent", unit=" %"),
    _Shown("memory of the machine", "memory_percent", unit=" %"),
    _Shown("disk free", "disk_free_percent", unit=" %"),
)


async def history_of(settings: Settings) -> History:
    """What the gateway with these settings has saved. Raises StoreError; Failure if there is nothing."""
    import time

    from gateway.observe.history import History
    from gateway.observe.history_encoding import Row, SeriesRow

    history = History()
    async with store_of(settings) as store:
        series, rows = await store.history.read()
    history.load(
        [SeriesRow(*one) for one in series], [Row(*one) for one in rows], time.time_ns() // 1_000_000
    )
    if not history.newest:
        raise Failure(
            "nothing is measured yet: a gateway saves its first numbers when it has run for some seconds"
        )
    return history


def answer(history: History, seconds: int, names: Sequence[str]) -> tuple[Mapping[str, object], list[str]]:
    """The object for a script, and the lines for people. Raises Failure if a name was not measured."""
    curves = list(_named(history, seconds, names)) if names else list(_usual(history, seconds))
    start = history.newest - seconds * 1_000
    value = {"since": start, "until": history.newest, "series": [curve.json() for curve, _, _ in curves]}
    first = min((curve.points[0][0] for curve, _, _ in curves), default=start)
    # If the gateway is new, show only the time for which it has measured, in whole minutes.
    begun = min(seconds, max(1, math.ceil((history.newest - first) / 60_000)) * 60)
    return value, _lines(history, begun, curves)


def _named(history: History, seconds: int, names: Sequence[str]) -> Iterator[tuple[Curve, str, str]]:
    count = 0
    for written in names:
        name = written.removeprefix("gateway_")
        found = history.since(name, seconds)
        if not found:
            raise Failure(
                f"nobody measured {written!r} in this time; there are: {', '.join(sorted(history.names()))}"
            )
        for labels, points in sorted(found.items()):
            count += 1
            if count > _SERIES_MAX:
                return
            inner = ", ".join(f"{label}={value}" for label, value in labels)
            yield Curve(name, labels, points), f"{name}{{{inner}}}" if inner else name, ""


def _usual(history: History, seconds: int) -> Iterator[tuple[Curve, str, str]]:
    for shown in SHOWN:
        found = history.since(shown.name, seconds)
        points = growth(found) if shown.is_rate else next(iter(found.values()), [])
        scaled = [(at, value * shown.factor) for at, value in points]
        if scaled:
            yield Curve(shown.title.replace(" ", "_"), (), scaled), shown.title, shown.unit


def growth(series: Mapping[Labels, Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
    """How much counters grew per second, from each point to the next. A restarted one began again at 0."""
    grown: dict[tuple[int, int], float] = {}
    for points in series.values():
        for (before_at, before), (at, value) in pairwise(points):
            interval = before_at, at
            grown[interval] = grown.get(interval, 0.0) + (value - before if value >= before else value)
    rates: dict[int, float] = {}
    for (before_at, at), growth_of in sorted(grown.items(), key=lambda one: one[0][1]):
        rates[at] = rates.get(at, 0.0) + growth_of * 1_000 / max(1, at - before_at)
    return sorted(rates.items())


def _lines(history: History, seconds: int, curves: Sequence[tuple[Curve, str, str]]) -> list[str]:
    start, until = history.newest - seconds * 1_000, history.newest
    width = max((len(title) for _, title, _ in curves), default=0)
    lines = [f"{'':{width}}  {_ago(seconds):<{COLUMNS - 3}}now"]
    for curve, title, unit in curves:
        values = [value for _, value in curve.points]
        extent = f"{_short(values[-1])}{unit}  ({_short(min(values))} to {_short(max(values))})"
        lines.append(f"{title:{width}}  {sparkline(curve.points, start, until)}  {extent}")
    return lines


def sparkline(points: Sequence[tuple[int, float]], start: int, until: int, columns: int = COLUMNS) -> str:
    """A curve that is one line high, with a gap where nothing was measured.

    A column shows the mean of its time. The scale goes from 0, or from the lowest value below it, to the
    highest, so that a curve that does not change is a flat line at its height.
    """
    sums, counts = [0.0] * columns, [0] * columns
    for at, value in points:
        column = min(columns - 1, max(0, (at - start) * columns // max(1, until - start)))
        sums[column] += value
        counts[column] += 1
    means = [total / count if count else math.nan for total, count in zip(sums, counts, strict=True)]
    there = [mean for mean in means if not math.isnan(mean)]
    least, most = min(0.0, *there, 0.0), max(there, default=0.0)
    span = most - least
    return "".join(
        _NOTHING
        if math.isnan(mean)
        else _BARS[min(len(_BARS) - 1, int((mean - least) / span * len(_BARS))) if span > 0 else 0]
        for mean in means
    )


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1_000 else f"{value:.0f}"


def _ago(seconds: int) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"
