"""How late the event loop is: what waits for a timer or a socket waits that long.

Looks five times a second, whatever else goes on. Whoever asks gets the worst of the last ten seconds or so.
"""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.system.aligned_timers import until_next_multiple_of

_LOOK_SECONDS = 0.2
_LOOKS = 50
"""In one part; the last two parts are what is shown."""
_LATE = 0.2
"""Seconds from which on devices notice."""
_STUCK = 1.0
_STUCK_PARTS = 6
"""So many parts in a row with more than `_STUCK`: a minute in which each answer came late."""


class LoopLag:
    """Measures one loop, the one that it runs in."""

    def __init__(self) -> None:
        self._parts: deque[float] = deque([0.0], _STUCK_PARTS)

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

    async def run(self) -> None:
        """Look for ever."""
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_LOOKS):
                due = await until_next_multiple_of(_LOOK_SECONDS)
                self._parts[-1] = max(self._parts[-1], loop.time() - due)
            self._parts.append(0.0)
