"""Readings by hand: what a history would answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.alerts.readings_protocol import Labels

NOW = 1_790_000_000_000


def labels(**values: str) -> Labels:
    return tuple(values.items())


class Measured:
    """Numbers by name and labels; of counters their past, as seconds before now and number."""

    def __init__(self, **numbers: float | Mapping[Labels, float]) -> None:
        self.numbers = {
            name: dict(value) if isinstance(value, Mapping) else {(): value}
            for name, value in numbers.items()
        }
        self.past: dict[str, dict[Labels, list[tuple[int, float]]]] = {}
        self.now = NOW

    def counted(self, name: str, *points: tuple[float, float], of: Labels = ()) -> Measured:
        """A point is seconds before now, and the count."""
        self.past.setdefault(name, {})[of] = [(self.now - int(ago * 1_000), count) for ago, count in points]
        return self

    def latest(self, name: str) -> Mapping[Labels, float]:
        return self.numbers.get(name, {})

    def since(self, name: str, seconds: int) -> Mapping[Labels, Sequence[tuple[int, float]]]:
        first = self.now - seconds * 1_000
        found = {
            of: [point for point in points if point[0] >= first]
            for of, points in self.past.get(name, {}).items()
        }
        return {of: points for of, points in found.items() if points}
