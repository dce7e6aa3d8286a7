"""Gives devices turns when there is more to do than fits into one iteration of the event loop.

A connection that has done its slice, or whose bytes came when the iteration was full, waits here, unread.
Turns go to devices, not to connections: each connection of a device with sixty waits sixty times as long, and
nobody else does. Between two iterations the loop serves all sockets, timers and tasks, so that nobody waits
longer than two iterations and a slice of each device before it.

Must not know what is done in a turn: `gateway.connection.device_budgets` counts it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

from gateway.connection.device_budgets import ITERATION_EFFORT, ProcessWork

Take = Callable[[], None]
"""Does one slice, or makes it begin. Must not raise: others wait."""


class Turns:
    """One for all connections of a process."""

    __slots__ = ("_scheduled", "_waiting", "_work")

    def __init__(self, work: ProcessWork) -> None:
        self._work = work
        self._waiting: OrderedDict[Hashable, deque[tuple[Take, int]]] = OrderedDict()
        self._scheduled = False

    def wait(self, whose: Hashable, take: Take, begins: int = 0) -> None:
        """Call `take` once, in the turn of the device: `whose` is its budget, which its connections share.

        Whoever has more to do after that waits again. `begins` is the effort that `take` does not spend but
        makes begin: without it a hundred that wait would all begin in one iteration, find it full, and wait
        again, a hundred times each.
        """
        self._waiting.setdefault(whose, deque()).append((take, begins))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """An iteration of the loop begins: those that wait come before what arrives in it."""
        work, waiting = self._work, self._waiting
        work.begin()
        try:
            while waiting and work.done < ITERATION_EFFORT:
                whose, queue = waiting.popitem(last=False)
                take, begins = queue.popleft()
                if queue:
                    waiting[whose] = queue  # after all other devices
                take()
                work.done += begins
        finally:
            # What arrives now has a full iteration's effort: a single message does not wait for a backlog.
            work.begin()
            self._scheduled = bool(waiting)
            if waiting:
                asyncio.get_running_loop().call_soon(self._begin)
