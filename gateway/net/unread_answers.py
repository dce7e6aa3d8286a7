"""Answers that devices do not read: bounded per device, and for all devices together.

What the bus delivers needs no bound here: the bus is not read while its device does not read. Answers of our
own (PUBACKs to what is refused, answers of services) are made as long as the device sends.
"""

from __future__ import annotations

from gateway.connection.work_budgets import FREE
from gateway.policy.engine.connection_limits import Limits

_ANSWERS = 1_048_576
"""Bytes that may wait for one device beyond two of the longest packets."""
_IN_ALL = 8
"""How many times that for all devices of the process."""


class UnreadAnswers:
    """One for all connections of a process."""

    __slots__ = ("_by_device", "_in_all")

    def __init__(self) -> None:
        self._by_device: dict[str, int] = {}
        self._in_all = 0

    @property
    def size(self) -> int:
        """Bytes that all devices do not take."""
        return self._in_all

    def add(self, device_id: str, size: int, limits: Limits) -> bool:
        """Count `size` bytes more, or fewer; whether what waits is within the bounds."""
        mine = self._by_device.get(device_id, 0) + size
        self._in_all += size
        if mine:
            self._by_device[device_id] = mine
        else:
            self._by_device.pop(device_id, None)
        most = _ANSWERS + 2 * limits.packet_size
        return size <= 0 or (mine <= most and (mine <= FREE or self._in_all <= _IN_ALL * most))
