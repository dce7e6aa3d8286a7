"""Who waits for a hash, and who is next: so that whoever guesses waits longer than those who don't.

Owns the order and its bounds. Decides without waiting, and is given the time; `gateway.auth.passwords`
runs the threads. Must not know secrets, sockets, or whether a device exists.

Slots, each for one hash in a thread, go between networks, and within a network between places. A place is an
address as it is counted: an IPv4 address, an IPv6 /64 (`gateway.system.ip_address_blocks.place_of`). A
network is the block round it: an IPv4 /24, an IPv6 /48 (`gateway.system.ip_address_blocks.network_of`). So
many connections, or many addresses of one owner, give no more slots. Places with few wrong logins of late go
before those with more; on a tie, the place in a network without wrong logins. A login has one of three
standings (what is known of it before anything is hashed), which share the slots:

    KNOWN     this device logged in from this place before    every other slot, whatever others did there
    SEEN      it logged in lately from elsewhere, and place   every fourth slot
              and network have no wrong login of late
    UNKNOWN   all others                                      every fourth slot

A slot that its standing doesn't need is KNOWN's, then SEEN's, then an UNKNOWN one's. None can keep another
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
_ROOM_LEAST = 8
"""Units of weight that may wait from a place that only guesses; from a network four times as many."""
_FORBEARANCE = 5
"""Level of wrong logins, less the right ones, up to which the room is not reduced: fewer than 16 of late. Of
400 devices that come at once from behind one address, some have a wrong password."""
_BYTES_A_UNIT = 1_024
"""A login weighs one unit, and one more for each of these many bytes that are kept until it has a slot."""


class Standing(IntEnum):
    """What is known of a login before anything is hashed."""

    KNOWN = 0
    """Its device logged in from this place before."""
    SEEN = 1
    """Its device logged in lately from elsewhere, and neither place nor network had a wrong login of late."""
    UNKNOWN = 2
    LATER = 3
    """No login: work that waits until no login does."""


_CYCLE = (Standing.KNOWN, Standing.SEEN, Standing.KNOWN, Standing.UNKNOWN)
_LOGINS = (Standing.KNOWN, Standing.SEEN, Standing.UNKNOWN)
_BY_WRONG_LOGINS = (Standing.UNKNOWN, Standing.SEEN)
"""The standings whose places go by their wrong logins; the first is evicted first."""


@dataclass(frozen=True, slots=True)
class QueuedLogin:
    """Who wants a hash, as far as the order goes."""

    standing: Standing
    place: str
    """The address as it is counted (`gateway.system.ip_address_blocks.place_of`)."""
    network: str
    """The block round it (`gateway.system.ip_address_blocks.network_of`)."""
    size: int = 0
    """Bytes that are kept while it waits."""

    @property
    def weight(self) -> int:
        """Units of room that it takes."""
        return 1 + self.size // _BYTES_A_UNIT


class Ticket:
    """The place of one login in the queue. `login` is what the order needs to know of it."""

    __slots__ = ("login",)

    def __init__(self, login: QueuedLogin) -> None:
        self.login = login


class _Group:
    """What waits from one place or one network, by standing."""

    __slots__ = ("order", "weight")

    def __init__(self) -> None:
        self.weight = [0] * len(Standing)
        self.order = [0] * len(Standing)
        """A number from when it last had a slot, or came: the lowest is next."""


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
    """How many were wrong of late, by place or by network: each counts half as much after thirty seconds."""

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
        """Logins of `most` units in all may wait, and as many units of work of standing LATER."""
        self._units_max = most
        self._networks: dict[str, _Network] = {}
        self._weight = [0] * len(Standing)
        self._slots_given = 0
        """How far `_CYCLE` has gone."""
        self._last_order = 0
        self._wrong_by_place = WrongLogins()
        self._wrong_by_network = WrongLogins()
        self._guesses_by_place = WrongLogins()
        """Wrong logins not offset by right ones: they set how many may wait, not the order."""
        self._guesses_by_network = WrongLogins()

    def __len__(self) -> int:
        return sum(
            len(line)
            for network in self._networks.values()
            for place in network.places.values()
            for line in place.lines
        )

    def is_clean(self, place: str, network: str, now: float) -> bool:
        """Whether neither the place nor the network had a wrong login of late."""
        return not (self._wrong_by_place.level(place, now) or self._wrong_by_network.level(network, now))

    def add(self, ticket: _AnyTicket) -> None:
        """Let it wait. Call `evict_excess` afterwards."""
        login = ticket.login
        network = self._networks.setdefault(login.network, _Network())
        place = network.places.setdefault(login.place, _Place())
        for group in (network, place):
            if not group.weight[login.standing]:
                # A group that was empty starts at the end, not with its old number.
                group.order[login.standing] = self._next_order()
        place.lines[login.standing][ticket] = None
        self._weigh(network, place, login, login.weight)

    def remove(self, ticket: _AnyTicket) -> None:
        """It waits no more; nothing happens if it did not."""
        login = ticket.login
        network = self._networks.get(login.network)
        place = None if network is None else network.places.get(login.place)
        if network is None or place is None or ticket not in place.lines[login.standing]:
            return
        del place.lines[login.standing][ticket]
        self._weigh(network, place, login, -login.weight)
        if not any(place.weight):
            del network.places[login.place]
        if not network.places:
            del self._networks[login.network]

    def next(self, now: float, *, later: bool = True) -> _AnyTicket | None:
        """Take out who is next. Work of standing LATER only if `later`, and if no login waits."""
        standing = self._standing_next(later=later)
        if standing is None:
            return None
        network = self._next_network(standing, now)
        place = self._next_place(network, standing, now)
        ticket: _AnyTicket = next(iter(place.lines[standing]))
        self._slots_given += 1
        network.order[standing] = place.order[standing] = self._next_order()
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

    def wrong(self, login: QueuedLogin, now: float) -> list[_AnyTicket]:
        """Its login was wrong. Returns who has to go, for fewer may wait from there now."""
        self._wrong_by_place.count(login.place, now)
        self._wrong_by_network.count(login.network, now)
        self._guesses_by_place.count(login.place, now)
        self._guesses_by_network.count(login.network, now)
        return self.evict_excess(login, now)

    def right(self, login: QueuedLogin, now: float) -> None:
        """Its login was right, and cost a hash: a place with right logins too is probably not guessing."""
        self._guesses_by_place.make_up(login.place, now)
        self._guesses_by_network.make_up(login.network, now)

    def evict_excess(self, login: QueuedLogin, now: float) -> list[_AnyTicket]:
        """Take out who is too many where this one came from, or in all, and return them.

        Of those who are too many the last to come goes first, of the place with the most wrong logins and
        the longest line, of a standing that has more than its share.
        """
        gone: list[_AnyTicket] = []
        self._evict_around(login, now, gone)
        while self._weight[Standing.LATER] > self._units_max:
            self._evict_worst(Standing.LATER, now, gone)
        while sum(self._weight[standing] for standing in _LOGINS) > self._units_max:
            self._evict_worst(self._standing_with_too_many(), now, gone)
        return gone

    def _evict_around(self, login: QueuedLogin, now: float, gone: list[_AnyTicket]) -> None:
        network = self._networks.get(login.network)
        if network is None:
            return
        place = network.places.get(login.place)
        if place is not None:
            room = self._room(self._guesses_by_place.level(login.place, now))
            while sum(place.weight[standing] for standing in _BY_WRONG_LOGINS) > room:
                standing = next(one for one in _BY_WRONG_LOGINS if place.weight[one])
                self._evict_last(place, standing, gone)
        room = 4 * self._room(self._guesses_by_network.level(login.network, now))
        while sum(network.weight[standing] for standing in _BY_WRONG_LOGINS) > room:
            standing = next(one for one in _BY_WRONG_LOGINS if network.weight[one])
            worst = self._worst(network.places, self._wrong_by_place, standing, now)
            self._evict_last(worst, standing, gone)

    def _room(self, level: int) -> int:
        """Units that may wait there: all, divided by four per level above `_FORBEARANCE`; always a few."""
        return max(_ROOM_LEAST, self._units_max >> max(0, 2 * (level - _FORBEARANCE)))

    def _evict_worst(self, standing: Standing, now: float, gone: list[_AnyTicket]) -> None:
        network = self._worst(self._networks, self._wrong_by_network, standing, now)
        worst = self._worst(network.places, self._wrong_by_place, standing, now)
        self._evict_last(worst, standing, gone)

    def _evict_last(self, place: _Place, standing: Standing, gone: list[_AnyTicket]) -> None:
        ticket = next(reversed(place.lines[standing]))
        self.remove(ticket)
        gone.append(ticket)

    def _standing_next(self, *, later: bool) -> Standing | None:
        for standing in (_CYCLE[self._slots_given % len(_CYCLE)], *_LOGINS):
            if self._weight[standing]:
                return standing
        return Standing.LATER if later and self._weight[Standing.LATER] else None

    def _standing_with_too_many(self) -> Standing:
        for standing in (Standing.UNKNOWN, Standing.SEEN):
            if self._weight[standing] > self._units_max // 4:
                return standing
        return Standing.KNOWN

    def _next_network(self, standing: Standing, now: float) -> _Network:
        def key(named: tuple[str, _Network]) -> tuple[int, int]:
            name, network = named
            if standing is Standing.KNOWN:
                # Whatever unknown devices do at a place, it costs the devices that are known there nothing.
                return 0, network.order[standing]
            # By the best of its places: a neighbour that guesses costs little. Not nothing: an owner of many
            # places may guess from one after the other.
            best = min(
                self._wrong_by_place.level(place, now)
                for place, group in network.places.items()
                if group.weight[standing]
            )
            return best + (self._wrong_by_network.level(name, now) > 0), network.order[standing]

        return min((one for one in self._networks.items() if one[1].weight[standing]), key=key)[1]

    def _next_place(self, network: _Network, standing: Standing, now: float) -> _Place:
        def key(named: tuple[str, _Place]) -> tuple[int, int]:
            name, place = named
            level = 0 if standing is Standing.KNOWN else self._wrong_by_place.level(name, now)
            return level, place.order[standing]

        return min((one for one in network.places.items() if one[1].weight[standing]), key=key)[1]

    def _worst(
        self, groups: Mapping[str, _AnyGroup], wrong: WrongLogins, standing: Standing, now: float
    ) -> _AnyGroup:
        def key(name: str) -> tuple[int, int]:
            return wrong.level(name, now), groups[name].weight[standing]

        return groups[max((name for name, group in groups.items() if group.weight[standing]), key=key)]

    def _weigh(self, network: _Network, place: _Place, login: QueuedLogin, change: int) -> None:
        for weights in (self._weight, network.weight, place.weight):
            weights[login.standing] += change

    def _next_order(self) -> int:
        self._last_order += 1
        return self._last_order
