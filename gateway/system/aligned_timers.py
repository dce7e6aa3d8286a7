"""Waiting until something is due again: at moments that all share, so that an idle process sleeps.

A wake-up costs more than most of what is then done: with cold caches, some fifty microseconds. So nothing
waits for a time of its own, but for the next multiple of its interval by the loop's clock, and intervals are
multiples of one another: 0.2 s, 0.4 s, a second, two. All who wait for one moment share one timer.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

_NEAR = 0.1
"""Share of the interval: whoever asks this shortly before a moment was woken for that very moment (timers run
a little early), and gets the next."""
_Moments = dict[int, list[asyncio.Future[None]]]
_moments: WeakKeyDictionary[asyncio.AbstractEventLoop, _Moments] = WeakKeyDictionary()
"""Who waits in each loop, by the moment in whole milliseconds: as floating-point seconds, equal multiples of
0.2 and of 1 would differ a little."""


def next_moment(seconds: float, now: float) -> float:
    """The next multiple of `seconds` by the loop's clock, which shows `now`."""
    due = (now // seconds + 1) * seconds
    return due + seconds if due - now < seconds * _NEAR else due


async def until_next_multiple_of(seconds: float) -> float:
    """Wait for the next multiple of `seconds` by the loop's clock; all who wait for it share one timer.

    Return when it was due, by the loop's clock.
    """
    waiter = asyncio.get_running_loop().create_future()
    due = _wake_at_next_multiple_of(seconds, waiter)
    await waiter
    return due


class Rounds:
    """When a task that works again and again has its next round: soon if there is a reason, else seldom.

    For example, `Rounds(0.2, 1.0)` is for a task that writes to a file five times a second while something
    waits to be written, and otherwise only looks at the clock, once a second.
    """

    def __init__(self, soon: float, seldom: float | None = None) -> None:
        """The two intervals in seconds; without `seldom` it sleeps until there is a reason."""
        self._soon = soon
        self._seldom = seldom
        self._has_reason = False
        self._waiter: asyncio.Future[None] | None = None
        self.due = 0.0
        """When the last round was due, by the loop's clock."""

    def soon(self) -> None:
        """There is a reason: have the next round at the next multiple of the shorter interval."""
        if not self._has_reason:
            self._has_reason = True
            if self._waiter is not None and not self._waiter.done():
                due = _wake_at_next_multiple_of(self._soon, self._waiter)
                self.due = min(self.due, due) if self._seldom is not None else due

    async def wait(self) -> bool:
        """Wait for the next round. Return whether it has a reason, which is then dealt with."""
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        seconds = self._soon if self._has_reason else self._seldom
        if seconds is not None:
            self.due = _wake_at_next_multiple_of(seconds, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
        had_reason, self._has_reason = self._has_reason, False
        return had_reason


def _wake_at_next_multiple_of(seconds: float, waiter: asyncio.Future[None]) -> float:
    loop = asyncio.get_running_loop()
    due = next_moment(seconds, loop.time())
    moments = _moments.get(loop)
    if moments is None:
        moments = _moments[loop] = {}
    key = round(due * 1_000)
    waiting = moments.get(key)
    if waiting is None:
        waiting = moments[key] = []
        loop.call_at(due, _wake, moments, key)
    waiting.append(waiter)
    return due


def _wake(moments: _Moments, key: int) -> None:
    for waiter in moments.pop(key):
        if not waiter.done():  # who was cancelled waits no more
            waiter.set_result(None)
