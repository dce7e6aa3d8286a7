"""Adds the messages that passed on one connection to the process's counters: once a second, not per message.

Reads what the two relays count anyway. Must not know what was decided about them.
"""

from __future__ import annotations

from gateway.connection.one_way_relay import Relay
from gateway.connection.process_counters import FROM_DEVICES, TO_DEVICES, Counters

_BY_QOS = tuple((direction, qos) for direction in (FROM_DEVICES, TO_DEVICES) for qos in ("1", "2"))


class PassedMessages:
    """The messages that passed on one connection, and how many of them are counted."""

    __slots__ = ("_counted", "_counters", "_downstream", "_upstream")

    def __init__(self, counters: Counters, upstream: Relay, downstream: Relay) -> None:
        self._counters = counters
        self._upstream = upstream
        self._downstream = downstream
        self._counted = 0, 0, 0, 0
        """At QoS 1 and 2 from the device, then at QoS 1 and 2 to it."""

    def count(self) -> None:
        """Add what passed since the last time."""
        upstream = self._upstream
        if upstream.sealed:
            self._counters.sealed += upstream.sealed
            upstream.sealed = 0
        from_device, from_bus = upstream.ledger, self._downstream.ledger
        passed = from_device.passed1, from_device.passed2, from_bus.passed1, from_bus.passed2
        if passed != self._counted:
            for key, now, before in zip(_BY_QOS, passed, self._counted, strict=True):
                self._counters.messages_passed[key] += now - before
            self._counted = passed
