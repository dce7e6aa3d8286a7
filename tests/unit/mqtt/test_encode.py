"""From packets to bytes: read back by our own decoder and by amqtt's."""

from __future__ import annotations

import pytest
from amqtt.adapters import BufferReader
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from harness import raw
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.data_types import read_length
from gateway.mqtt.decode import decode_connack, decode_connect, decode_publish, decode_subscribe
from gateway.mqtt.encode import (
    DISCONNECT,
    PINGREQ,
    encode_ack,
    encode_connack,
    encode_connect,
    encode_disconnect,
    encode_properties,
    encode_publish,
    encode_suback,
    encode_subscribe,
)
from gateway.mqtt.packets import Connack, Connect, PacketType, Subscription, Version, Will
from gateway.mqtt.properties import Property

V311, V5 = Version.V311, Version.V5
USER = b"\x26" + raw.text("k") + raw.text("v")
NAME = st.text("abc/ü", min_size=1, max_size=200).map(str.encode)


def props(allowed):
    """Property lists as they come from `read_properties`."""
    one = st.sampled_from(allowed).map(lambda data: Property(data[0], _value(data), data))
    return st.lists(one, max_size=2, unique_by=lambda prop: prop.identifier)


def _value(data):
    if data[0] == 0x26:
        return data[1:]
    return data[3:] if data[0] in {0x03, 0x12} else data[1:]


@st.composite
def connects(draw):
    version = draw(st.sampled_from(Version))
    v5 = version is V5
    will = None
    if draw(st.booleans()):
        will = Will(
            draw(NAME),
            draw(st.binary(max_size=200)),
            draw(st.integers(0, 2)),
            draw(st.booleans()),
            draw(props([USER, b"\x18\0\0\0\1", b"\x03" + raw.text("x")])) if v5 else [],
        )
    username = draw(st.none() | NAME)
    return Connect(
        version=version,
        clean_start=draw(st.booleans()),
        keep_alive=draw(st.integers(0, 65_535)),
        client_id=draw(NAME),
        username=username,
        password=draw(st.none() | st.binary(max_size=5)) if v5 or username is not None else None,
        will=will,
        properties=draw(props([USER, b"\x11\0\0\0\1", b"\x21\0\x05"])) if v5 else [],
    )


@given(connects())
def test_a_connect_reads_as_it_was_written(connect):
    data = encode_connect(connect)
    size, body = read_length(data, 1, len(data))
    assert data[0] == 0x10
    assert body + size == len(data)
    assert decode_connect(data, body, len(data)) == connect


@given(st.booleans(), st.integers(0, 255), props([USER, b"\x12" + raw.text("id"), b"\x21\0\1"]))
def test_a_connack_reads_as_it_was_written(session, code, properties):
    connack = Connack(session, code, properties)
    data = encode_connack(connack, V5)
    assert decode_connack(data, 2, len(data), V5) == connack


@given(st.integers(0, 2), st.booleans(), NAME, st.integers(1, 65_535), st.binary(max_size=300))
def test_a_publish_reads_as_it_was_written(qos, retain, topic, packet_id, payload):
    first = 0x30 | qos << 1 | retain
    data = encode_publish(first, topic, packet_id, b"", payload)
    assert data == raw.publish(topic, payload, qos=qos, packet_id=packet_id, retain=retain)
    found = decode_publish(data, 0, read_length(data, 1, len(data))[1], len(data), V311)
    assert (found.first_byte, found.topic, data[found.payload_at :]) == (first, topic, payload)
    assert found.packet_id == (packet_id if qos else 0)


@given(st.lists(st.tuples(NAME, st.integers(0, 2)), min_size=1, max_size=5), st.integers(1, 65_535))
def test_a_subscribe_reads_as_it_was_written(pairs, packet_id):
    some = [Subscription(name, options) for name, options in pairs]
    data = encode_subscribe(packet_id, encode_properties([], V5), some)
    assert data == raw.subscribe(packet_id, *pairs, v5=True)
    found = decode_subscribe(data, read_length(data, 1, len(data))[1], len(data), V5)
    assert (found.packet_id, found.subscriptions) == (packet_id, some)


async def test_amqtt_reads_what_we_write():
    will = Will(b"a/b", b"bye", 1, True, [])
    connect = Connect(V311, True, 30, b"lamp-1/c", b"user", b"pass", will, [])
    found = await ConnectPacket.from_stream(BufferReader(encode_connect(connect)))
    assert (found.client_id, found.username, found.password, found.keep_alive) == (
        "lamp-1/c",
        "user",
        "pass",
        30,
    )
    assert (found.will_topic, bytes(found.will_message), found.will_qos, found.will_retain_flag) == (
        "a/b",
        b"bye",
        1,
        True,
    )
    connack = await ConnackPacket.from_stream(BufferReader(encode_connack(Connack(True, 0, []), V311)))
    assert (connack.session_parent, connack.return_code) == (1, 0)
    publish = await PublishPacket.from_stream(BufferReader(encode_publish(0x33, b"t", 9, b"", b"x" * 300)))
    assert (publish.topic_name, publish.packet_id, publish.qos, len(publish.data)) == ("t", 9, 1, 300)
    some = [Subscription(b"a/#", 1), Subscription(b"b", 0)]
    subscribe = await SubscribePacket.from_stream(BufferReader(encode_subscribe(5, b"", some)))
    assert [tuple(topic) for topic in subscribe.payload.topics] == [("a/#", 1), ("b", 0)]
    suback = await SubackPacket.from_stream(BufferReader(encode_suback(5, b"", b"\x01\x80")))
    assert suback.payload.return_codes == [1, 0x80]


@pytest.mark.parametrize("kind", [PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBCOMP])
def test_acknowledgements(kind):
    assert encode_ack(kind, 300) == bytes([kind << 4, 2, 1, 44])
    assert encode_ack(kind, 1, 0x87) == bytes([kind << 4, 3, 0, 1, 0x87])
    # Properties stand behind a code only (MQTT 5, 3.4.2.1).
    assert encode_ack(kind, 1, 0, "why") == bytes([kind << 4, 2, 0, 1])
    assert encode_ack(kind, 1, 0x87, "why") == bytes([kind << 4, 10, 0, 1, 0x87, 6, 0x1F, 0, 3]) + b"why"


def test_goodbyes_and_the_heartbeat():
    assert DISCONNECT == b"\xe0\x00"
    assert PINGREQ == b"\xc0\x00"
    assert encode_disconnect(0x87) == b"\xe0\x01\x87"
    assert encode_disconnect(0x87, "no") == b"\xe0\x07\x87\x05\x1f\x00\x02no"


def test_properties_are_for_v5():
    found = [Property(0x26, USER[1:], USER)]
    assert encode_properties(found, V311) == b""
    assert encode_properties(found, V5) == raw.properties(USER)
    assert encode_properties([], V5) == b"\0"


def test_no_secret_shows():
    connect = Connect(V311, True, 0, b"c", b"u", b"hidden", Will(b"t", b"last words", 0, False, []), [])
    assert "hidden" not in repr(connect)
    assert "last words" not in repr(connect)
