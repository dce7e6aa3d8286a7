"""How much of what a known peer sent OpenSSL gets at a time, and when nobody gets much.

Owns the sizes of portions, and the caution that one slow portion leaves for all connections of a context:
sixty peers that send nothing but KeyUpdates cost a little each then. Must not know records, nor peers.
"""

from __future__ import annotations

import time

PORTION_LEAST, PORTION_CAREFUL, PORTION_MOST = 2_048, 16_640, 65_536
"""Of KeyUpdates they take 3, 20 and 80 ms, of data 65,536 bytes take a twentieth of one. A careful one holds
a whole record: half of one yields nothing, and costs its peer a turn and all that waits after it a copy."""
_SLOW = 0.003
"""Seconds of this thread's work for a portion that yields less than half of itself: no piece of a long record
takes so long, and a busy machine is no reason to be careful."""
_CAREFUL = 10.0
"""Seconds for which nobody's portions grow large then."""


class Caution:
    """How much of what a known peer sent OpenSSL gets at a time. One for all connections of a context."""

    __slots__ = ("_until", "most")

    def __init__(self) -> None:
        self.most = PORTION_MOST
        self._until = 0.0

    def look(self, seconds: float) -> None:
        """A portion that yielded little took so long."""
        if seconds > _SLOW:
            self.most, self._until = PORTION_CAREFUL, time.monotonic() + _CAREFUL

    def relax(self) -> None:
        """It is over after a while."""
        if self.most < PORTION_MOST and time.monotonic() > self._until:
            self.most = PORTION_MOST
