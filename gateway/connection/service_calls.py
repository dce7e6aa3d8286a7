"""Requests of a device to the gateway's own services, and their answers, as PUBLISH packets.

Requests end and answers begin in the gateway: neither ever reaches the bus. What they say is for
`gateway.services` to know.
"""

from __future__ import annotations

from gateway.connection.commands import Call
from gateway.connection.events import Answer
from gateway.mqtt.data_types import decode_utf8, encode_binary
from gateway.mqtt.encode import encode_publish
from gateway.mqtt.errors import ProtocolError
from gateway.mqtt.packets import PacketType, Publish, Version
from gateway.mqtt.properties import PropertyId, find, join, string_property
from gateway.mqtt.topics import name_fault
from gateway.policy.engine.service_names import Service

TOO_LARGE = (
    b'{"success":false,"error":"too_large",'
    b'"message":"The answer is longer than the Maximum Packet Size of this connection."}'
)
_JSON = b"\x01\x01" + string_property(PropertyId.CONTENT_TYPE, "application/json")
"""Payload Format Indicator 1: UTF-8 (MQTT 5, 3.3.2.3.2)."""


def call_of(service: Service, packet: Publish, payload: bytes) -> Call:
    """The call that a PUBLISH makes of a service. Raises MqttError for an invalid Response Topic."""
    topic = find(packet.properties, PropertyId.RESPONSE_TOPIC) if packet.properties else None
    text = None if topic is None else decode_utf8(topic)
    if text is not None and name_fault(text):
        raise ProtocolError("a Response Topic that is no topic name")  # [MQTT-3.3.2-14]
    correlation = find(packet.properties, PropertyId.CORRELATION_DATA) if packet.properties else None
    return Call(service, payload, text, correlation)


def answer_packet(answer: Answer, payload: bytes, version: Version, identifiers: bytes) -> bytes:
    """The PUBLISH of an answer, QoS 0. `identifiers` are Subscription Identifiers on the wire."""
    properties = b""
    if version is Version.V5:
        correlation = b""
        if answer.correlation is not None:
            correlation = bytes((PropertyId.CORRELATION_DATA,)) + encode_binary(answer.correlation)
        properties = join([], _JSON, correlation, identifiers)
    return encode_publish(PacketType.PUBLISH << 4, answer.topic.encode(), 0, properties, payload)


def answer_within(most: int, answer: Answer, version: Version, identifiers: bytes) -> bytes:
    """The same in at most `most` bytes, else with the payload TOO_LARGE; empty if even that is too long."""
    for payload in (answer.payload, TOO_LARGE):
        packet = answer_packet(answer, payload, version, identifiers)
        if len(packet) <= most:
            return packet
    return b""
