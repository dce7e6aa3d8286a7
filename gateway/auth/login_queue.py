"""Who waits for a hash, and who is next: so that whoever guesses waits longer than those who don't.

Owns the order and its bounds. Decides without waiting, and is given the time; `gateway.auth.passwords`
runs the threads. Must not know secrets, sockets, or whether a device exists.

Turns go between networks (an IPv4 /24, an IPv6 /48) and within a network between places (an IPv4 address,
an IPv6 /64), so that many connections, or many addresses of one owner, give no more turns. Places with few
wrong logins of late go before those with more, and of two alike the one whose network has none. Three
standings share the turns:

    KNOWN     this device logged in from this place before    every other turn, whatever others did there
    SEEN      this device logged in lately, somewhere         every fourth turn
    UNKNOWN   all others                                      every fourth turn

A turn that its standing doesn't need is KNOWN's, then SEEN's, then an UNKNOWN one's. None can keep another
out: a storm of known devices after a restart leaves the unknown their quarter.

For example, 10.0.1.1 and 10.0.2.1 guess, and lamp-9, which nobody has seen, comes from 10.0.3.1: its network
has no wrong login, so it is next, however many wait from the other two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypeVar

_HALF_LIFE = 30.0
"""Seconds after which a wrong login counts half."""
_REMEMBERED_MAX = 16_384
"""Places, and networks, whose wrong logins are remembered; that with the oldest is forgotten first."""
_FEW = 8
"""Logins that may wait from a place that does nothing but guess; from a network four times as many."""
_FORBEARANCE = 5
"""The level of wrong logins, more than right ones, up to which all may wait: fewer than 16 of late. Of 400
devices that come at once from behind one address, some have a wrong password."""
_BYTES_A_UNIT = 1_024
"""A login weighs one unit, and one more for each of these many bytes that are kept until its turn."""


class Standing(IntEnum):
    """What is known of a login before anything is hashed."""

    KNOWN = 0
    """Its device logged in from this place before."""
    SEEN = 1
    """Its device logged in lately from elsewhere, and nobody was wrong at this place."""
    UNKNOWN = 2
    LATER = 3
    """No login: work that has time until no login waits."""


_CYCLE = (Standing.KNOWN, Standing.SEEN, Standing.KNOWN, Standing.UNKNOWN)
_LOGINS = (Standing.KNOWN, Standing.SEEN, Standing.UNKNOWN)
_JUDGED = (Standing.UNKNOWN, Standing.SEEN)
"""Whose place in the order depends on the wrong logins around them; those to lose first come first."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who wants a hash, as far as the order goes."""

    standing: Standing
    place: str
    """The address as it is counted (`gateway.system.addresses.network_of`)."""
    network: str
    """The block around it (`block_of`)."""
    size: int = 0
    """Bytes that are kept while it waits."""

    @property
    def weight(self) -> int:
        """What it takes of the room that there is."""
        return 1 + self.size // _BYTES_A_UNIT


class Ticket:
    """One place in the queue."""

    __slots__ = ("visitor",)

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor


class _Group:
    """What waits from one place or one network, by standing."""

    __slots__ = ("turn", "weight")

    def __init__(self) -> None:
        self.weight = [0] * len(Standing)
        self.turn = [0] * len(Standing)
        """When it last had its turn, or came: the lowest is next."""


class _Place(_Group):
    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: tuple[dict[Any, None], ...] = tuple({} for _ in Standing)


class _Network(_Group):
    __slots__ = ("places",)

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, _Place] = {}


_AnyTicket = TypeVar("_AnyTicket", bound=Ticket)
_AnyGroup = TypeVar("_AnyGroup", _Place, _Network)


class WrongLogins:
    """How many were wrong of late, by name: each counts half as much after thirty seconds."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def count(self, name: str, now: float) -> None:
        """One more."""
        self._counts[name] = (self._of(name, now) + 1, now)
        self._counts.move_to_end(name)
        if len(self._counts) > _REMEMBERED_MAX:
            self._counts.popitem(last=False)

    def make_up(self, name: str, now: float) -> None:
        """One less, if there is one: none is saved up."""
        if name in self._counts:
            self._counts[name] = (max(0.0, self._of(name, now) - 1), now)

    def level(self, name: str, now: float) -> int:
        """0 for none to speak of, then one more for each doubling: 2 for one, 3 for two, 8 for 64."""
        count = self._of(name, now)
        return 0 if count < 0.5 else 1 + int(count).bit_length()

    def _of(self, name: str, now: float) -> float:
        count, since = self._counts.get(name, (0.0, now))
        return float(count * 0.5 ** ((now - since) / _HALF_LIFE))


class LoginQueue(Generic[_AnyTicket]):
    """The order of those who wait. `now` is of any clock that only goes forward, in seconds."""

    def __init__(self, most: int) -> None:
        """Logins of `most` units in all may wait, and as much of what has time."""
        self._most = most
        self._networks: dict[str, _Network] = {}
        self._weight = [0] * len(Standing)
        self._turn = 0
        self._arrivals = 0
        self._wrong_there = WrongLogins()
        self._wrong_around = WrongLogins()
        self._guesses_there = WrongLogins()
        """Those that no right login makes up for: by them is judged how many may wait, and not the order."""
        self._guesses_around = WrongLogins()

    def __len__(self) -> int:
        return sum(
            len(line)
            for network in self._networks.values()
            for place in network.places.values()
            for line in place.lines
        )

    def is_clean(self, place: str, network: str, now: float) -> bool:
        """Whether nobody was wrong there of late."""
        return not (self._wrong_there.level(place, now) or self._wrong_around.level(network, now))

    def add(self, ticket: _AnyTicket) -> None:
        """Let it wait. Ask `crowded` afterwards."""
        visitor = ticket.visitor
        network = self._networks.setdefault(visitor.network, _Network())
        place = network.places.setdefault(visitor.place, _Place())
        for group in (network, place):
            if not group.weight[visitor.standing]:
                group.turn[visitor.standing] = self._next_arrival()  # no turns are saved up
        place.lines[visitor.standing][ticket] = None
        self._weigh(network, place, visitor, visitor.weight)

    def remove(self, ticket: _AnyTicket) -> None:
        """It waits no more; nothing happens if it did not."""
        visitor = ticket.visitor
        network = self._networks.get(visitor.network)
        place = None if network is None else network.places.get(visitor.place)
        if network is None or place is None or ticket not in place.lines[visitor.standing]:
            return
        del place.lines[visitor.standing][ticket]
        self._weigh(network, place, visitor, -visitor.weight)
        if not any(place.weight):
            del network.places[visitor.place]
        if not network.places:
            del self._networks[visitor.network]

    def next(self, now: float, *, later: bool = True) -> _AnyTicket | None:
        """Take out whose turn it is. What has time (LATER) only if `later`, and if no login waits."""
        standing = self._standing_next(later=later)
        if standing is None:
            return None
        network = self._next_network(standing, now)
        place = self._next_place(network, standing, now)
        ticket: _AnyTicket = next(iter(place.lines[standing]))
        self._turn += 1
        network.turn[standing] = place.turn[standing] = self._next_arrival()
        self.remove(ticket)
        return ticket

    def clear(self) -> list[_AnyTicket]:
        """Take out all who wait, in no order."""
        waiting = [
            ticket
            for network in self._networks.values()
            for place in network.places.values()
            for line in place.lines
            for ticket in line
        ]
        for ticket in waiting:
            self.remove(ticket)
        return waiting

    def wrong(self, visitor: Visitor, now: float) -> list[_AnyTicket]:
        """Its login was wrong. The answer: who has to go, for no more than a few may wait from there now."""
        self._wrong_there.count(visitor.place, now)
        self._wrong_around.count(visitor.network, now)
        self._guesses_there.count(visitor.place, now)
        self._guesses_around.count(visitor.network, now)
        return self.crowded(visitor, now)

    def right(self, visitor: Visitor, now: float) -> None:
        """Its login was right, and cost a hash: where this comes with wrong ones, nobody guesses."""
        self._guesses_there.make_up(visitor.place, now)
        self._guesses_around.make_up(visitor.network, now)

    def crowded(self, visitor: Visitor, now: float) -> list[_AnyTicket]:
        """Take out who is too many, there where this one came from or in all, and say who they are.

        Of those who are too many the last to come goes first, of the place with the most wrong logins and
        the longest line, of a standing that has more than its share.
        """
        gone: list[_AnyTicket] = []
        self._cut_down(visitor, now, gone)
        while self._weight[Standing.LATER] > self._most:
            self._drop(Standing.LATER, now, gone)
        while sum(self._weight[standing] for standing in _LOGINS) > self._most:
            self._drop(self._standing_with_too_many(), now, gone)
        return gone

    def _cut_down(self, visitor: Visitor, now: float, gone: list[_AnyTicket]) -> None:
        network = self._networks.get(visitor.network)
        if network is None:
            return
        place = network.places.get(visitor.place)
        if place is not None:
            room = self._room(self._guesses_there.level(visitor.place, now))
            while sum(place.weight[standing] for standing in _JUDGED) > room:
                standing = next(one for one in _JUDGED if place.weight[one])
                self._let_go(place, standing, gone)
        room = 4 * self._room(self._guesses_around.level(visitor.network, now))
        while sum(network.weight[standing] for standing in _JUDGED) > room:
            standing = next(one for one in _JUDGED if network.weight[one])
            self._let_go(self._worst(network.places, self._wrong_there, standing, now), standing, gone)

    def _room(self, level: int) -> int:
        """How much may wait there: a quarter for each doubling above what is borne, but always a few."""
        return max(_FEW, self._most >> max(0, 2 * (level - _FORBEARANCE)))

    def _drop(self, standing: Standing, now: float, gone: list[_AnyTicket]) -> None:
        network = self._worst(self._networks, self._wrong_around, standing, now)
        self._let_go(self._worst(network.places, self._wrong_there, standing, now), standing, gone)

    def _let_go(self, place: _Place, standing: Standing, gone: list[_AnyTicket]) -> None:
        ticket = next(reversed(place.lines[standing]))
        self.remove(ticket)
        gone.append(ticket)

    def _standing_next(self, *, later: bool) -> Standing | None:
        for standing in (_CYCLE[self._turn % len(_CYCLE)], *_LOGINS):
            if self._weight[standing]:
                return standing
        return Standing.LATER if later and self._weight[Standing.LATER] else None

    def _standing_with_too_many(self) -> Standing:
        for standing in (Standing.UNKNOWN, Standing.SEEN):
            if self._weight[standing] > self._most // 4:
                return standing
        return Standing.KNOWN

    def _next_network(self, standing: Standing, now: float) -> _Network:
        def key(named: tuple[str, _Network]) -> tuple[int, int]:
            name, network = named
            if standing is Standing.KNOWN:
                # Whatever unknown devices do at a place, it costs the devices that are known there nothing.
                return 0, network.turn[standing]
            # By the best of its places: a neighbour that guesses costs little. Not nothing: an owner of many
            # places may guess from one after the other.
            best = min(
                self._wrong_there.level(place, now)
                for place, group in network.places.items()
                if group.weight[standing]
            )
            return best + (self._wrong_around.level(name, now) > 0), network.turn[standing]

        return min((one for one in self._networks.items() if one[1].weight[standing]), key=key)[1]

    def _next_place(self, network: _Network, standing: Standing, now: float) -> _Place:
        def key(named: tuple[str, _Place]) -> tuple[int, int]:
            name, place = named
            level = 0 if standing is Standing.KNOWN else self._wrong_there.level(name, now)
            return level, place.turn[standing]

        return min((one for one in network.places.items() if one[1].weight[standing]), key=key)[1]

    def _worst(
        self, groups: Mapping[str, _AnyGroup], wrong: WrongLogins, standing: Standing, now: float
    ) -> _AnyGroup:
        def key(name: str) -> tuple[int, int]:
            return wrong.level(name, now), groups[name].weight[standing]

        return groups[max((name for name, group in groups.items() if group.weight[standing]), key=key)]

    def _weigh(self, network: _Network, place: _Place, visitor: Visitor, change: int) -> None:
        for weights in (self._weight, network.weight, place.weight):
            weights[visitor.standing] += change

    def _next_arrival(self) -> int:
        self._arrivals += 1
        return self._arrivals
