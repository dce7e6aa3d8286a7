"""How much of what a known peer sent OpenSSL gets at a time, and when nobody gets much.

Owns the sizes of portions, and the caution that one slow portion leaves for all connections of a context:
sixty peers that send nothing but KeyUpdates cost a little each then. Must not know records, nor peers.
"""

from __future__ import annotations

import time

PORTION_LEAST, PORTION_CAREFUL, PORTION_USUAL, PORTION_MOST = 2_048, 16_640, 65_536, 262_144
"""Of KeyUpdates they take 3, 20, 80 and 330 ms, of data 65,536 bytes take a twentieth of one. A careful one
holds a whole record: half of one yields nothing, and costs its peer a turn and what waits after it a copy.
The most is what a loop reads at once: a smaller portion costs a copy of all that was read."""
_SLOW = 0.003
"""Seconds of this thread's work for a portion that yields less than half of itself: no piece of a long record
takes so long, and a busy machine is no reason to be careful."""
_CAREFUL, _ON_GUARD = 10.0, 600.0
"""Seconds for which nobody's portions grow large then, and for which they have the usual size after that: a
peer that has sent much data before can hold the loop for 330 ms, but once in ten minutes."""


class Caution:
    """How much of what a known peer sent OpenSSL gets at a time. One for all connections of a context."""

    __slots__ = ("_until", "most")

    def __init__(self) -> None:
        self.most = PORTION_MOST
        self._until = 0.0

    def look(self, seconds: float) -> None:
        """A portion that yielded little took so long."""
        if seconds > _SLOW:
            self.be_careful()

    def be_careful(self) -> None:
        """Somebody sends what yields nothing."""
        self.most, self._until = PORTION_CAREFUL, time.monotonic() + _CAREFUL

    def relax(self) -> None:
        """It is over after a while, step by step."""
        if self.most < PORTION_MOST and (now := time.monotonic()) > self._until:
            if self.most < PORTION_USUAL:
                self.most, self._until = PORTION_USUAL, now + _ON_GUARD
            else:
                self.most = PORTION_MOST
