"""Which connections that come and go, or find no room, get a log line: bounded per device and address.

A device that connects as fast as it can costs sixty lines a minute, and one with the number of the others.
Must not know who may connect.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from gateway.mqtt.reason_codes import Reason
from gateway.observe.logs import get_logger

_WINDOW = 60.0
"""Seconds in which lines are counted."""
_DEVICE_LINES_MAX = 60
"""Lines of one device in a window: thirty connections that come and go."""
_ADDRESS_LINES_MAX = 600
"""Lines of one address in a window, whatever the devices."""
_log = get_logger()


class ConnectionLog:
    """Decides what gets a line of its own. What gets none is counted, and logged as a number."""

    def __init__(self) -> None:
        self._of_device: Counter[str] = Counter()
        self._from_address: Counter[str] = Counter()
        self._unlogged: Counter[tuple[str, str]] = Counter()
        self._turned_away: Counter[tuple[str, Reason]] = Counter()

    def worth_a_line(self, device_id: str, host: str) -> bool:
        """Whether a connection of this device from this address, made or ended, gets a line. Counts it."""
        full = self._of_device[device_id] >= _DEVICE_LINES_MAX
        if full or self._from_address[host] >= _ADDRESS_LINES_MAX:
            # One line for all devices at an address that has had too many.
            self._unlogged[(device_id, "") if full else ("", host)] += 1
            return False
        self._of_device[device_id] += 1
        self._from_address[host] += 1
        return True

    def first_turned_away(self, device_id: str, reason: Reason) -> bool:
        """Whether this is the first time in the window that this device found no room for this reason."""
        self._turned_away[device_id, reason] += 1
        return self._turned_away[device_id, reason] == 1

    async def run(self) -> None:
        """Log at the end of each window how much got no line, for ever."""
        while True:
            await asyncio.sleep(_WINDOW)
            self.log_rest()

    def log_rest(self) -> None:
        """Log how much got no line, and begin a new window."""
        for (device_id, host), count in self._unlogged.items():
            _log.warning(
                "connections not logged one by one",
                device=device_id or None,
                address=host or None,
                lines=count,
            )
        for (device_id, reason), count in self._turned_away.items():
            if count > 1:
                _log.warning(
                    "connects refused", device=device_id, code=f"{reason:#04x}", not_logged_before=count - 1
                )
        for counts in (self._of_device, self._from_address, self._unlogged, self._turned_away):
            counts.clear()
