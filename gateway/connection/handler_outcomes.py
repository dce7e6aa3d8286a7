"""What a handler returns when more happened than a list of commands can say: it decides the next state.

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
    """What the connection waited for has come, and is valid."""

    commands: list[Command]
    early: tuple[BusBytes | DeviceBytes, ...] = ()
    """Bytes that came with it, or too early: they are handled in the next state."""


@dataclass(slots=True)
class SaidGoodbye:
    """The device's own DISCONNECT goes to the bus, which drops the will for it."""

    commands: list[Command]


@dataclass(slots=True)
class Fault:
    """The device broke the protocol or a bound, and the bus still has to answer what came before that."""

    commands: list[Command]


@dataclass(slots=True)
class Ended:
    """The connection ends. `why` is for the log."""

    commands: list[Command]
    why: str


Outcome = Accepted | SaidGoodbye | Fault | Ended
Result = list[Command] | Outcome
"""What a handler returns."""
