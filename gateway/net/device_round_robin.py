"""Whose turn it is when there is more to do than fits into one turn of the event loop.

A connection that did its slice, or came when the turn was full, waits here with nothing read from it.
Devices take turns, not connections: one with sixty of them waits sixty times as long for each, and nobody
else does. Between two turns the loop looks at all sockets, timers and tasks, so that nobody waits for longer
than two turns and a slice of each device before it.

Must not know what is done in a turn: `gateway.connection.device_budgets` counts it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

from gateway.connection.device_budgets import ITERATION_EFFORT, ProcessWork

Take = Callable[[], None]
"""Does one slice, or lets it begin. Must not raise: the others wait."""


class Turns:
    """One for all connections of a process."""

    __slots__ = ("_scheduled", "_waiting", "_work")

    def __init__(self, work: ProcessWork) -> None:
        self._work = work
        self._waiting: OrderedDict[Hashable, deque[tuple[Take, int]]] = OrderedDict()
        self._scheduled = False

    def wait(self, whose: Hashable, take: Take, begins: int = 0) -> None:
        """Call `take` when it is the turn of this device: `whose` is its budget, which is one for all it has.

        Once: whoever has more to do waits again. `begins` is the effort of what `take` only lets begin. Of a
        hundred who wait, no more may begin than will find the turn not full: the others would wait again, a
        hundred times each for nothing.
        """
        self._waiting.setdefault(whose, deque()).append((take, begins))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """A turn of the event loop begins: those who wait come before what arrives in it."""
        work, waiting = self._work, self._waiting
        work.begin()
        try:
            while waiting and work.done < ITERATION_EFFORT:
                whose, line = waiting.popitem(last=False)
                take, begins = line.popleft()
                if line:
                    waiting[whose] = line  # after all the others
                take()
                work.done += begins
        finally:
            # What arrives now has a turn's worth of its own: a message alone does not wait for a backlog.
            work.begin()
            self._scheduled = bool(waiting)
            if waiting:
                asyncio.get_running_loop().call_soon(self._begin)
