"""The packets that are decoded: CONNECT, CONNACK, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, AUTH.

All others stay bytes, of which a few are read where they stand: a packet identifier, or a reason code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from gateway.mqtt.properties import Property


class PacketType(IntEnum):
    """The upper four bits of the first byte (MQTT 5, 2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


BRIDGE = 0x80
"""The bit of the protocol level by which a Mosquitto that connects to another says it is a bridge."""


class Version(IntEnum):
    """The protocol level in CONNECT (3.1.2.2), without the bridge bit. MQTT 3.1 is served as 3.1.1 is."""

    V311 = 4
    V5 = 5


@dataclass(slots=True)
class Will:
    """The will of a CONNECT (MQTT 5, 3.1.3.2 to 3.1.3.4)."""

    topic: bytes
    payload: bytes = field(repr=False)
    qos: int
    retain: bool
    properties: list[Property]


@dataclass(slots=True)
class Connect:
    """A CONNECT (MQTT 5, 3.1). Password and user name are bytes: the standard's binary data and string."""

    version: Version
    clean_start: bool
    keep_alive: int
    """Seconds; 0 for none."""
    client_id: bytes
    username: bytes | None
    password: bytes | None = field(repr=False)
    will: Will | None
    properties: list[Property]
    level: int = 0
    """The protocol level as it came: 3 for MQTT 3.1, and perhaps with `BRIDGE`. 0: that of `version`."""

    @property
    def is_mqtt31(self) -> bool:
        """Whether it came as MQTT 3.1, whose protocol name is MQIsdp."""
        return self.level & ~BRIDGE == 3


@dataclass(slots=True)
class Connack:
    """A CONNACK (MQTT 5, 3.2). `code` is a reason code of MQTT 5 or a return code of 3.1.1."""

    session_present: bool
    code: int
    properties: list[Property]


@dataclass(slots=True)
class Publish:
    """A PUBLISH (MQTT 5, 3.3), with where its parts stand in the bytes it came in."""

    first_byte: int
    topic: bytes
    """As sent: empty when a topic alias stands for it."""
    packet_id: int
    properties: list[Property]
    payload_at: int

    @property
    def qos(self) -> int:
        """0, 1 or 2."""
        return self.first_byte >> 1 & 3

    @property
    def retain(self) -> bool:
        """Whether the RETAIN flag is set."""
        return bool(self.first_byte & 1)


@dataclass(slots=True)
class Subscription:
    """One topic filter of a SUBSCRIBE with its options byte (MQTT 5, 3.8.3.1)."""

    filter: bytes
    options: int

    @property
    def qos(self) -> int:
        """The Maximum QoS asked for."""
        return self.options & 3


@dataclass(slots=True)
class Unsubscribe:
    """An UNSUBSCRIBE (MQTT 5, 3.10)."""

    packet_id: int
    properties: list[Property]
    filters: list[bytes]


@dataclass(slots=True)
class Auth:
    """An AUTH of MQTT 5 (3.15)."""

    code: int
    method: bytes | None
    data: bytes = field(repr=False)


@dataclass(slots=True)
class Subscribe:
    """A SUBSCRIBE (MQTT 5, 3.8)."""

    packet_id: int
    properties: list[Property]
    subscriptions: list[Subscription]
