"""Readings of the history, and beside it newer ones: a lost bus is seen before the next sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.alerts.readings_protocol import Labels, Readings

Live = Callable[[], Mapping[Labels, float]]


class LiveReadings:
    """Readings of several sources, by name."""

    def __init__(self, history: Readings, live: Mapping[str, Live], others: Mapping[str, Readings]) -> None:
        """`live` gives the numbers of a name as they are this second; they replace or add to the history's.

        `others` are asked instead of the history, each for the names it stands under.
        """
        self._history = history
        self._live = live
        self._others = others

    def _of(self, name: str) -> Readings:
        return self._others.get(name, self._history)

    def latest(self, name: str) -> Mapping[Labels, float]:
        """The newest number of each series of this name."""
        found = self._of(name).latest(name)
        live = self._live.get(name)
        return found if live is None else {**found, **live()}

    def since(self, name: str, seconds: int) -> Mapping[Labels, Sequence[tuple[int, float]]]:
        """What was measured in the last `seconds`."""
        return self._of(name).since(name, seconds)
