"""MQTT 5 properties (2.2.2), decoded no further than needed.

Properties keep their order, their duplicates and their bytes, in a list, so that what the gateway does not
mean to change stays as it came. User properties in a dict would lose order and duplicates.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from gateway.mqtt.data_types import Reader, encode_binary, encode_length
from gateway.mqtt.errors import LimitExceeded, MalformedPacket, ProtocolError
from gateway.mqtt.topics import name_fault


class PropertyId(IntEnum):
    """Identifiers of the properties we read or write ourselves (MQTT 5, 2.2.2.2)."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27


# How long each property's value is (MQTT 5, table 2-4): bytes if positive, else one of three encodings.
_VARIABLE, _STRING, _PAIR = -1, -2, -3
_FORM = {
    0x01: 1,
    0x02: 4,
    0x03: _STRING,
    0x08: _STRING,
    0x09: _STRING,
    0x0B: _VARIABLE,
    0x11: 4,
    0x12: _STRING,
    0x13: 2,
    0x15: _STRING,
    0x16: _STRING,
    0x17: 1,
    0x18: 4,
    0x19: 1,
    0x1A: _STRING,
    0x1C: _STRING,
    0x1F: _STRING,
    0x21: 2,
    0x22: 2,
    0x23: 2,
    0x24: 1,
    0x25: 1,
    0x26: _PAIR,
    0x27: 4,
    0x28: 1,
    0x29: 1,
    0x2A: 1,
}

# Which properties may stand in the packets we decode (MQTT 5, table 2-4).
IN_CONNECT = frozenset({0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27})
IN_WILL = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26})
IN_PUBLISH = frozenset({0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26})
IN_SUBSCRIBE = frozenset({0x0B, 0x26})
IN_UNSUBSCRIBE = frozenset({0x26})
IN_CONNACK = frozenset(
    {0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A}
)
IN_DISCONNECT = frozenset({0x11, 0x1F, 0x26})  # of a client
IN_AUTH = frozenset({0x15, 0x16, 0x1F, 0x26})
IN_ACKNOWLEDGEMENT = frozenset({0x1F, 0x26})
# With strings, which Correlation Data and Authentication Data are not: they are Binary Data.
_TEXTS = frozenset(one for one, form in _FORM.items() if form in {_STRING, _PAIR}) - {0x09, 0x16}
_ZERO_OR_ONE = frozenset({0x01, 0x17, 0x19})
_NEVER_ZERO = frozenset({0x21, 0x27})
_REPEATABLE = frozenset({PropertyId.USER_PROPERTY, PropertyId.SUBSCRIPTION_IDENTIFIER})


class Property(NamedTuple):
    """One property: its identifier, its value's bytes, and all of its bytes as they came."""

    identifier: int
    value: bytes
    """Without a length prefix for strings and binary data; big-endian for integers."""
    raw: bytes


PROPERTIES_MAX = 4_096
"""Properties of one packet, at most. One costs 2 µs, and a packet of 16 MiB could hold three million."""


def read_properties(
    reader: Reader,
    allowed: frozenset[int],
    most: int = PROPERTIES_MAX,
    check_text: Callable[[bytes], None] | None = None,
) -> list[Property]:
    """The property list at the reader's position, its length included.

    `check_text` gets each text once it is read, and may raise MqttError. Raises MalformedPacket for an
    unknown identifier, LimitExceeded for more than `most`, and when all could be read, ProtocolError for
    one that may not stand in this packet or stands twice (MQTT 5, 2.2.2.2). Where a value runs over the
    end of the list, what follows is read as properties until a fault is found, at the latest at the end of
    the packet: Mosquitto does the same, and answers that fault.
    """
    size = reader.length()
    if size == 0:
        return []
    end = reader.pos + size
    found: list[Property] = []
    seen: set[int] = set()
    fault = ""
    while reader.pos != end:
        start = reader.pos
        identifier = reader.byte()
        form = _FORM.get(identifier)
        if form is None:
            raise MalformedPacket("an unknown property")
        if len(found) == most:
            raise LimitExceeded("more properties than a packet may have here")
        if identifier not in allowed:
            fault = fault or "a property in a packet where it may not stand"
        elif identifier in seen and identifier not in _REPEATABLE:
            fault = fault or "a property twice"
        seen.add(identifier)
        value = _read_value(reader, form, check_text if identifier in _TEXTS else None)
        found.append(Property(identifier, value, reader.data[start : reader.pos]))
    if fault:
        raise ProtocolError(fault)
    return found


def value_fault(prop: Property) -> str:
    """What Mosquitto 2.1 finds wrong with its value; empty if nothing."""
    if prop.identifier in _ZERO_OR_ONE and prop.value[0] > 1:
        return "a property that has to be 0 or 1 is not"
    if prop.identifier in _NEVER_ZERO and not any(prop.value):
        return "a property that may not be 0 is 0"
    if prop.identifier == PropertyId.RESPONSE_TOPIC and name_fault(prop.value.decode("utf-8", "replace")):
        return "a response topic that is none"
    return ""


def _read_value(reader: Reader, form: int, check_text: Callable[[bytes], None] | None) -> bytes:
    if form > 0:
        return reader.raw(form)
    if form == _STRING:
        value = reader.binary()
        if check_text is not None:
            check_text(value)
        return value
    start = reader.pos
    if form == _VARIABLE:
        reader.length()
    else:
        for _ in "name", "value":
            text = reader.binary()
            if check_text is not None:
                check_text(text)
    return reader.data[start : reader.pos]


def find(properties: list[Property], identifier: int) -> bytes | None:
    """The value of the first property with this identifier."""
    for prop in properties:
        if prop.identifier == identifier:
            return prop.value
    return None


def find_number(properties: list[Property], identifier: int, default: int) -> int:
    """The value of an integer property, or `default`."""
    value = find(properties, identifier) if properties else None
    return default if value is None else int.from_bytes(value, "big")


def join(properties: list[Property], *more: bytes, without: frozenset[int] = frozenset()) -> bytes:
    """The property list on the wire, with its length: `properties` as they came, then `more`."""
    body = b"".join([prop.raw for prop in properties if prop.identifier not in without] + list(more))
    return encode_length(len(body)) + body


def string_property(identifier: int, text: str) -> bytes:
    """A string property on the wire."""
    return bytes((identifier,)) + encode_binary(text.encode())
