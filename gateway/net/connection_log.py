"""What the log says of connections that come and go, and of those that find no room: bounded per device.

A device that connects as fast as it can costs a few lines a minute and a number. Must not know who may
connect.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from gateway.mqtt.reason_codes import Reason
from gateway.observe.logs import get_logger

_WINDOW = 60.0
"""Seconds for which lines are counted."""
_OF_A_DEVICE = 60
"""Lines of one device in them: thirty connections that come and go."""
_FROM_AN_ADDRESS = 600
_log = get_logger()


class ConnectionLog:
    """Whether something gets a line of its own. What gets none is counted and logged as a number."""

    def __init__(self) -> None:
        self._of_device: Counter[str] = Counter()
        self._from_address: Counter[str] = Counter()
        self._unlogged: Counter[tuple[str, str]] = Counter()
        self._turned_away: Counter[tuple[str, Reason]] = Counter()

    def worth_a_line(self, device_id: str, host: str) -> bool:
        """A connection of this device, at this address, was made or has ended."""
        full = self._of_device[device_id] >= _OF_A_DEVICE
        if full or self._from_address[host] >= _FROM_AN_ADDRESS:
            # One line for all devices at an address that has had too many.
            self._unlogged[(device_id, "") if full else ("", host)] += 1
            return False
        self._of_device[device_id] += 1
        self._from_address[host] += 1
        return True

    def first_turned_away(self, device_id: str, reason: Reason) -> bool:
        """This device found no room for one more connection."""
        self._turned_away[device_id, reason] += 1
        return self._turned_away[device_id, reason] == 1

    async def run(self) -> None:
        """Log every minute how much got no line, for ever."""
        while True:
            await asyncio.sleep(_WINDOW)
            self.log_rest()

    def log_rest(self) -> None:
        """Log how much got no line, and begin anew."""
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
