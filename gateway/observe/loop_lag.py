"""How late the event loop is: what waits for a timer or a socket waits that long.

Looks five times a second while there is work: while a device is there, and after something came. In between,
once a second, for each look is a wake-up. Whoever asks gets the worst of the last ten seconds or so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.system.aligned_timers import Rounds

_LOOK_SECONDS = 0.2
_IDLE_SECONDS = 1.0
_PART_SECONDS = 10.0
"""The last two parts are what is shown."""
_LATE = 0.2
"""Seconds from which on devices notice."""
_STUCK = 1.0
_STUCK_PARTS = 6
"""So many parts in a row with more than `_STUCK`: a minute in which each answer came late."""


class LoopLag:
    """Measures one loop, the one that it runs in."""

    def __init__(self, works: Callable[[], bool] = lambda: True) -> None:
        """`works` says whether anything may come at any moment."""
        self._parts: deque[float] = deque([0.0], _STUCK_PARTS)
        self.works = works
        self._rounds = Rounds(_LOOK_SECONDS, _IDLE_SECONDS)

    @property
    def seconds(self) -> float:
        """The worst of the last ten to twenty seconds."""
        return max(list(self._parts)[-2:])

    def check(self) -> tuple[bool, str]:
        """Whether the loop answers; a minute of answers that come late is nothing that goes over."""
        shown = f"{self.seconds * 1_000:.0f} ms late at most, in the last ten seconds"
        if len(self._parts) == _STUCK_PARTS and min(self._parts) > _STUCK:
            return (
                False,
                f"over {_STUCK:g} s late again and again for a minute: the process is overloaded or stuck",
            )
        return True, f"warning: {shown}" if self.seconds > _LATE else shown

    def soon(self) -> None:
        """Something came: what it takes is to be seen."""
        self._rounds.soon()

    async def run(self) -> None:
        """Look for ever."""
        loop = asyncio.get_running_loop()
        part_ends = loop.time() + _PART_SECONDS
        while True:
            if self.works():
                self._rounds.soon()
            await self._rounds.wait()
            await asyncio.sleep(0)  # what is done at the same moment holds others up as well
            now = loop.time()
            self._parts[-1] = max(self._parts[-1], now - self._rounds.due)
            if now >= part_ends:
                self._parts.append(0.0)
                part_ends = now + _PART_SECONDS
