"""What decrypting a device's TLS costs, counted in its own budget (`gateway.connection.device_budgets`).

An unproductive byte (`gateway.net.bounded_tls`) costs as much as a message: a KeyUpdate has 27 of them and
takes 35 µs. So sixty connections that send nothing else use up the budget of their device, and wait for its
turn as its messages do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.connection.device_budgets import SLICE_EFFORT, Meter
from gateway.net.device_round_robin import Turns

_RETRY_SECONDS = 0.2
"""Until a device whose budget is used up is looked at again."""
_READING_EFFORT = SLICE_EFFORT // 2
"""Assumed effort of a connection that reads on in its turn: it is known only afterwards."""


class PeerBudget(Protocol):
    """What decrypting for one authenticated peer may cost, as `gateway.net.tls_decryption_cost.TlsBudget`."""

    @property
    def must_wait(self) -> bool:
        """Whether nothing more may be decrypted now."""

    def spend(self, effort: int, in_iteration: int) -> None:
        """Count this much effort for the device's second; a negative number gives back.

        `in_iteration` of it counts for the loop's iteration, to which nothing is given back.
        """

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call this when more may be done."""


class TlsBudget:
    """The budget of a connection whose device is authenticated."""

    __slots__ = ("_meter", "_turns")

    def __init__(self, meter: Meter, turns: Turns) -> None:
        self._meter = meter
        self._turns = turns

    def spend(self, effort: int, in_iteration: int) -> None:
        """Count effort; negative when bytes that counted as unproductive turn out to be part of a record."""
        self._meter.effort += effort
        if in_iteration > 0:
            self._meter.work.add(in_iteration)

    @property
    def must_wait(self) -> bool:
        """Whether other devices come first, or the budget of this one is used up."""
        return self._meter.work.iteration_is_full or self._meter.effort > self._meter.effort_left

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call this when it is the device's turn again."""
        if self._meter.effort > self._meter.effort_left:
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, go_on)
        else:
            self._turns.wait(self._meter.budget, go_on, _READING_EFFORT)
