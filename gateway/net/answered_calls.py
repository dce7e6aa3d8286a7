"""The answers of our services to the requests of one device, put together to be written at once.

Stands between `gateway.net.device_side` and the services. A write of its own for each answer, which is a TLS
record and a system call, costs more than the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from gateway.connection.commands import Call, Command, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.net.data_plane_parts import DataPlane

_TOGETHER = 16_384
"""Bytes after which an answer waits for no other: what one TLS record holds."""


class Calling(Protocol):
    """A connection whose device asks: `gateway.net.device_side.DeviceSide`."""

    plane: DataPlane
    connection: DeviceConnection


def answered(side: Calling, call: Call, after: Iterator[Command]) -> list[Command]:
    """What is to be done for this call and those after it, and the first command that is none.

    `after` gives the commands that came with the call. It is left where these end.
    """
    connection, answers, size = side.connection, [], 0
    commands: list[Command] = []
    command: Command | None = call
    identity = connection.identity
    while isinstance(command, Call):
        for said in connection.receive(side.plane.services(command, identity)) if identity else ():
            if isinstance(said, SendToDevice):
                answers.append(said.data)
                size += len(said.data)
            else:
                commands.append(said)
        command = next(after, None) if size < _TOGETHER else None
    if answers:
        commands.insert(0, SendToDevice(b"".join(answers)))
    if command is not None:
        commands.append(command)
    return commands
