"""How much of what an authenticated peer sent OpenSSL gets at a time, and when nobody gets much.

Owns the sizes of portions, and the cap that one slow portion sets for all connections of a context: sixty
peers that send nothing but KeyUpdates cost a little each then. Must not know records, nor peers.
"""

from __future__ import annotations

import time

PORTION_MIN, PORTION_CAREFUL, PORTION_USUAL, PORTION_MAX = 2_048, 16_640, 65_536, 262_144
"""Bytes. As KeyUpdates they take 3, 20, 80 and 330 ms; as data 65,536 bytes take a twentieth of one. The
careful size holds a whole record: half of one yields nothing, and costs its peer a turn and what waits after
it a copy. The most is what a loop reads at once: a smaller portion costs a copy of all that was read."""
_SLOW_SECONDS = 0.003
"""This thread's work on a portion that yields less than half of itself, above which portions are capped: no
piece of a long record takes so long, and a busy machine is no reason to be careful."""
_CAREFUL_SECONDS = 10.0
"""How long nobody's portions grow beyond the careful size then."""
_ON_GUARD_SECONDS = 600.0
"""How long they have the usual size after that: a peer that has sent much data before can hold the loop for
330 ms, but once in ten minutes."""


class PortionCap:
    """The largest portion that any authenticated peer gets. One for all connections of a context."""

    __slots__ = ("_until", "portion_max")

    def __init__(self) -> None:
        self.portion_max = PORTION_MAX
        self._until = 0.0

    def portion_took(self, seconds: float) -> None:
        """A portion that yielded little took so long."""
        if seconds > _SLOW_SECONDS:
            self.be_careful()

    def be_careful(self) -> None:
        """Lower the cap: somebody sends what yields nothing."""
        self.portion_max, self._until = PORTION_CAREFUL, time.monotonic() + _CAREFUL_SECONDS

    def relax(self) -> None:
        """Raise the cap again after a while, step by step."""
        if self.portion_max < PORTION_MAX and (now := time.monotonic()) > self._until:
            if self.portion_max < PORTION_USUAL:
                self.portion_max, self._until = PORTION_USUAL, now + _ON_GUARD_SECONDS
            else:
                self.portion_max = PORTION_MAX
