"""An established connection that only waits for the bus: after a goodbye of the device, or after its fault.

What the device sends is ignored; what the bus sends still passes. After a goodbye, which is a DISCONNECT, the
gateway may send nothing more to the bus [MQTT-3.14.4-1], and the bus has dropped the will. After a fault it
is drained: the bus answers what came before, the device gets those answers, as on Mosquitto, and then the
reason of its fault.
"""

from __future__ import annotations

from gateway.connection.access_changes import expired
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
from gateway.connection.handler_outcomes import Ended, Result
from gateway.mqtt.reason_codes import Reason

_LEAVING_TICKS_MAX = 5
"""Ticks (seconds) that the bus may take to answer and to close."""


def _tick(established: EstablishedConnection, event: Tick) -> Result:
    """A second has passed: the bus gets only a few."""
    established.leaving_ticks += 1
    if established.leaving_ticks > _LEAVING_TICKS_MAX:
        return established.planned_end
    established.begin_second(event.second)
    return established.bus_waits()


# After a goodbye


def tick_after_goodbye(established: EstablishedConnection, event: Tick) -> Result:
    """A second has passed: once its token or certificate has ended nothing more is delivered."""
    if why := established.authorizer.expired:
        return established.disconnect_device(Reason.NOT_AUTHORIZED, why, refused_session(why))
    return _tick(established, event)


def bus_bytes(established: EstablishedConnection, event: BusBytes) -> Result:
    """What the bus still sends passes, unanswered."""
    return _unanswered(established.bus_bytes(event))


def turn_after_goodbye(established: EstablishedConnection, _: Turn) -> Result:
    """A slice of what the bus sent and waits."""
    return _unanswered(established.process_waiting_from_bus())


def _unanswered(result: list[Command] | Ended) -> Result:
    commands = result if isinstance(result, list) else result.commands
    commands[:] = [command for command in commands if type(command) is not SendToBus]
    return result


def policy_changed(established: EstablishedConnection, event: PolicyChanged) -> Result:
    """Other rules are in force, for what the bus still delivers."""
    established.take_device(event.device)
    return []


def withdrawn(established: EstablishedConnection, event: AccessWithdrawn | ReauthenticationFailed) -> Result:
    """The device may not stay; it was leaving anyway."""
    return established.disconnect_device(Reason.NOT_AUTHORIZED, event.why)


def lost(established: EstablishedConnection, _: DeviceLost | BusLost) -> Result:
    """One side has closed: it ends as a goodbye, whichever that was."""
    return established.planned_end


# Draining


def tick_to_drain(established: EstablishedConnection, event: Tick) -> Result:
    """A second has passed. If its token or certificate has ended, a DISCONNECT has the bus drop the will."""
    why = established.authorizer.expired
    return expired(established, why) if why else _tick(established, event)


def turn_to_drain(established: EstablishedConnection, _: Turn) -> Result:
    """A slice of what waits from the bus."""
    return established.process_waiting_from_bus()


# Both


def stop(established: EstablishedConnection, _: ShuttingDown) -> Result:
    """The gateway stops. The bus gets no DISCONNECT: it has one, or the will is published for the fault."""
    return established.disconnect_device(Reason.SERVER_SHUTTING_DOWN, "the gateway stops")
