"""Peers until the end of their TLS handshake: which may begin it, how many at once, and in which order.

Owns the bounds on what a peer costs before its first packet. A ClientHello takes half a millisecond of work
and a quarter of a mebibyte, so a thousand at once would block everybody for half a second. Must not know what
a handshake is, nor what comes after it: a `PendingHandshake` brings both.

    silent ──its first bytes──► waiting ──its turn, and room──► under way ──► a connection

A silent peer costs a socket. In each iteration of the event loop a few of the waiting ones begin, first those
from the places with the fewest under way; so one that comes alone waits for no crowd. When there is no room,
the oldest of the largest crowd is ended: at once for one of a smaller crowd, else after `_PATIENCE`.

For example, 128 handshakes of 10.0.1.1 are under way and none makes progress. 10.0.2.1 sends its ClientHello:
in the next iteration the oldest of the 128 is ended, and that of 10.0.2.1 begins.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial

from gateway.net.eviction_by_place import PeersByPlace
from gateway.net.first_byte_epoll import FirstByteEpoll

_BEFORE_MAX = 1024
"""Peers whose handshake has not begun, at most."""
_UNDER_WAY_MAX = 128
"""Handshakes that are under way at once, at most."""
_BEGUN_AT_ONCE = 8
"""Handshakes that begin in one iteration of the loop: each will take half a millisecond of it."""
_PATIENCE = 2.0
"""Seconds after which the oldest of the largest crowd makes room for one of a crowd that is no smaller."""
_LOOK = 0.2
"""Seconds between two checks of the deadlines, while there is a peer whose handshake has not begun."""


class PendingHandshake:
    """The handshake of a peer, until it is done."""

    __slots__ = ("begin", "begun", "deadline", "peer", "place", "task", "turn_away")

    def __init__(
        self,
        peer: socket.socket,
        place: str,
        deadline: float,
        *,
        begin: Callable[[], asyncio.Task[None]],
        turn_away: Callable[[str], None],
    ) -> None:
        self.peer = peer
        self.place = place
        """Its address as it is counted (`gateway.system.ip_address_blocks.place_of`)."""
        self.deadline = deadline
        """By when it has to begin, in seconds by the loop's clock."""
        self.begin = begin
        """Starts the task of the handshake and of what follows. The task closes the peer or hands it on."""
        self.turn_away = turn_away
        """Called with the reason when the peer has to go before its handshake began."""
        self.task: asyncio.Task[None] | None = None
        self.begun = 0.0
        """When its handshake began, in seconds by the loop's clock."""

    def start(self) -> asyncio.Task[None]:
        """Begin it. A task that is cancelled before its first step closes nothing: that is done here."""
        self.task = self.begin()
        self.task.add_done_callback(self._close_if_cancelled)
        return self.task

    def _close_if_cancelled(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.peer.close()


class Handshakes:
    """All pending handshakes of one port. `now` is the loop's clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._before: PeersByPlace[PendingHandshake] = PeersByPlace()
        self._silent = FirstByteEpoll(self._speaks)
        self._waiting: OrderedDict[str, deque[PendingHandshake]] = OrderedDict()
        self._under_way: PeersByPlace[PendingHandshake] = PeersByPlace()
        self._is_scheduled = False
        self._look: asyncio.TimerHandle | None = None

    def add(self, pending: PendingHandshake) -> None:
        """Let it begin in its turn, once the peer has sent something."""
        if len(self._before.all) >= _BEFORE_MAX:
            crowded_out, _ = self._before.first_to_go()
            self._turn_away(crowded_out, "others wait, and it has not begun")
        self._before.add(pending, pending.place)
        self._silent.add(pending.peer.fileno(), pending)
        if self._look is None:
            self._keep_looking()

    def _speaks(self, pending: PendingHandshake) -> None:
        self._waiting.setdefault(pending.place, deque()).append(pending)
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
            waiting = self._waiting
            place = min(waiting, key=self._under_way.count) if len(waiting) > 1 else next(iter(waiting))
            if not self._has_room(place):
                return  # asked again when one has ended, and at each look
            pending = self._take(place)
            self._before.remove(pending)
            self._under_way.add(pending, place)
            pending.begun = self._now()
            pending.start().add_done_callback(partial(self._ended, pending))
        self._schedule()

    def _take(self, place: str) -> PendingHandshake:
        queue = self._waiting.pop(place)
        pending = queue.popleft()
        if queue:
            self._waiting[place] = queue  # after all other places
        return pending

    def _has_room(self, place: str) -> bool:
        if len(self._under_way.all) < _UNDER_WAY_MAX:
            return True
        oldest, crowd_size = self._under_way.first_to_go()
        if crowd_size <= self._under_way.count(place) + 1 and self._now() - oldest.begun < _PATIENCE:
            return False
        self.drop(oldest)
        return True

    def _ended(self, pending: PendingHandshake, _: asyncio.Task[None]) -> None:
        self._under_way.remove(pending)
        if self._waiting:
            self._schedule()

    def _keep_looking(self) -> None:
        if self._look is None and len(self._before):
            self._look = asyncio.get_running_loop().call_later(_LOOK, self.look)

    def look(self) -> None:
        """Turn away the peers that have not begun by their deadline."""
        self._look = None
        while (oldest := self._before.oldest()) is not None and oldest.deadline < self._now():
            self._turn_away(oldest, "TLS: no handshake within the deadline")
        self._schedule()
        self._keep_looking()

    def _turn_away(self, pending: PendingHandshake, why: str) -> None:
        pending.turn_away(why)
        self.drop(pending)

    def drop(self, pending: PendingHandshake) -> None:
        """End it, whether it is silent, waiting or under way; nothing happens once its task has ended."""
        if pending.task is not None:
            self._under_way.remove(pending)
            pending.task.cancel()
            return
        self._before.remove(pending)
        queue = self._waiting.get(pending.place)
        if queue is not None and pending in queue:
            queue.remove(pending)
            if not queue:
                del self._waiting[pending.place]
        else:
            self._silent.remove(pending.peer.fileno())
        pending.peer.close()

    def stop(self) -> None:
        """End them all."""
        for peers in (self._before, self._under_way):
            while (oldest := peers.oldest()) is not None:
                self.drop(oldest)
        self._silent.close()
        if self._look is not None:
            self._look.cancel()
            self._look = None
