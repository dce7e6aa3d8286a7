"""What decrypting a device's TLS costs, set against its own budget (`gateway.connection.device_budgets`).

A byte that yields nothing costs as much as a message: a KeyUpdate has 27 of them and takes 35 µs. So sixty
connections that send nothing else cost the device's second, and wait for its turn like all else of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.connection.device_budgets import SLICE_EFFORT, Meter
from gateway.net.device_round_robin import Turns

_UNTIL_ITS_SECOND = 0.2
"""Seconds until a device that is over its second is looked at again."""
_READS_ON = SLICE_EFFORT // 2
"""Effort of a connection that reads on after a turn: not known before it did."""


class PeerBudget(Protocol):
    """What decrypting for one authenticated peer may cost, as `gateway.net.tls_decryption_cost.TlsBudget`."""

    @property
    def must_wait(self) -> bool:
        """Whether nothing more may be done in this turn."""

    def spend(self, effort: int, in_this_turn: int) -> None:
        """So much was done, about a microsecond each; less than nothing gives back.

        `in_this_turn` of it counts for the turn, which gives nothing back.
        """

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call this when more may be done."""


class TlsBudget:
    """Of one connection whose device is authenticated."""

    __slots__ = ("_meter", "_turns")

    def __init__(self, meter: Meter, turns: Turns) -> None:
        self._meter = meter
        self._turns = turns

    def spend(self, effort: int, in_this_turn: int) -> None:
        """This was done; less than nothing where a long record has turned out to be whole."""
        self._meter.effort += effort
        if in_this_turn > 0:
            self._meter.work.add(in_this_turn)

    @property
    def must_wait(self) -> bool:
        """Whether others come first, or the device is over its second."""
        return self._meter.work.iteration_is_full or self._meter.effort > self._meter.effort_left

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call this when it is the device's turn again."""
        if self._meter.effort > self._meter.effort_left:
            asyncio.get_running_loop().call_later(_UNTIL_ITS_SECOND, go_on)
        else:
            self._turns.wait(self._meter.budget, go_on, _READS_ON)
