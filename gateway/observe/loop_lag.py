"""How late the event loop is: by that much is everything late that waits for a timer or a socket.

It measures five times a second while there is work: while a device is connected, and after something came.
Else once a second, for each time wakes the process up. Whoever asks gets the worst of the last ten seconds or
so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.system.aligned_timers import Rounds

_LOOK_SECONDS = 0.2
_IDLE_SECONDS = 1.0
_PART_SECONDS = 10.0
"""Time is cut into parts, each with the worst that was measured in it. The last two parts are shown."""
_LATE = 0.2
"""Seconds from which on devices notice."""
_STUCK = 1.0
"""Seconds."""
_STUCK_PARTS = 6
"""Parts in a row with more than `_STUCK` for which the process counts as stuck: a minute."""


class LoopLag:
    """Measures one loop, the one that it runs in."""

    def __init__(self, is_busy: Callable[[], bool] = lambda: True) -> None:
        """`is_busy` says whether there is work, so that it measures more often."""
        self._parts: deque[float] = deque([0.0], _STUCK_PARTS)
        self.is_busy = is_busy
        self._rounds = Rounds(_LOOK_SECONDS, _IDLE_SECONDS)

    @property
    def seconds(self) -> float:
        """The worst of the last ten to twenty seconds."""
        return max(list(self._parts)[-2:])

    def check(self) -> tuple[bool, str]:
        """Whether the loop answers in time. It fails only after a minute of being late, and warns before."""
        shown = f"{self.seconds * 1_000:.0f} ms late at most, in the last ten seconds"
        if len(self._parts) == _STUCK_PARTS and min(self._parts) > _STUCK:
            return (
                False,
                f"over {_STUCK:g} s late again and again for a minute: the process is overloaded or stuck",
            )
        return True, f"warning: {shown}" if self.seconds > _LATE else shown

    def soon(self) -> None:
        """Something came: measure soon how long it holds up the loop."""
        self._rounds.soon()

    async def run(self) -> None:
        """Measure for ever."""
        loop = asyncio.get_running_loop()
        part_ends = loop.time() + _PART_SECONDS
        while True:
            if self.is_busy():
                self._rounds.soon()
            await self._rounds.wait()
            await asyncio.sleep(0)  # what else is done in this iteration of the loop counts too
            now = loop.time()
            self._parts[-1] = max(self._parts[-1], now - self._rounds.due)
            if now >= part_ends:
                self._parts.append(0.0)
                part_ends = now + _PART_SECONDS
