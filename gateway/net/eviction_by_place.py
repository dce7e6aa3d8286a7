"""Peers that share a bound, by the place they come from: a crowd from one place displaces itself first.

Owns their order. Must not know what is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

_One = TypeVar("_One")


class PeersByPlace(Generic[_One]):
    """Peers in the order they came, and how many of each place.

    A place is an address as it is counted (`gateway.system.ip_address_blocks.place_of`).
    """

    __slots__ = ("_places", "all")

    def __init__(self) -> None:
        self.all: dict[_One, str] = {}
        """Place by peer, in the order they came. For reading only."""
        self._places: dict[str, dict[_One, None]] = {}

    def __len__(self) -> int:
        return len(self.all)

    def add(self, one: _One, place: str) -> None:
        """Add a peer, as the last that came."""
        self.all[one] = place
        self._places.setdefault(place, {})[one] = None

    def remove(self, one: _One) -> None:
        """Remove a peer; nothing happens if it is not there."""
        place = self.all.pop(one, None)
        if place is None:
            return
        same = self._places[place]
        del same[one]
        if not same:
            del self._places[place]

    def count(self, place: str) -> int:
        """How many came from there."""
        return len(self._places.get(place, ()))

    def of(self, place: str) -> Iterable[_One]:
        """Those who came from there, the oldest first."""
        return self._places.get(place, ())

    def largest(self) -> Iterable[_One]:
        """Those of the place that has the most, the oldest first."""
        return max(self._places.values(), key=len, default=())

    def __iter__(self) -> Iterator[_One]:
        """All of them, the oldest first."""
        return iter(self.all)

    def oldest(self) -> _One | None:
        """Who came first of all."""
        return next(iter(self.all), None)

    def first_to_go(self) -> tuple[_One, int]:
        """The oldest of the place that has the most, and how many that has. KeyError if there are none."""
        if not self.all:
            raise KeyError("nobody is there")
        most = max(self._places.values(), key=len)
        return next(iter(most)), len(most)
