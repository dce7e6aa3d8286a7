"""The life of a connection as one table: (state, event) -> (handler, next state).

A row holds the handler, and which state comes next after which outcome. A handler that returns plain
commands leaves the state as it is; what else it may return is in `gateway.connection.handler_outcomes`.
No handler knows in which state it is called, nor enters one: `gateway.connection.device_connection` does
that, by this table alone. A missing entry is a fault of ours, not of a peer.

A device sends a message, breaks the protocol while the bus still owes it the PUBACK, and gets that first:

    state        event                       the handler returns                       next state
    ESTABLISHED  DeviceBytes(PUBLISH QoS 1)  [SendToBus(PUBLISH)]                      the same
    ESTABLISHED  DeviceBytes(type 0)         Fault([SendToBus(PINGREQ)])               DRAINING
    DRAINING     DeviceBytes(anything)       [], for the device is ignored by now      the same
    DRAINING     BusBytes(PUBACK)            [SendToDevice(PUBACK)]                    the same
    DRAINING     BusBytes(PINGRESP)          Ended([SendToDevice(DISCONNECT)], why)     CLOSED
    CLOSED       BusLost()                   []                                        the same, for ever

The picture of it in ARCHITECTURE.md is made by `docs/state_picture.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple, get_args

from gateway.connection import access_changes, draining, slow_reading_device
from gateway.connection.commands import Command
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import (
    AccessWithdrawn,
    Answer,
    Authenticated,
    AuthenticationFailed,
    BusBytes,
    BusLost,
    BusUnavailable,
    DeviceBytes,
    DeviceFull,
    DeviceLost,
    DeviceReady,
    Event,
    Kicked,
    PolicyChanged,
    Reauthenticated,
    ReauthenticationFailed,
    ShuttingDown,
    Tick,
    Turn,
)
from gateway.connection.handler_outcomes import Accepted, Ended, Fault, Outcome, Result, SaidGoodbye
from gateway.connection.opening import Opening


class State(Enum):
    """Where a connection stands."""

    __hash__ = object.__hash__
    """By identity, as they are compared: Enum's own hashes the name, in Python."""

    AWAIT_CONNECT = "await connect"
    AUTHENTICATING = "authenticating"
    OPENING_BUS = "opening bus"
    ESTABLISHED = "established"
    GOODBYE = "goodbye"
    """The device sent its DISCONNECT; what the bus still sends passes."""
    DRAINING = "draining"
    """The device broke the protocol; the bus answers what came before."""
    CLOSED = "closed"


class Row(NamedTuple):
    """What happens, and what comes after it."""

    handler: Callable[..., Result]
    """Called with what the connection is in this state (its `_stage`), and the event."""
    after: Mapping[type[Outcome], State]


def _nothing(_: Opening | EstablishedConnection, __: Event) -> list[Command]:
    return []


def _device_left(_: Opening, __: DeviceLost) -> Ended:
    return Ended([], "the device closed the connection")


def _bus_left(_: Opening, __: BusLost) -> Ended:
    return Ended([], "the bus closed the connection")


def _stop(_: Opening, __: ShuttingDown) -> Ended:
    return Ended([], "the gateway stops")


_STAYS: dict[type[Outcome], State] = {}
_CLOSES: dict[type[Outcome], State] = {Ended: State.CLOSED}
_LEAVES: dict[type[Outcome], State] = {
    SaidGoodbye: State.GOODBYE,
    Fault: State.DRAINING,
    Ended: State.CLOSED,
}

TABLE: dict[State, dict[type[Event], Row]] = {
    State.AWAIT_CONNECT: {
        DeviceBytes: Row(Opening.first_bytes, {Accepted: State.AUTHENTICATING, Ended: State.CLOSED}),
        DeviceLost: Row(_device_left, _CLOSES),
        ShuttingDown: Row(_stop, _CLOSES),
    },
    State.AUTHENTICATING: {
        DeviceBytes: Row(Opening.early_bytes, _CLOSES),
        Authenticated: Row(Opening.authenticated, {Accepted: State.OPENING_BUS, Ended: State.CLOSED}),
        AuthenticationFailed: Row(Opening.authentication_failed, _CLOSES),
        DeviceLost: Row(_device_left, _CLOSES),
        ShuttingDown: Row(_stop, _CLOSES),
    },
    State.OPENING_BUS: {
        DeviceBytes: Row(Opening.early_bytes, _CLOSES),
        BusBytes: Row(Opening.connack_bytes, {Accepted: State.ESTABLISHED, Ended: State.CLOSED}),
        BusUnavailable: Row(Opening.bus_unavailable, _CLOSES),
        PolicyChanged: Row(Opening.policy_changed, _CLOSES),
        AccessWithdrawn: Row(Opening.withdrawn, _CLOSES),
        Kicked: Row(Opening.kicked, _CLOSES),
        DeviceLost: Row(_device_left, _CLOSES),
        BusLost: Row(_bus_left, _CLOSES),
        ShuttingDown: Row(Opening.stop, _CLOSES),
    },
    State.ESTABLISHED: {
        DeviceBytes: Row(EstablishedConnection.device_bytes, _LEAVES),
        BusBytes: Row(EstablishedConnection.bus_bytes, _CLOSES),
        DeviceFull: Row(slow_reading_device.full, _CLOSES),
        DeviceReady: Row(slow_reading_device.ready, _CLOSES),
        Answer: Row(EstablishedConnection.answer, _STAYS),
        Reauthenticated: Row(access_changes.renewed, _CLOSES),
        ReauthenticationFailed: Row(access_changes.withdrawn, _CLOSES),
        PolicyChanged: Row(access_changes.policy_changed, _CLOSES),
        AccessWithdrawn: Row(access_changes.withdrawn, _CLOSES),
        Kicked: Row(access_changes.kicked, _CLOSES),
        DeviceLost: Row(_device_left, _CLOSES),
        BusLost: Row(slow_reading_device.bus_lost, _CLOSES),
        ShuttingDown: Row(access_changes.stop, _CLOSES),
        Tick: Row(access_changes.tick, _CLOSES),
        Turn: Row(EstablishedConnection.turn, _LEAVES),
    },
    State.GOODBYE: {
        DeviceBytes: Row(_nothing, _STAYS),
        BusBytes: Row(draining.bus_bytes, _CLOSES),
        DeviceFull: Row(slow_reading_device.full, _CLOSES),
        DeviceReady: Row(slow_reading_device.ready, _CLOSES),
        Answer: Row(EstablishedConnection.answer, _STAYS),
        Reauthenticated: Row(_nothing, _STAYS),
        ReauthenticationFailed: Row(draining.withdrawn, _CLOSES),
        PolicyChanged: Row(draining.policy_changed, _STAYS),
        AccessWithdrawn: Row(draining.withdrawn, _CLOSES),
        Kicked: Row(access_changes.kicked, _CLOSES),
        DeviceLost: Row(draining.lost, _CLOSES),
        BusLost: Row(draining.lost, _CLOSES),
        ShuttingDown: Row(draining.stop, _CLOSES),
        Tick: Row(draining.tick_after_goodbye, _CLOSES),
        Turn: Row(draining.turn_after_goodbye, _CLOSES),
    },
    State.DRAINING: {
        DeviceBytes: Row(_nothing, _STAYS),
        BusBytes: Row(EstablishedConnection.bus_bytes, _CLOSES),
        DeviceFull: Row(slow_reading_device.full, _CLOSES),
        DeviceReady: Row(slow_reading_device.ready, _CLOSES),
        Answer: Row(EstablishedConnection.answer, _STAYS),
        Reauthenticated: Row(_nothing, _STAYS),
        ReauthenticationFailed: Row(access_changes.withdrawn, _CLOSES),
        PolicyChanged: Row(access_changes.policy_changed, _CLOSES),
        AccessWithdrawn: Row(access_changes.withdrawn, _CLOSES),
        Kicked: Row(access_changes.kicked, _CLOSES),
        DeviceLost: Row(_device_left, _CLOSES),
        BusLost: Row(slow_reading_device.bus_lost, _CLOSES),
        ShuttingDown: Row(draining.stop, _CLOSES),
        Tick: Row(draining.tick_to_drain, _CLOSES),
        Turn: Row(draining.turn_to_drain, _CLOSES),
    },
    State.CLOSED: dict.fromkeys(get_args(Event), Row(_nothing, _STAYS)),
}
