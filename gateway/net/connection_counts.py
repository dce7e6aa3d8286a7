"""Counts how many connections there are by protocol and login, and how many are paused for which reason.

They are counted some at a time, every ten seconds, which takes some milliseconds for 10,000 of them. Keeping
the counts up to date would cost each connection more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from gateway.connection.transition_table import State
from gateway.net.live_connections import ConnectionRegistry
from gateway.net.pause_reasons import AUTHENTICATING, BUS_FULL, DEVICE_FULL, NOT_ITS_TURN, OVER_RATE

_COUNTED_TOGETHER = 500
"""Connections that are counted in one iteration of the event loop."""
_REASONS = {
    AUTHENTICATING: "authenticating",
    OVER_RATE: "over_rate",
    BUS_FULL: "bus_full",
    NOT_ITS_TURN: "not_its_turn",
    DEVICE_FULL: "device_full",
}


@dataclass(slots=True)
class ConnectionCounts:
    """Numbers of connections."""

    established: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Established ones, by protocol and method of login."""
    paused: Counter[str] = field(default_factory=Counter)
    """Paused ones, by reason (`gateway.net.pause_reasons`)."""


async def count_connections(registry: ConnectionRegistry) -> ConnectionCounts:
    """Count all connections."""
    found = ConnectionCounts(paused=Counter(dict.fromkeys(_REASONS.values(), 0)))
    for number, side in enumerate(list(registry.live), 1):
        if side.connection.state is State.ESTABLISHED:
            found.established[side.connection.protocol, side.method] += 1
        paused = side.paused_for
        for bit, reason in _REASONS.items():
            if paused & bit:
                found.paused[reason] += 1
        if number % _COUNTED_TOGETHER == 0:
            await asyncio.sleep(0)
    return found
