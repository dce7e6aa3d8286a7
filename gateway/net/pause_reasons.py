"""Why nothing is read from a socket, and that reading goes on when no reason is left.

Owns the reasons. Must not know who reads, nor what.
"""

from __future__ import annotations

import asyncio

AUTHENTICATING = 1
"""It is not decided yet who is there."""
OVER_RATE = 2
"""The device had its second."""
BUS_FULL = 4
"""The bus reads slower than the device writes."""
NOT_ITS_TURN = 8
"""Others come first."""
DEVICE_FULL = 16
"""The device reads slower than the bus writes: that is read all the same, and waits."""


class PausedReading:
    """A transport whose reading is paused for any number of reasons at once."""

    __slots__ = ("paused", "transport")

    def __init__(self) -> None:
        self.paused = 0
        """The reasons, added up."""
        self.transport: asyncio.Transport | None = None
        """None before it is connected, and after it was lost."""

    def pause_reading(self, reason: int) -> None:
        """Read nothing for this reason."""
        if not self.paused and self.transport is not None:
            self.transport.pause_reading()
        self.paused |= reason

    def resume_reading(self, reason: int) -> None:
        """This reason is gone."""
        if not self.paused & reason:
            return
        self.paused &= ~reason
        if not self.paused and self.transport is not None:
            self.transport.resume_reading()

    def read_again(self, before: int) -> None:
        """Reading goes on if there was a reason against it before, and there is none now."""
        if before and not self.paused and self.transport is not None:
            self.transport.resume_reading()
