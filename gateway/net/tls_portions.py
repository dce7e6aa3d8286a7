"""How many bytes of what an authenticated peer sent OpenSSL gets at a time: a portion.

Owns the sizes of portions, and the cap that one slow portion sets for all connections of a context, so that
sixty peers that send nothing but KeyUpdates cost little each. Must not know records, nor peers.
"""

from __future__ import annotations

import time

PORTION_MIN, PORTION_CAREFUL, PORTION_USUAL, PORTION_MAX = 2_048, 16_640, 65_536, 262_144
"""Sizes in bytes. As KeyUpdates they take 3, 20, 80 and 330 ms; as data 65,536 bytes take 0.05 ms. The
careful size holds a whole record: half of one yields nothing, costs its peer a turn, and has the rest copied.
The largest is what a loop reads at once: a smaller portion means copying all that was read."""
_SLOW_SECONDS = 0.003
"""CPU time of this thread for a portion less than half of which was data, above which portions are capped: no
part of a long record takes so long, and a busy machine is no reason to cap."""
_QUICK_SECONDS_PER_BYTE = 1e-7
"""CPU time of this thread for a byte that may be part of a long record: OpenSSL only copies those, in a tenth
of it on a slow machine. A byte of KeyUpdates takes ten times of it."""
_CAREFUL_SECONDS = 10.0
"""How long all portions are then capped to the careful size."""
_ON_GUARD_SECONDS = 600.0
"""How long they are capped to the usual size after that: a peer whose portions had grown by sending data can
block the loop for 330 ms, but only once in ten minutes."""


def was_quick(portion: int, seconds: float) -> bool:
    """Whether a portion of so many bytes took so little CPU time that it may be part of one long record."""
    return seconds < portion * _QUICK_SECONDS_PER_BYTE


class PortionCap:
    """The largest portion that any authenticated peer gets. One for all connections of a context."""

    __slots__ = ("_until", "portion_max")

    def __init__(self) -> None:
        self.portion_max = PORTION_MAX
        self._until = 0.0

    def portion_took(self, seconds: float) -> None:
        """Report the CPU time of a mostly unproductive portion."""
        if seconds > _SLOW_SECONDS:
            self.be_careful()

    def be_careful(self) -> None:
        """Lower the cap to the careful size: a peer sends unproductive bytes."""
        self.portion_max, self._until = PORTION_CAREFUL, time.monotonic() + _CAREFUL_SECONDS

    def relax(self) -> None:
        """Raise the cap again after a while, step by step."""
        if self.portion_max < PORTION_MAX and (now := time.monotonic()) > self._until:
            if self.portion_max < PORTION_USUAL:
                self.portion_max, self._until = PORTION_USUAL, now + _ON_GUARD_SECONDS
            else:
                self.portion_max = PORTION_MAX
