"""Answers that are written but that devices do not read: bounded per device, and for all devices together.

What the bus delivers is bounded by `gateway.connection.waiting_deliveries`. Answers of our own (PUBACKs to
what is refused, answers of services) arise as long as the device sends.
"""

from __future__ import annotations

from gateway.connection.device_budgets import FREE_BYTES
from gateway.policy.engine.limits import Limits

_BYTES_PER_DEVICE = 1_048_576
"""Bytes that may wait for one device beyond two of the longest packets."""
_DEVICES_WORTH = 8
"""All devices together may have as many unread bytes as this many devices."""


class UntakenAnswers:
    """One for all connections of a process."""

    __slots__ = ("_by_device", "_in_all")

    def __init__(self) -> None:
        self._by_device: dict[str, int] = {}
        self._in_all = 0

    @property
    def size(self) -> int:
        """Unread bytes of all devices."""
        return self._in_all

    def add(self, device_id: str, size: int, limits: Limits) -> bool:
        """Count `size` more unread bytes, fewer if negative; whether they are within the bounds."""
        of_device = self._by_device.get(device_id, 0) + size
        self._in_all += size
        if of_device:
            self._by_device[device_id] = of_device
        else:
            self._by_device.pop(device_id, None)
        per_device = _BYTES_PER_DEVICE + 2 * limits.packet_size
        return size <= 0 or (
            of_device <= per_device
            and (of_device <= FREE_BYTES or self._in_all <= _DEVICES_WORTH * per_device)
        )
