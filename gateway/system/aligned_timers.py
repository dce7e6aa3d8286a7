"""Waiting until something is due again: at moments that all share, so that an idle process sleeps.

To wake up costs more than most looks do: with caches cold, some fifty microseconds. So nothing waits for a
time of its own, but for the next multiple of its interval by the loop's clock, and intervals are multiples of
one another: 0.2 s, 0.4 s, a second, two. All who wait for one moment have one timer.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

_NEAR = 0.1
"""Share of the interval: whoever asks so shortly before a moment was woken for that one, and gets the
next."""
_Moments = dict[int, list[asyncio.Future[None]]]
_moments: WeakKeyDictionary[asyncio.AbstractEventLoop, _Moments] = WeakKeyDictionary()
"""Who waits in each loop, by the moment in whole milliseconds: in seconds, multiples of 0.2 and of 1 differ a
little."""


def next_moment(seconds: float, now: float) -> float:
    """The next multiple of `seconds` by the loop's clock, which shows `now`."""
    due = (now // seconds + 1) * seconds
    return due + seconds if due - now < seconds * _NEAR else due


async def until_next_multiple_of(seconds: float) -> float:
    """Wait for the next multiple of `seconds` by the loop's clock, in one timer with all who wait for it.

    The answer is when it was due, by the loop's clock.
    """
    turn = asyncio.get_running_loop().create_future()
    due = _wake_at_next_multiple_of(seconds, turn)
    await turn
    return due


class Rounds:
    """The moments of whoever has something to do: soon while there is a reason, else seldom or never.

    For example, `Rounds(0.2, 1.0)` of what writes to a file five times a second while something waits to be
    written, and looks at the clock each second.
    """

    def __init__(self, soon: float, seldom: float | None = None) -> None:
        """Seconds, of which the moments are multiples; without `seldom` it sleeps until there is a reason."""
        self._soon = soon
        self._seldom = seldom
        self._has_reason = False
        self._turn: asyncio.Future[None] | None = None
        self.due = 0.0
        """When the last moment that was waited for was due, by the loop's clock."""

    def soon(self) -> None:
        """There is a reason: the next moment is one of the near ones."""
        if not self._has_reason:
            self._has_reason = True
            if self._turn is not None and not self._turn.done():
                due = _wake_at_next_multiple_of(self._soon, self._turn)
                self.due = min(self.due, due) if self._seldom is not None else due

    async def wait(self) -> bool:
        """Wait for the next moment. Whether there was a reason; there is none any more."""
        self._turn = turn = asyncio.get_running_loop().create_future()
        seconds = self._soon if self._has_reason else self._seldom
        if seconds is not None:
            self.due = _wake_at_next_multiple_of(seconds, turn)
        try:
            await turn
        finally:
            self._turn = None
        had_reason, self._has_reason = self._has_reason, False
        return had_reason


def _wake_at_next_multiple_of(seconds: float, turn: asyncio.Future[None]) -> float:
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
    waiting.append(turn)
    return due


def _wake(moments: _Moments, key: int) -> None:
    for turn in moments.pop(key):
        if not turn.done():  # who was cancelled waits no more
            turn.set_result(None)
