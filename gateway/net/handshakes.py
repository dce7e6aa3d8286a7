"""Peers until the end of their TLS handshake: who may begin it, how many at once, and whose turn it is.

Owns the bounds on what costs before anybody has said a word of MQTT. A ClientHello is half a millisecond of
work and a quarter of a mebibyte, so a thousand that come at once would hold everybody up for half a second.
Must not know what a handshake is: `gateway.net.acceptor` does it.

    silent ──its first bytes──► waiting ──its turn, and room──► under way ──► a connection

A silent peer costs a socket. A few begin in each turn of the event loop, those first whose place has the
fewest under way; so one that comes alone waits for nobody's crowd. When there is no room, the oldest of the
largest crowd goes.

For example, 128 handshakes of 10.0.1.1 are under way and none goes on. 10.0.2.1 sends its ClientHello: in the
next turn the oldest of the 128 is ended, and it begins.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict, deque
from collections.abc import Callable

from gateway.net.crowd import Crowd
from gateway.net.device_side import DeviceSide
from gateway.net.listening_sockets import close_if_cancelled
from gateway.system.addresses import network_of

_BEFORE_MAX = 1024
"""Peers that have not begun."""
_UNDER_WAY_MAX = 128
_BEGUN_AT_ONCE = 8
"""In one turn of the loop: each is half a millisecond of handshake later."""
_PATIENCE = 2.0
"""Seconds after which a handshake makes room for another one of its own place."""


class Newcomer:
    """A peer whose handshake is not done."""

    __slots__ = ("begun", "link", "peer", "place", "task")

    def __init__(self, peer: socket.socket, link: DeviceSide) -> None:
        self.peer = peer
        self.link = link
        self.place = network_of(link.host)
        self.task: asyncio.Task[None] | None = None
        self.begun = 0.0
        """When its handshake began, by the loop's clock."""


class Handshakes:
    """All of them, of one port."""

    def __init__(self, begin: Callable[[Newcomer], asyncio.Task[None]], now: Callable[[], float]) -> None:
        self._begin = begin
        self._now = now
        self._before: Crowd[Newcomer] = Crowd()
        self._waiting: OrderedDict[str, deque[Newcomer]] = OrderedDict()
        self._under_way: Crowd[Newcomer] = Crowd()
        self._is_scheduled = False

    def add(self, arrival: Newcomer) -> None:
        """It may begin when it has said something."""
        if len(self._before) >= _BEFORE_MAX:
            crowded_out, _ = self._before.first_to_go()
            self._turn_away(crowded_out, "others wait, and it has not begun")
        self._before.add(arrival, arrival.place)
        asyncio.get_running_loop().add_reader(arrival.peer.fileno(), self._speaks, arrival)

    def _speaks(self, arrival: Newcomer) -> None:
        asyncio.get_running_loop().remove_reader(arrival.peer.fileno())
        self._waiting.setdefault(arrival.place, deque()).append(arrival)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._let_begin)

    def _let_begin(self) -> None:
        self._is_scheduled = False
        for _ in range(_BEGUN_AT_ONCE):
            if not self._waiting:
                return
            place = min(self._waiting, key=self._under_way.count)
            if not self._has_room(place):
                return  # asked again when one has ended, and on each tick
            arrival = self._take(place)
            self._before.remove(arrival)
            self._under_way.add(arrival, place)
            arrival.begun = self._now()
            arrival.task = self._begin(arrival)
            close_if_cancelled(arrival.peer, arrival.task)
            arrival.task.add_done_callback(lambda _, one=arrival: self._ended(one))  # type: ignore[misc]
        self._schedule()

    def _take(self, place: str) -> Newcomer:
        line = self._waiting.pop(place)
        arrival = line.popleft()
        if line:
            self._waiting[place] = line  # behind all the others
        return arrival

    def _has_room(self, place: str) -> bool:
        if len(self._under_way) < _UNDER_WAY_MAX:
            return True
        oldest, crowd = self._under_way.first_to_go()
        if crowd <= self._under_way.count(place) + 1 and self._now() - oldest.begun < _PATIENCE:
            return False
        self._under_way.remove(oldest)
        if oldest.task is not None:
            oldest.task.cancel()
        return True

    def _ended(self, arrival: Newcomer) -> None:
        self._under_way.remove(arrival)
        self._schedule()

    def tick(self) -> None:
        """Some time went by: a few times a second."""
        while (oldest := self._before.oldest()) is not None and oldest.link.deadline < self._now():
            self._turn_away(oldest, "TLS: no handshake within the deadline")
        self._schedule()

    def _turn_away(self, arrival: Newcomer, why: str) -> None:
        arrival.link.turn_away(why)
        self._drop(arrival)

    def _drop(self, arrival: Newcomer) -> None:
        self._before.remove(arrival)
        line = self._waiting.get(arrival.place, ())
        if arrival in line:
            line.remove(arrival)  # type: ignore[union-attr]
            if not line:
                del self._waiting[arrival.place]
        else:
            asyncio.get_running_loop().remove_reader(arrival.peer.fileno())
        arrival.peer.close()

    def stop(self) -> None:
        """End them all."""
        while (oldest := self._before.oldest()) is not None:
            self._drop(oldest)
        while (oldest := self._under_way.oldest()) is not None:
            self._under_way.remove(oldest)
            if oldest.task is not None:
                oldest.task.cancel()
