"""One device connection, from its first byte to its last: events in, commands out.

    connection.receive(DeviceBytes(chunk)) -> [SendToBus(chunk)]

Handles each event by the table of `gateway.connection.transition_table`, and closes when that says so. Knows
no socket, clock or task, so a test reads as a trace of the protocol. What is refused is explained: to the
device by reason code, to the admins by a Report.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.connection.commands import Close, Command
from gateway.connection.device_budgets import Meter
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import Event
from gateway.connection.handler_outcomes import Accepted, Ended, Outcome
from gateway.connection.opening import Opening
from gateway.connection.process_context import Context
from gateway.connection.transition_table import TABLE, Row, State
from gateway.mqtt.packets import Version
from gateway.policy.engine.identity import Device, Identity

_SPOKEN = {Version.V311: "3.1.1", Version.V5: "5"}


class DeviceConnection:
    """The state of one device connection. After `Close` it ignores whatever still comes."""

    __slots__ = ("_rows", "_stage", "established", "state")

    def __init__(self, context: Context) -> None:
        self.state: State
        self._rows: Mapping[type[Event], Row]
        self.established: EstablishedConnection | None
        """The same as `_stage` while established, when a chunk may pass without an event; else None."""
        self._stage: Opening | EstablishedConnection = Opening(context)
        """What the handlers of the current state are called on."""
        self._enter(State.AWAIT_CONNECT)

    @property
    def identity(self) -> Identity | None:
        """What the rules are asked with: `device`, its client id, and the token it may have come with."""
        return self._stage.identity

    @property
    def device(self) -> Device | None:
        """The authenticated device, as the store last gave it to this connection; None before."""
        return self._stage.device

    @property
    def tls_meter(self) -> Meter | None:
        """What decrypting the device's TLS may cost in this second; None before it is authenticated."""
        return self._stage.tls_meter

    @property
    def protocol(self) -> str:
        """The version of MQTT that it speaks, such as "3.1.1"; empty before its CONNECT."""
        terms = self._stage.terms
        if terms is None:
            return ""
        return "3.1" if terms.mqtt31 else _SPOKEN[terms.version]

    def receive(self, event: Event) -> list[Command]:
        """Return the commands for an event. Never raises for what a peer sends: faults end in commands."""
        row = self._rows.get(type(event))
        if row is None:
            raise RuntimeError(f"{type(event).__name__} can't happen while {self.state.value}")
        handler, after = row
        result = handler(self._stage, event)
        return result if isinstance(result, list) else self._follow(after, result)

    def _follow(self, after: Mapping[type[Outcome], State], outcome: Outcome) -> list[Command]:
        """Enter the state that the table says for this outcome."""
        state = after.get(type(outcome))
        if state is None:
            raise RuntimeError(f"no state follows {type(outcome).__name__} while {self.state.value}")
        self._enter(state)
        commands = outcome.commands
        if isinstance(outcome, Accepted):
            for event in outcome.early:
                commands += self.receive(event)
        elif isinstance(outcome, Ended):
            commands = [*commands, *self._stage.end(), Close(outcome.why)]
        return commands

    def _become(self, other: DeviceConnection) -> None:
        """Take the state of the other one, which is not used any more."""
        self.state, self._stage, self._rows = other.state, other._stage, other._rows
        stage = other._stage if other.state is State.ESTABLISHED else None
        self.established = stage if isinstance(stage, EstablishedConnection) else None

    def _enter(self, state: State) -> None:
        self.state = state
        self.established = None
        if state is State.ESTABLISHED and isinstance(self._stage, Opening):
            self._stage = self.established = self._stage.established
        self._rows = TABLE[state]
