"""What a handler found out, where a list of commands is not all: it decides which state comes next.

    commands = handler(stage, event)          # a list: the state stays
    outcome = handler(stage, event)           # one of these: the row of the table says what comes next

A handler says what happened, never which state that means: `gateway.connection.transition_table` alone knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.connection.commands import Command
from gateway.connection.events import BusBytes, DeviceBytes


@dataclass(slots=True)
class Accepted:
    """What was waited for came, and is good."""

    commands: list[Command]
    early: tuple[BusBytes | DeviceBytes, ...] = ()
    """What came with it or before its time: it happens in the next state."""


@dataclass(slots=True)
class SaidGoodbye:
    """The device's own DISCONNECT is on its way to the bus, which ended the will too."""

    commands: list[Command]


@dataclass(slots=True)
class Fault:
    """The device broke the protocol or a bound, and the bus has to answer first what came before."""

    commands: list[Command]


@dataclass(slots=True)
class Over:
    """The connection ends. `why` is for the log."""

    commands: list[Command]
    why: str


Outcome = Accepted | SaidGoodbye | Fault | Over
Result = list[Command] | Outcome
"""What a handler returns."""
