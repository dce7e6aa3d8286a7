"""From bytes to packets. amqtt's codec is the second opinion for 3.1.1."""

from __future__ import annotations

import contextlib

import pytest
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from harness import raw
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.data_types import read_length
from gateway.mqtt.decode import (
    ConnectFault,
    decode_connack,
    decode_connect,
    decode_packet_id,
    decode_publish,
    decode_subscribe,
    decode_unsubscribe,
)
from gateway.mqtt.errors import MalformedPacket, MqttError, ProtocolError, Unanswerable
from gateway.mqtt.packets import Version

V311, V5 = Version.V311, Version.V5
TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Cn"]), max_size=8)
TOPIC = st.text("abü/", min_size=1, max_size=8)
PACKET_ID = st.integers(1, 65_535)


def body_of(packet):
    """Where the body of a packet starts."""
    return read_length(packet, 1, len(packet))[1]


def connect(packet):
    return decode_connect(packet, body_of(packet), len(packet))


def publish(packet, version=V311):
    return decode_publish(packet, 0, body_of(packet), len(packet), version)


def subscribe(packet, version=V311):
    return decode_subscribe(packet, body_of(packet), len(packet), version)


@given(
    client_id=TEXT.filter(bool),
    username=TEXT,
    password=TEXT,
    named=st.booleans(),
    secret=st.booleans(),
    clean=st.booleans(),
    keep_alive=st.integers(0, 65_535),
    will=st.none() | st.tuples(TOPIC, st.binary(max_size=8), st.integers(0, 2), st.booleans()),
)
def test_connect_as_amqtt_writes_it(client_id, username, password, named, secret, clean, keep_alive, will):
    header = ConnectVariableHeader(keep_alive=keep_alive)
    content = ConnectPayload(client_id)
    header.clean_session_flag = clean
    if will:
        header.will_flag = True
        content.will_topic, content.will_message, header.will_qos, header.will_retain_flag = will
    if named:
        header.username_flag, content.username = True, username
        if secret:
            header.password_flag, content.password = True, password
    found = connect(ConnectPacket(variable_header=header, payload=content).to_bytes())
    assert found.version is V311
    assert (found.client_id.decode(), found.clean_start, found.keep_alive) == (client_id, clean, keep_alive)
    assert found.username == (username.encode() if named else None)
    assert found.password == (password.encode() if named and secret else None)
    if will is None:
        assert found.will is None
    else:
        assert (found.will.topic.decode(), found.will.payload, found.will.qos, found.will.retain) == will


@given(TOPIC, st.binary(max_size=20), PACKET_ID, st.booleans(), st.integers(0, 2), st.booleans())
def test_publish_as_amqtt_writes_it(topic, payload, packet_id, dup, qos, retain):
    data = PublishPacket.build(topic, payload, packet_id if qos else None, dup, qos, retain).to_bytes()
    found = publish(data)
    assert (found.topic.decode(), found.qos, found.retain) == (topic, qos, retain)
    assert found.packet_id == (packet_id if qos else 0)
    assert data[found.payload_at :] == payload
    assert found.first_byte & 8 == (8 if dup else 0)


@given(st.lists(st.tuples(TOPIC, st.integers(0, 2)), min_size=1, max_size=4), PACKET_ID)
def test_subscribe_and_unsubscribe_as_amqtt_writes_them(topics, packet_id):
    found = subscribe(SubscribePacket.build(topics, packet_id).to_bytes())
    assert found.packet_id == packet_id
    assert [(one.filter.decode(), one.qos) for one in found.subscriptions] == topics
    names = [name for name, _ in topics]
    data = UnsubscribePacket.build(names, packet_id).to_bytes()
    gone = decode_unsubscribe(data, body_of(data), len(data), V311)
    assert (gone.packet_id, [one.decode() for one in gone.filters]) == (packet_id, names)


@pytest.mark.parametrize("session", [0, 1])
@pytest.mark.parametrize("code", range(6))
def test_connack_as_amqtt_writes_it(session, code):
    data = ConnackPacket.build(session, code).to_bytes()
    found = decode_connack(data, 2, 4, V311)
    assert (found.session_present, found.code) == (bool(session), code)


def test_connect_of_v5():
    props, will_props = b"\x21\0\x05", b"\x18\0\0\0\x09\x26" + raw.text("k") + raw.text("v")
    packet = raw.connect(
        "c",
        v5=True,
        password=b"\xff\0",
        clean=False,
        will=("t", b"\0", 1, True),
        props=props,
        will_props=will_props,
    )
    found = connect(packet)
    assert found.version is V5
    assert (found.client_id, found.username, found.password, found.clean_start) == (
        b"c",
        None,
        b"\xff\0",
        False,
    )
    assert [one.raw for one in found.properties] == [props]
    assert b"".join(one.raw for one in found.will.properties) == will_props
    assert "\\xff" not in repr(found)


def test_publish_of_v5():
    packet = raw.publish("t", b"payload", qos=1, packet_id=3, v5=True, props=b"\x23\0\x07")
    found = publish(packet, V5)
    assert [one.identifier for one in found.properties] == [0x23]
    assert packet[found.payload_at :] == b"payload"
    # The same bytes, read as 3.1.1, have the properties in their payload.
    assert packet[publish(packet).payload_at :] == b"\x03\x23\0\x07payload"


def test_an_empty_topic_is_left_to_those_who_know_aliases():
    assert publish(raw.publish("", b"", v5=True, props=b"\x23\0\1"), V5).topic == b""


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (raw.packet(0x30), MalformedPacket),
        (raw.packet(0x30, b"\0"), MalformedPacket),
        (raw.packet(0x30, b"\0\3ab"), MalformedPacket),
        (raw.packet(0x32, b"\0\1a"), MalformedPacket),
        (raw.packet(0x32, b"\0\1a\0"), MalformedPacket),
        (raw.packet(0x36, b"\0\1a\0\1"), MalformedPacket),
        (raw.packet(0x32, b"\0\1a\0\0"), MqttError),
    ],
)
def test_what_is_no_publish(packet, error):
    with pytest.raises(error):
        publish(packet)


def test_a_publish_ends_where_its_packet_ends():
    # Behind it there is more, which is not its own.
    packet = raw.packet(0x32, b"\0\1a\0")
    with pytest.raises(MalformedPacket):
        decode_publish(packet + b"\1\1\1", 0, 2, len(packet), V311)
    with pytest.raises(MalformedPacket):
        decode_publish(raw.packet(0x30, b"\0\1a") + b"\0", 0, 2, 5, V5)


CONNECT = raw.connect("c", username="u", password="p")
NAME = raw.text("MQTT")


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (raw.packet(0x10, raw.text("MQTTX") + b"\4\2\0\0" + raw.text("c")), Unanswerable),
        (raw.packet(0x10, raw.text("") + b"\4\2\0\0" + raw.text("c")), Unanswerable),
        (raw.packet(0x10, raw.text("mqtt") + b"\4\2\0\0" + raw.text("c")), Unanswerable),
        (raw.packet(0x10, NAME + b"\3\2\0\0" + raw.text("c")), ConnectFault),
        (raw.packet(0x10, NAME + b"\6\2\0\0" + raw.text("c")), ConnectFault),
        (raw.packet(0x10, raw.text("MQIsdp") + b"\4\2\0\0" + raw.text("c")), ConnectFault),
        (raw.packet(0x10, NAME + b"\4\3\0\0" + raw.text("c")), MqttError),
        (raw.packet(0x10, NAME + b"\4\x0a\0\0" + raw.text("c")), MqttError),
        (raw.packet(0x10, NAME + b"\4\x22\0\0" + raw.text("c")), MqttError),
        (raw.packet(0x10, NAME + b"\4\x1e\0\0" + raw.text("c") + raw.text("t") + raw.text("")), MqttError),
        (raw.packet(0x10, NAME + b"\4\x42\0\0" + raw.text("c") + raw.text("p")), MqttError),
        (raw.packet(0x10, CONNECT[2:] + b"x"), MqttError),
        (raw.connect("a\0"), MqttError),
        (raw.connect(b"\xff"), MqttError),
        (raw.connect("c", username=b"\xff"), MqttError),
    ],
)
def test_what_is_no_connect(packet, error):
    with pytest.raises(error):
        connect(packet)


@given(st.integers(0, len(CONNECT) - 3))
def test_a_connect_that_is_cut_off(size):
    with pytest.raises(MqttError):
        decode_connect(CONNECT, 2, 2 + size)


@pytest.mark.parametrize("name", ["MQTX", "mqtt", "MQIsdP", "MQIsdp"])
@pytest.mark.parametrize("level", [0, 1, 2, 6, 7, 0x82, 0x86, 0xFF])
def test_a_level_that_nobody_speaks_is_answered_whatever_the_name_is(name, level):
    with pytest.raises(ConnectFault) as caught:
        connect(raw.packet(0x10, raw.text(name) + bytes([level])))
    assert (caught.value.reason, caught.value.version) == (0x84, V5)


@pytest.mark.parametrize(
    ("flags", "tail", "username", "password"),
    [
        (0x2A, b"", None, None),
        (0xC2, b"", None, None),
        (0xC2, b"\0\1", None, None),
        (0xC2, raw.text(b"\xff") + raw.text("p"), None, b"p"),
        (0xC2, raw.text("a\0") + raw.text("p"), None, b"p"),
        (0xC2, raw.text("a\x01"), None, None),
        (0xC2, raw.text("u") + b"\0\5", b"u", None),
    ],
)
def test_what_mqtt_3_1_promises_and_does_not_send_is_none(flags, tail, username, password):
    packet = raw.packet(0x10, raw.text("MQIsdp") + bytes([3, flags, 0, 9]) + raw.text("c") + tail)
    read = connect(packet)
    assert (read.will, read.username, read.password) == (None, username, password)


# Bad text ends a CONNECT without a word, anything else with 0x81 or 0x82: what comes first, counts.
@pytest.mark.parametrize(
    ("props", "error"),
    [
        (b"\x26\0\1\xff\0\1b" + b"\x7f\0", Unanswerable),
        (b"\x7f\0" + b"\x26\0\1\xff\0\1b", ConnectFault),
        (b"\x01\0" + b"\x26\0\1\xff\0\1b", Unanswerable),
        (b"\x21\0\0" + b"\x1f\0\1\0", Unanswerable),
        (b"\x26\0\1\xff\0\x63b", Unanswerable),
        (b"\x15\0\1\x01", Unanswerable),
        (b"\x1f\0\x01", Unanswerable),  # which takes the first byte of the client id, a NUL
    ],
)
@pytest.mark.parametrize("of", ["connect", "will"])
def test_of_several_faults_in_properties_the_first_that_is_met_counts(props, error, of):
    will = ("t", b"", 0, False)
    packet = (
        raw.connect("c", v5=True, props=props)
        if of == "connect"
        else raw.connect("c", v5=True, will=will, will_props=props)
    )
    with pytest.raises(error):
        connect(packet)


def test_a_password_without_a_user_name_is_for_v5():
    assert connect(raw.connect("c", v5=True, password="p")).password == b"p"


@pytest.mark.parametrize(
    ("data", "version"),
    [(b"\0", V311), (b"", V5), (b"\2\0", V311), (b"\0\0\0", V311), (b"\0\0\1", V5), (b"\0\0\2\x01\1", V5)],
)
def test_what_is_no_connack(data, version):
    with pytest.raises(MqttError):
        decode_connack(data, 0, len(data), version)


def test_a_connack_in_the_form_of_311_answers_v5_too():
    assert decode_connack(b"\0\1", 0, 2, V5).code == 1


@pytest.mark.parametrize(
    ("packet", "version"),
    [
        (raw.subscribe(1), V311),
        (raw.subscribe(0, ("a", 0)), V311),
        (raw.subscribe(1, ("a", 3)), V311),
        (raw.subscribe(1, ("a", 4)), V311),
        (raw.subscribe(1, ("a", 0x80)), V5),
        (raw.subscribe(1, ("a", 0x30), v5=True), V5),
        (raw.subscribe(1, ("a", 0xC0), v5=True), V5),
        (raw.subscribe(1, ("a", 0), v5=True, props=b"\x01\1"), V5),
        (raw.packet(0x82, b"\0"), V311),
        (raw.packet(0x82, b"\0\1\0\1"), V311),
        (raw.packet(0x82, b"\0\1\0\1a"), V311),
    ],
)
def test_what_is_no_subscribe(packet, version):
    with pytest.raises(MqttError):
        subscribe(packet, version)


def test_options_of_v5():
    (one,) = subscribe(raw.subscribe(1, ("a", 0x2E), v5=True), V5).subscriptions
    assert (one.options, one.qos) == (0x2E, 2)


def test_acknowledgements():
    assert decode_packet_id(b"\1\0", 0, 2) == 256
    for data in (b"", b"\0", b"\0\0"):
        with pytest.raises(MqttError):
            decode_packet_id(data, 0, len(data))
    with pytest.raises(ProtocolError):
        decode_packet_id(b"\0\0", 0, 2)


@given(
    st.binary(max_size=40),
    st.sampled_from([V311, V5]),
    st.sampled_from([decode_connect, decode_connack, decode_publish, decode_subscribe, decode_unsubscribe]),
)
def test_arbitrary_bytes_raise_errors_of_ours_or_nothing(data, version, decode):
    arguments = {
        decode_connect: (data, 0, len(data)),
        decode_publish: (b"\x32" + data, 0, 1, 1 + len(data), version),
    }.get(decode, (data, 0, len(data), version))
    with contextlib.suppress(MqttError):
        decode(*arguments)
