"""What is to be done with a connection: what `Bridge.receive` answers and `gateway.net` carries out."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


class SendToBus(msgspec.Struct, gc=False):
    """Write these bytes to the bus."""

    data: bytes


class SendToDevice(msgspec.Struct, gc=False):
    """Write these bytes to the device."""

    data: bytes


@dataclass(slots=True)
class Authenticate:
    """Find out whose credentials these are. Nothing is read from the device meanwhile."""

    username: bytes | None
    password: bytes | None = field(repr=False)


@dataclass(slots=True)
class OpenBus:
    """Open the connection to the bus and write this CONNECT."""

    connect: bytes = field(repr=False)


@dataclass(slots=True)
class Established:
    """The bus took the session: the device is there."""


@dataclass(slots=True)
class PauseDevice:
    """Read nothing from the device until the next Tick: it is over its rate."""


@dataclass(slots=True)
class Report:
    """Tell the admins: becomes an audit event. Topics are the device's own words and may hold anything."""

    kind: str
    outcome: str
    reason: str
    action: str = ""
    topic: str = ""
    rule: str = ""
    count: int = 1
    """How many times it happened since it was last reported."""


@dataclass(slots=True)
class Close:
    """Close both connections when what was written is out. `why` is for the log."""

    why: str


Command = SendToBus | SendToDevice | Authenticate | OpenBus | Established | PauseDevice | Report | Close
