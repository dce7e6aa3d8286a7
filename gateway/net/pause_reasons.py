"""Why nothing is read from a socket: any number of reasons at once, and reading resumes when none is left.

Owns the reasons, which are bits. Must not know who reads, nor what.
"""

from __future__ import annotations

import asyncio

AUTHENTICATING = 1
"""The device is not authenticated, or the bus has not accepted its CONNECT yet."""
OVER_RATE = 2
"""The device's budget for this second is used up."""
BUS_FULL = 4
"""The write buffer towards the bus is full."""
NOT_ITS_TURN = 8
"""The connection awaits its turn (`gateway.net.device_round_robin`)."""
DEVICE_FULL = 16
"""The write buffer towards the device is full. The bus is read all the same, and what it sends waits."""


class PausedReading:
    """A transport whose reading is paused for any number of reasons at once."""

    __slots__ = ("paused", "transport")

    def __init__(self) -> None:
        self.paused = 0
        """The reasons that hold, as bits."""
        self.transport: asyncio.Transport | None = None
        """None before it is connected, and after it was lost."""

    def pause_reading(self, reason: int) -> None:
        """Read nothing for this reason."""
        if not self.paused and self.transport is not None:
            self.transport.pause_reading()
        self.paused |= reason

    def resume_reading(self, reason: int) -> None:
        """This reason holds no longer."""
        if not self.paused & reason:
            return
        self.paused &= ~reason
        if not self.paused and self.transport is not None:
            self.transport.resume_reading()

    def read_again(self, before: int) -> None:
        """Resume reading if there was a reason against it `before`, and there is none now."""
        if before and not self.paused and self.transport is not None:
            self.transport.resume_reading()
