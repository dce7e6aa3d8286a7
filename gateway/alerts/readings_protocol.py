"""Readings: the numbers that conditions compare, how they are named and asked for.

A reading has a name, and under it one series per set of labels; the numbers of a series over time are its
points. Owns the form alone: `gateway.observe` keeps the history; tests hand in a dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Pairs of label and value, in the order of the labels. Empty for a reading of a single series."""


class Readings(Protocol):
    """What was measured, by name. Names here are without the `gateway_` that they have in Prometheus."""

    def latest(self, name: str) -> Mapping[Labels, float]:
        """The newest number of each series of this name, without those that are no longer measured."""

    def since(self, name: str, seconds: int) -> Mapping[Labels, Sequence[tuple[int, float]]]:
        """What was measured in the last `seconds`: Unix milliseconds and number, the oldest first."""


@dataclass(frozen=True, slots=True)
class Series:
    """What is known of all series of one name before anything was measured."""

    labels: tuple[str, ...] = ()
    words: Mapping[str, float] = field(default_factory=dict)
    """The names that a condition may write for numbers that stand for states, such as "down"."""
    grows: bool = False
    """Whether it is a counter, and so has a rate."""
    span_most: int = 86_400
    """Seconds of its past that are kept."""


Catalogue: TypeAlias = Mapping[str, Series]
"""All names that a condition may use."""
