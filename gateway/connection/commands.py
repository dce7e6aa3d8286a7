"""What is to be done for a connection: `DeviceConnection.receive` returns these, `gateway.net` does them."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from gateway.connection.audit_vocabulary import Report
from gateway.policy.engine.service_names import Service


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
    token: bytes | None = field(default=None, repr=False)
    """The Authentication Data of the method `gateway-jwt` (MQTT 5, 3.1.2.11.10)."""


@dataclass(slots=True)
class Reauthenticate:
    """Find out whether this token is good and of the same device: an AUTH asked for it (MQTT 5, 4.12.1)."""

    token: bytes = field(repr=False)


class Call(msgspec.Struct, gc=False):
    """Have a service answer this request of the device."""

    service: Service
    payload: bytes
    response_topic: str | None = None
    correlation: bytes | None = None
    """Correlation Data, to be given back with the answer."""

    def __repr__(self) -> str:
        return f"Call({self.service!s}, {len(self.payload)} bytes)"  # which hold a token and plaintext


@dataclass(slots=True)
class OpenBus:
    """Open the connection to the bus and write this CONNECT."""

    connect: bytes = field(repr=False)


@dataclass(slots=True)
class Established:
    """The bus accepted the CONNECT: reading from the device goes on, and its login is logged."""


@dataclass(slots=True)
class PauseDevice:
    """Read nothing from the device until the next Tick: its budget for this second is used up."""


@dataclass(slots=True)
class AwaitTurn:
    """Read nothing, and give a `Turn` once other devices have had theirs: bytes that came are unprocessed."""


@dataclass(slots=True)
class Close:
    """Close both connections once what was written has been sent. `why` is for the log."""

    why: str


Command = (
    SendToBus
    | SendToDevice
    | Authenticate
    | Reauthenticate
    | Call
    | OpenBus
    | Established
    | PauseDevice
    | AwaitTurn
    | Report
    | Close
)
