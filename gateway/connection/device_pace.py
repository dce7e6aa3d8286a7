"""An established connection whose device reads slower than it is written to, and may catch up again."""

from __future__ import annotations

from gateway.connection.commands import Command
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import BusLost, DeviceFull, DeviceReady
from gateway.connection.transition_outcomes import Over
from gateway.mqtt.errors import LimitExceeded
from gateway.mqtt.reason_codes import Reason


def full(established: EstablishedConnection, _: DeviceFull) -> list[Command] | Over:
    """What comes from the bus waits from now on."""
    try:
        established.downstream.hold()
    except LimitExceeded as error:  # the limits are lower now than what is held already
        return established.farewell(error.reason, str(error))
    return []


def ready(established: EstablishedConnection, _: DeviceReady) -> list[Command] | Over:
    """What waits is looked at again, when it is its turn."""
    try:
        established.downstream.take_up()
    except LimitExceeded as error:
        return established.farewell(error.reason, str(error))
    return established.bus_waits()


def bus_lost(established: EstablishedConnection, event: BusLost) -> Over:
    """The bus closed: in MQTT 3.1.1 it does not say why [MQTT-3.1.2-24, MQTT-3.1.4-2]."""
    if not event.taken_over:
        return Over([], established.heartbeat.why_lost)
    why = "the bus ended the session: the same client id connected again"
    if established.downstream.waits:
        # In MQTT 5 the bus says so, but behind what was not taken. A device that does not know comes again.
        return established.farewell(Reason.SESSION_TAKEN_OVER, why)
    return Over([], why)
