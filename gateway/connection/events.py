"""What can happen to a connection. `DeviceConnection.receive` takes one of these and answers with commands.

Those that come with every chunk are msgspec structs, which cost a third of a dataclass to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from gateway.connection.audit_vocabulary import Report
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.identity import Device, Grant


class DeviceBytes(msgspec.Struct, gc=False):
    """Bytes arrived from the device, decrypted; they may begin and end anywhere in a packet."""

    data: bytes


class BusBytes(msgspec.Struct, gc=False):
    """Bytes arrived from the bus, likewise."""

    data: bytes


@dataclass(slots=True)
class DeviceFull:
    """The write buffer towards the device is full, for it reads too slowly: write nothing more for now."""


@dataclass(slots=True)
class DeviceReady:
    """The device has caught up, and may be written to again."""


@dataclass(slots=True)
class Authenticated:
    """The credentials of the CONNECT belong to this device."""

    device: Device = field(repr=False)
    grant: Grant | None = None
    """Of a token, if that was the credential."""
    certificate_ends: int | None = None
    """Unix seconds: notAfter of a client certificate, if that was the credential."""


@dataclass(slots=True)
class AuthenticationFailed:
    """The CONNECT is refused; the device learns the reason code and nothing else."""

    reason: Reason


@dataclass(slots=True)
class Reauthenticated:
    """The token of an AUTH is good, and of the same device (MQTT 5, 4.12.1)."""

    device: Device = field(repr=False)
    grant: Grant


@dataclass(slots=True)
class ReauthenticationFailed:
    """The token of an AUTH is not good: the session ends."""

    why: str


class Answer(msgspec.Struct):
    """What a service answers to a `Call` of this connection."""

    topic: str
    payload: bytes
    correlation: bytes | None = None
    """The Correlation Data of the request."""
    report: Report | None = None
    """What the admins learn of it."""

    def __repr__(self) -> str:
        return f"Answer({self.topic!r}, {len(self.payload)} bytes)"  # which hold a token or plaintext


@dataclass(slots=True)
class BusUnavailable:
    """The bus could not be reached, or did not answer the CONNECT in time."""

    connect_sent: bool = False
    """Whether the bus may have the CONNECT."""


@dataclass(slots=True)
class DeviceLost:
    """The device's connection ended, with or without a DISCONNECT."""


@dataclass(slots=True)
class BusLost:
    """The bus's connection ended, with or without a DISCONNECT."""

    taken_over: bool = False
    """Whether a later connection with the same client id came through this gateway."""


@dataclass(slots=True)
class PolicyChanged:
    """A different policy is in force, or the device has other roles or labels."""

    device: Device = field(repr=False)


@dataclass(slots=True)
class AccessWithdrawn:
    """The device was disabled, removed, or has a new secret."""

    why: str


@dataclass(slots=True)
class Kicked:
    """An administrator ends the connection, and takes no right away: the device may come back at once."""

    why: str


@dataclass(slots=True)
class ShuttingDown:
    """The gateway stops."""


@dataclass(slots=True)
class Tick:
    """A second has passed."""

    reading: bool = True
    """Whether the device was being read from in that second."""
    second: int = -1
    """Its number, counted since the port opened. All connections of a device get a tick with the same number,
    and its budget begins a new second at the first of them. -1: the next number, whichever that is."""


@dataclass(slots=True)
class Turn:
    """It is this connection's turn again, after an `AwaitTurn` (`gateway.net.device_round_robin`)."""


Event = (
    DeviceBytes
    | BusBytes
    | DeviceFull
    | DeviceReady
    | Authenticated
    | AuthenticationFailed
    | Reauthenticated
    | ReauthenticationFailed
    | Answer
    | BusUnavailable
    | DeviceLost
    | BusLost
    | PolicyChanged
    | AccessWithdrawn
    | Kicked
    | ShuttingDown
    | Tick
    | Turn
)
