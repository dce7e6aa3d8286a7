"""An established connection whose device reads slower than it is written to, and catches up again."""

from __future__ import annotations

from gateway.connection.commands import Command
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import DeviceFull, DeviceReady


def full(established: EstablishedConnection, _: DeviceFull) -> list[Command]:
    """What comes from the bus waits from now on."""
    established.downstream.hold()
    return []


def ready(established: EstablishedConnection, _: DeviceReady) -> list[Command]:
    """What waits is looked at again, when it is its turn."""
    established.downstream.take_up()
    return established.bus_waits()
