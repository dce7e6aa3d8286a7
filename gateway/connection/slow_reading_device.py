"""An established connection whose device reads slower than it is written to, and may catch up again."""

from __future__ import annotations

from gateway.connection.commands import Command
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import BusLost, DeviceFull, DeviceReady
from gateway.connection.handler_outcomes import Ended
from gateway.mqtt.errors import LimitExceeded
from gateway.mqtt.reason_codes import Reason


def full(established: EstablishedConnection, _: DeviceFull) -> list[Command] | Ended:
    """The device is full: what comes from the bus waits from now on."""
    try:
        established.downstream.stop_delivering()
    except LimitExceeded as error:  # the limits were lowered below what is held
        return established.disconnect_device(error.reason, str(error))
    return []


def ready(established: EstablishedConnection, _: DeviceReady) -> list[Command] | Ended:
    """The device is ready again: what waits is delivered when it is its turn."""
    try:
        established.downstream.resume_delivering()
    except LimitExceeded as error:
        return established.disconnect_device(error.reason, str(error))
    return established.bus_waits()


def bus_lost(established: EstablishedConnection, event: BusLost) -> Ended:
    """The bus closed: in MQTT 3.1.1 it does not say why [MQTT-3.1.2-24, MQTT-3.1.4-2]."""
    if not event.taken_over:
        return Ended([], established.heartbeat.why_lost)
    why = "the bus ended the session: the same client id connected again"
    if established.downstream.waits:
        # In MQTT 5 the bus says so, but after deliveries that still wait here. A device that is not told
        # why would connect again.
        return established.disconnect_device(Reason.SESSION_TAKEN_OVER, why)
    return Ended([], why)
