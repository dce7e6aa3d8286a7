"""From packets to bytes: only those that the gateway sends itself, or has to change."""

from __future__ import annotations

from functools import lru_cache

from gateway.mqtt.data_types import encode_binary, encode_length
from gateway.mqtt.framing import framed
from gateway.mqtt.packets import Connack, Connect, PacketType, Subscription, Version
from gateway.mqtt.properties import Property, PropertyId, join, string_property

PINGREQ = b"\xc0\x00"


def encode_connect(connect: Connect) -> bytes:
    """A CONNECT (MQTT 5, 3.1)."""
    v5 = connect.version is Version.V5
    flags = 0x02 if connect.clean_start else 0
    parts = [encode_binary(connect.client_id)]
    if connect.will is not None:
        will = connect.will
        flags |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        if v5:
            parts.append(join(will.properties))
        parts += (encode_binary(will.topic), encode_binary(will.payload))
    if connect.username is not None:
        flags |= 0x80
        parts.append(encode_binary(connect.username))
    if connect.password is not None:
        flags |= 0x40
        parts.append(encode_binary(connect.password))
    name = b"MQIsdp" if connect.is_mqtt31 else b"MQTT"
    level = connect.level or connect.version
    head = encode_binary(name) + bytes((level, flags)) + connect.keep_alive.to_bytes(2, "big")
    if v5:
        head += join(connect.properties)
    return framed(PacketType.CONNECT << 4, head + b"".join(parts))


def encode_connack(connack: Connack, version: Version) -> bytes:
    """A CONNACK (MQTT 5, 3.2)."""
    body = bytes((connack.session_present, connack.code))
    if version is Version.V5:
        body += join(connack.properties)
    return framed(PacketType.CONNACK << 4, body)


def encode_publish(first_byte: int, topic: bytes, packet_id: int, properties: bytes, payload: bytes) -> bytes:
    """A PUBLISH (MQTT 5, 3.3). `properties` is the list on the wire, or empty in 3.1.1."""
    ident = packet_id.to_bytes(2, "big") if first_byte & 6 else b""
    size = len(topic)
    length = encode_length(2 + size + len(ident) + len(properties) + len(payload))
    # Joined once: `framed` and `encode_binary` would copy a long payload twice more.
    head = (bytes((first_byte,)), length, size.to_bytes(2, "big"), topic, ident, properties, payload)
    return b"".join(head)


def encode_ack(kind: PacketType, packet_id: int, code: int = 0, explanation: str = "") -> bytes:
    """A PUBACK, PUBREC or PUBCOMP (MQTT 5, 3.4.2). Without a code it is valid in 3.1.1 too."""
    body = packet_id.to_bytes(2, "big")
    if code:
        body += bytes((code,))
        if explanation:
            body += _reason_string(explanation)
    return framed(kind << 4, body)


@lru_cache(maxsize=64)
def _reason_string(explanation: str) -> bytes:
    """A property list with nothing but a Reason String. Remembered: most refusals have the same few."""
    return join([], string_property(PropertyId.REASON_STRING, explanation))


def encode_subscribe(packet_id: int, properties: bytes, subscriptions: list[Subscription]) -> bytes:
    """A SUBSCRIBE (MQTT 5, 3.8). `properties` is the list on the wire, or empty in 3.1.1."""
    body = b"".join(encode_binary(one.filter) + bytes((one.options,)) for one in subscriptions)
    return framed(PacketType.SUBSCRIBE << 4 | 2, packet_id.to_bytes(2, "big") + properties + body)


def encode_suback(packet_id: int, properties: bytes, codes: bytes) -> bytes:
    """A SUBACK (MQTT 5, 3.9). `properties` is the list on the wire, or empty in 3.1.1."""
    return framed(PacketType.SUBACK << 4, packet_id.to_bytes(2, "big") + properties + codes)


def encode_unsubscribe(packet_id: int, properties: bytes, filters: list[bytes]) -> bytes:
    """An UNSUBSCRIBE (MQTT 5, 3.10). `properties` is the list on the wire, or empty in 3.1.1."""
    body = b"".join(map(encode_binary, filters))
    return framed(PacketType.UNSUBSCRIBE << 4 | 2, packet_id.to_bytes(2, "big") + properties + body)


def encode_unsuback(packet_id: int, properties: bytes, codes: bytes) -> bytes:
    """An UNSUBACK (MQTT 5, 3.11). In 3.1.1 both lists are empty: it has no codes."""
    return framed(PacketType.UNSUBACK << 4, packet_id.to_bytes(2, "big") + properties + codes)


def encode_auth(code: int, properties: list[Property]) -> bytes:
    """An AUTH of MQTT 5 (3.15)."""
    return framed(PacketType.AUTH << 4, bytes((code,)) + join(properties))


def encode_disconnect(code: int, explanation: str = "") -> bytes:
    """A DISCONNECT of MQTT 5 (3.14)."""
    body = bytes((code,))
    if explanation:
        body += _reason_string(explanation)
    return framed(PacketType.DISCONNECT << 4, body)


DISCONNECT = b"\xe0\x00"
"""A DISCONNECT with reason 0 in either version: the session ends as its client wished (3.14)."""


def encode_properties(properties: list[Property], version: Version) -> bytes:
    """A property list for a packet of this version: nothing in 3.1.1."""
    return join(properties) if version is Version.V5 else b""
