"""An established connection that only waits for the bus: after a goodbye, or to be drained after a fault.

The device is not listened to any more; what the bus says still passes. After a goodbye nothing of ours may
follow to the bus [MQTT-3.14.4-1], and the will is gone with it. To be drained means that the bus answers what
came before the fault of the device, which gets those answers, as on Mosquitto, and then its reason.
"""

from __future__ import annotations

from gateway.connection.access_changes import EXPIRED, expired
from gateway.connection.audit_vocabulary import refused_session
from gateway.connection.commands import Command, SendToBus
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import (
    AccessWithdrawn,
    BusBytes,
    BusLost,
    DeviceLost,
    PolicyChanged,
    ReauthenticationFailed,
    ShuttingDown,
    Tick,
    Turn,
)
from gateway.connection.transition_outcomes import Over, Result
from gateway.mqtt.reason_codes import Reason

_LEAVING_TICKS_MAX = 5
"""Ticks, one a second, that the bus may take to answer and to close."""


def _tick(established: EstablishedConnection, event: Tick) -> Result:
    """A second went by: the bus is not waited for long."""
    established.leaving_ticks += 1
    if established.leaving_ticks > _LEAVING_TICKS_MAX:
        return established.last_words
    established.begin_second(event.second)
    return established.bus_waits()


# After a goodbye


def tick_after_goodbye(established: EstablishedConnection, event: Tick) -> Result:
    """A second went by: nothing more is delivered when the time of its token is over."""
    if established.authorizer.expired:
        return established.farewell(Reason.NOT_AUTHORIZED, EXPIRED, refused_session(EXPIRED))
    return _tick(established, event)


def bus_bytes(established: EstablishedConnection, event: BusBytes) -> Result:
    """The bus's last words."""
    return _unanswered(established.bus_bytes(event))


def turn_after_goodbye(established: EstablishedConnection, _: Turn) -> Result:
    """A slice of them that waited."""
    return _unanswered(established.rest_of_bus())


def _unanswered(result: list[Command] | Over) -> Result:
    commands = result if isinstance(result, list) else result.commands
    commands[:] = [command for command in commands if type(command) is not SendToBus]
    return result


def policy_changed(established: EstablishedConnection, event: PolicyChanged) -> Result:
    """Other rules, for what the bus still delivers."""
    established.take_device(event.device)
    return []


def withdrawn(established: EstablishedConnection, event: AccessWithdrawn | ReauthenticationFailed) -> Result:
    """The device may not stay, and was leaving."""
    return established.farewell(Reason.NOT_AUTHORIZED, event.why)


def lost(established: EstablishedConnection, _: DeviceLost | BusLost) -> Result:
    """Whoever closes first: it was a goodbye."""
    return established.last_words


# To be drained


def tick_to_drain(established: EstablishedConnection, event: Tick) -> Result:
    """A second went by, and perhaps the time of its token: its will goes with it."""
    return expired(established) if established.authorizer.expired else _tick(established, event)


def turn_to_drain(established: EstablishedConnection, _: Turn) -> Result:
    """A slice of what waits from the bus."""
    return established.rest_of_bus()


# Both


def stop(established: EstablishedConnection, _: ShuttingDown) -> Result:
    """The gateway stops. The bus gets no DISCONNECT: it has one, or the device deserves none."""
    return established.farewell(Reason.SERVER_SHUTTING_DOWN, "the gateway stops")
