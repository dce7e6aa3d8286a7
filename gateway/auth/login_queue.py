"""Who waits for a hash, and who is next: those who guess secrets wait longer than those who don't.

Owns the order and its bounds. Decides at once, and is given the time; `gateway.auth.passwords` runs the
threads. Must not know secrets, sockets, or whether a device exists. Each login that needs a hash is one hash
request. Hashing a new secret in order to store it is a request, too, of standing BACKGROUND.

Slots, each for one hash in a thread, are given to networks in turn, and within a network to places in turn. A
place is an address as it is counted: an IPv4 address, an IPv6 /64
(`gateway.system.ip_address_blocks.place_of`). A network is the block round it: an IPv4 /24, an IPv6 /48
(`gateway.system.ip_address_blocks.network_of`). Thus nobody gets more slots by many connections, or by many
addresses. Places with fewer recent wrong logins come first; on a tie, the place in a network without wrong
logins. A login has one of three standings (what is known of it before anything is hashed), which share the
slots:

    KNOWN     this device logged in from this place before    every other slot, whatever others did there
    SEEN      it logged in lately from elsewhere, and place   every fourth slot
              and network have no recent wrong login
    UNKNOWN   all others                                      every fourth slot

If no request of a standing waits, its slot goes to KNOWN, else to SEEN, else to UNKNOWN. No standing can
starve another: when many known devices log in after a restart, unknown ones still get every fourth slot.

For example, 10.0.1.1 and 10.0.2.1 guess, and lamp-9, which has never logged in, comes from 10.0.3.1: its
network has no wrong login, so it is next, however many wait from the other two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypeVar

_HALF_LIFE = 30.0
"""Seconds after which a wrong login counts only half; "recent" below means weighted so."""
_REMEMBERED_MAX = 16_384
"""Places, and as many networks, whose wrong logins are remembered; the oldest ones are forgotten first."""
_UNITS_MIN = 8
"""Units that may wait from a place that only guesses; four times as many from a network."""
_TOLERATED_LEVEL = 5
"""Level (`WrongLogins.level`) of wrong minus right logins up to which a place may have all its requests wait:
fewer than 16 recent ones. Of 400 devices that come at once through one NAT, some have a wrong password."""
_BYTES_PER_UNIT = 1_024
"""A hash request counts as one unit, plus one for every so many bytes that are held while it waits."""


class Standing(IntEnum):
    """What is known of a hash request before anything is hashed."""

    KNOWN = 0
    """Its device logged in from this place before."""
    SEEN = 1
    """Its device logged in lately (`recent_logins.DAYS`) from elsewhere, and neither place nor network had a
    recent wrong login."""
    UNKNOWN = 2
    """Neither of these."""
    BACKGROUND = 3
    """Not a login: a new secret is to be hashed and stored. It waits until no login does."""


_CYCLE = (Standing.KNOWN, Standing.SEEN, Standing.KNOWN, Standing.UNKNOWN)
"""Which standing each slot is for, again and again."""
_LOGINS = (Standing.KNOWN, Standing.SEEN, Standing.UNKNOWN)
"""The standings of logins, in the order in which they get a slot that is free."""
_BY_WRONG_LOGINS = (Standing.UNKNOWN, Standing.SEEN)
"""The standings whose places are ordered by their wrong logins; the first is evicted first."""


@dataclass(frozen=True, slots=True)
class HashRequest:
    """What the order of hash requests depends on."""

    standing: Standing
    place: str
    """The address as it is counted (`gateway.system.ip_address_blocks.place_of`)."""
    network: str
    """The block round it (`gateway.system.ip_address_blocks.network_of`)."""
    size: int = 0
    """Bytes that are held while it waits."""

    @property
    def units(self) -> int:
        """As how many requests it counts against the bounds of the queue."""
        return 1 + self.size // _BYTES_PER_UNIT


class Waiter:
    """A hash request in the queue. A subclass has what is needed to notify its owner of a slot."""

    __slots__ = ("request",)

    def __init__(self, request: HashRequest) -> None:
        self.request = request


class _PlaceOrNetwork:
    """Who waits from one place or one network, by standing."""

    __slots__ = ("last_served", "units")

    def __init__(self) -> None:
        self.units = [0] * len(Standing)
        """Units of its waiters."""
        self.last_served = [0] * len(Standing)
        """Serial number of the moment when it last got a slot, or began to wait: the lowest is next."""


class _Place(_PlaceOrNetwork):
    __slots__ = ("waiting",)

    def __init__(self) -> None:
        super().__init__()
        self.waiting: tuple[dict[Any, None], ...] = tuple({} for _ in Standing)
        """Its waiters, in the order in which they came."""


class _Network(_PlaceOrNetwork):
    __slots__ = ("places",)

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, _Place] = {}


_AnyWaiter = TypeVar("_AnyWaiter", bound=Waiter)
_AnyPlaceOrNetwork = TypeVar("_AnyPlaceOrNetwork", _Place, _Network)


class WrongLogins:
    """How many recent logins were wrong, by place or network: each counts half as much after 30 seconds."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, name: str, now: float) -> None:
        """One more."""
        self._counts[name] = (self._of(name, now) + 1, now)
        self._counts.move_to_end(name)
        if len(self._counts) > _REMEMBERED_MAX:
            self._counts.popitem(last=False)

    def offset_one(self, name: str, now: float) -> None:
        """One less, if there is one: right logins don't offset wrong ones that come later."""
        if name in self._counts:
            self._counts[name] = (max(0.0, self._of(name, now) - 1), now)

    def level(self, name: str, now: float) -> int:
        """0 below half a login, 1 below one, then one more for each doubling: 2 for one, 8 for 64."""
        count = self._of(name, now)
        return 0 if count < 0.5 else 1 + int(count).bit_length()

    def _of(self, name: str, now: float) -> float:
        count, since = self._counts.get(name, (0.0, now))
        return float(count * 0.5 ** ((now - since) / _HALF_LIFE))


class LoginQueue(Generic[_AnyWaiter]):
    """The waiting hash requests in their order. `now` is of any monotonic clock, in seconds."""

    def __init__(self, units_max: int) -> None:
        """Logins of `units_max` units in all may wait, and as many units again of standing BACKGROUND."""
        self._units_max = units_max
        self._networks: dict[str, _Network] = {}
        self._units = [0] * len(Standing)
        self._slots_given = 0
        """How many slots were given, which says where in `_CYCLE` we are."""
        self._last_serial = 0
        self._wrong_by_place = WrongLogins()
        self._wrong_by_network = WrongLogins()
        self._guesses_by_place = WrongLogins()
        """Wrong logins, less the right ones: these limit how many may wait, and don't affect the order."""
        self._guesses_by_network = WrongLogins()

    def __len__(self) -> int:
        return sum(
            len(waiters)
            for network in self._networks.values()
            for place in network.places.values()
            for waiters in place.waiting
        )

    def is_clean(self, place: str, network: str, now: float) -> bool:
        """Whether neither the place nor the network had a recent wrong login."""
        return not (self._wrong_by_place.level(place, now) or self._wrong_by_network.level(network, now))

    def add(self, waiter: _AnyWaiter) -> None:
        """Put this one into the queue. Call `evict_excess` afterwards."""
        request = waiter.request
        network = self._networks.setdefault(request.network, _Network())
        place = network.places.setdefault(request.place, _Place())
        for counted in (network, place):
            if not counted.units[request.standing]:
                # Without waiters of this standing it has lost its turn: it starts at the end again.
                counted.last_served[request.standing] = self._next_serial()
        place.waiting[request.standing][waiter] = None
        self._add_units(network, place, request, request.units)

    def remove(self, waiter: _AnyWaiter) -> None:
        """Take this one out of the queue, if it is in it."""
        request = waiter.request
        network = self._networks.get(request.network)
        place = None if network is None else network.places.get(request.place)
        if network is None or place is None or waiter not in place.waiting[request.standing]:
            return
        del place.waiting[request.standing][waiter]
        self._add_units(network, place, request, -request.units)
        if not any(place.units):
            del network.places[request.place]
        if not network.places:
            del self._networks[request.network]

    def next(self, now: float, *, background: bool = True) -> _AnyWaiter | None:
        """Take out the next one. Those of standing BACKGROUND only if `background`, and if no login waits."""
        standing = self._standing_next(background=background)
        if standing is None:
            return None
        network = self._next_network(standing, now)
        place = self._next_place(network, standing, now)
        waiter: _AnyWaiter = next(iter(place.waiting[standing]))
        self._slots_given += 1
        network.last_served[standing] = place.last_served[standing] = self._next_serial()
        self.remove(waiter)
        return waiter

    def clear(self) -> list[_AnyWaiter]:
        """Take out all, in no particular order."""
        waiting = [
            waiter
            for network in self._networks.values()
            for place in network.places.values()
            for waiters in place.waiting
            for waiter in waiters
        ]
        for waiter in waiting:
            self.remove(waiter)
        return waiting

    def count_wrong(self, request: HashRequest, now: float) -> list[_AnyWaiter]:
        """Its login was wrong. Returns those that are evicted, since fewer may wait from its place now."""
        self._wrong_by_place.count(request.place, now)
        self._wrong_by_network.count(request.network, now)
        self._guesses_by_place.count(request.place, now)
        self._guesses_by_network.count(request.network, now)
        return self.evict_excess(request, now)

    def count_right(self, request: HashRequest, now: float) -> None:
        """Its login was right, and cost a hash: a place with right logins, too, is probably not guessing."""
        self._guesses_by_place.offset_one(request.place, now)
        self._guesses_by_network.offset_one(request.network, now)

    def evict_excess(self, request: HashRequest, now: float) -> list[_AnyWaiter]:
        """Take out and return those in excess of a bound: of its place or network, or of the whole queue.

        For the whole queue the newest one of the worst place in the worst network goes first, of a standing
        that has more than its share: of the logins UNKNOWN or SEEN with over a quarter, else KNOWN. Worst is
        the most wrong logins, on a tie the most units. For a place or network UNKNOWN goes first, then SEEN;
        KNOWN is not bounded there.
        """
        evicted: list[_AnyWaiter] = []
        self._evict_around(request, now, evicted)
        while self._units[Standing.BACKGROUND] > self._units_max:
            self._evict_worst(Standing.BACKGROUND, now, evicted)
        while sum(self._units[standing] for standing in _LOGINS) > self._units_max:
            self._evict_worst(self._standing_with_too_many(), now, evicted)
        return evicted

    def _evict_around(self, request: HashRequest, now: float, evicted: list[_AnyWaiter]) -> None:
        network = self._networks.get(request.network)
        if network is None:
            return
        place = network.places.get(request.place)
        if place is not None:
            allowed = self._units_allowed(self._guesses_by_place.level(request.place, now))
            while sum(place.units[standing] for standing in _BY_WRONG_LOGINS) > allowed:
                standing = next(one for one in _BY_WRONG_LOGINS if place.units[one])
                self._evict_last(place, standing, evicted)
        allowed = 4 * self._units_allowed(self._guesses_by_network.level(request.network, now))
        while sum(network.units[standing] for standing in _BY_WRONG_LOGINS) > allowed:
            standing = next(one for one in _BY_WRONG_LOGINS if network.units[one])
            worst = self._worst(network.places, self._wrong_by_place, standing, now)
            self._evict_last(worst, standing, evicted)

    def _units_allowed(self, level: int) -> int:
        """Units that may wait at this level: all up to the tolerated one, then a quarter of the one below."""
        return max(_UNITS_MIN, self._units_max >> max(0, 2 * (level - _TOLERATED_LEVEL)))

    def _evict_worst(self, standing: Standing, now: float, evicted: list[_AnyWaiter]) -> None:
        network = self._worst(self._networks, self._wrong_by_network, standing, now)
        worst = self._worst(network.places, self._wrong_by_place, standing, now)
        self._evict_last(worst, standing, evicted)

    def _evict_last(self, place: _Place, standing: Standing, evicted: list[_AnyWaiter]) -> None:
        waiter = next(reversed(place.waiting[standing]))
        self.remove(waiter)
        evicted.append(waiter)

    def _standing_next(self, *, background: bool) -> Standing | None:
        for standing in (_CYCLE[self._slots_given % len(_CYCLE)], *_LOGINS):
            if self._units[standing]:
                return standing
        return Standing.BACKGROUND if background and self._units[Standing.BACKGROUND] else None

    def _standing_with_too_many(self) -> Standing:
        for standing in (Standing.UNKNOWN, Standing.SEEN):
            if self._units[standing] > self._units_max // 4:
                return standing
        return Standing.KNOWN

    def _next_network(self, standing: Standing, now: float) -> _Network:
        def key(named: tuple[str, _Network]) -> tuple[int, int]:
            name, network = named
            if standing is Standing.KNOWN:
                # Whatever unknown devices do at a place, devices that are known there keep their turn.
                return 0, network.last_served[standing]
            # By the best of its places, so that a neighbour that guesses does little harm. It does some, for
            # the owner of many places may guess from one after the other.
            best = min(
                self._wrong_by_place.level(place, now)
                for place, waiting in network.places.items()
                if waiting.units[standing]
            )
            return best + (self._wrong_by_network.level(name, now) > 0), network.last_served[standing]

        return min((one for one in self._networks.items() if one[1].units[standing]), key=key)[1]

    def _next_place(self, network: _Network, standing: Standing, now: float) -> _Place:
        def key(named: tuple[str, _Place]) -> tuple[int, int]:
            name, place = named
            level = 0 if standing is Standing.KNOWN else self._wrong_by_place.level(name, now)
            return level, place.last_served[standing]

        return min((one for one in network.places.items() if one[1].units[standing]), key=key)[1]

    def _worst(
        self, candidates: Mapping[str, _AnyPlaceOrNetwork], wrong: WrongLogins, standing: Standing, now: float
    ) -> _AnyPlaceOrNetwork:
        def key(name: str) -> tuple[int, int]:
            return wrong.level(name, now), candidates[name].units[standing]

        return candidates[
            max((name for name, waiting in candidates.items() if waiting.units[standing]), key=key)
        ]

    def _add_units(self, network: _Network, place: _Place, request: HashRequest, change: int) -> None:
        for units in (self._units, network.units, place.units):
            units[request.standing] += change

    def _next_serial(self) -> int:
        self._last_serial += 1
        return self._last_serial
