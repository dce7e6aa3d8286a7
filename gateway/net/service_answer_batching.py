"""Joins the answers of our services to consecutive requests of one device into one write.

Stands between `gateway.net.device_side` and the services. A write of its own for each answer, which is a TLS
record and a system call, costs more than the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from gateway.connection.commands import Call, Command, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.net.data_plane_parts import DataPlane

_WRITE_BYTES = 16_384
"""Bytes of answers after which they are written: what one TLS record holds."""


class Calling(Protocol):
    """A connection whose device calls services: `gateway.net.device_side.DeviceSide`."""

    plane: DataPlane
    connection: DeviceConnection


def answer_calls(side: Calling, call: Call, rest: Iterator[Command]) -> list[Command]:
    """Have this call, and the calls right after it, answered. Returns the commands to carry out.

    `rest` yields the commands after the call. The first of them that is not a call is consumed too, and
    returned as the last.
    """
    connection, answers, size = side.connection, [], 0
    commands: list[Command] = []
    command: Command | None = call
    identity = connection.identity
    while isinstance(command, Call):
        for answer in connection.receive(side.plane.services(command, identity)) if identity else ():
            if isinstance(answer, SendToDevice):
                answers.append(answer.data)
                size += len(answer.data)
            else:
                commands.append(answer)
        command = next(rest, None) if size < _WRITE_BYTES else None
    if answers:
        commands.insert(0, SendToDevice(b"".join(answers)))
    if command is not None:
        commands.append(command)
    return commands
