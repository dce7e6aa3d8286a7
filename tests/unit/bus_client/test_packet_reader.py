"""What a client reads from the bus: the same however it is cut, and never more of it than it may hold."""

from __future__ import annotations

from itertools import pairwise

import pytest
from harness import raw
from hypothesis import given
from hypothesis import strategies as st

from gateway.bus_client.packet_reader import HEAD_MAX, BusReader, Delivery, Packet
from gateway.mqtt.errors import MqttError
from gateway.mqtt.packets import Version
from gateway.mqtt.properties import Property

MAX = 1_000
BACK = b"\x08" + raw.text("reply/x") + b"\x09" + raw.text(b"\0\xff")
BOTH = [
    Property(0x08, b"reply/x", b"\x08" + raw.text("reply/x")),
    Property(0x09, b"\0\xff", b"\x09" + raw.text(b"\0\xff")),
]
both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


def reader(*, v5=True, max_size=MAX):
    return BusReader(Version.V5 if v5 else Version.V311, max_size)


def feed(one, data, cuts=()):
    found = []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        one.push(data[start:end])
        found += popped(one)
    return found


def popped(one):
    """Everything that is whole."""
    found = []
    while (packet := one.pop()) is not None:
        found.append(packet)
    return found


def whole(topic="t", payload=b"", *, retain=False, packet_id=0, response=None, correlation=None):
    properties = BOTH if correlation else []
    return Delivery(
        topic, payload, retain, packet_id, response, correlation, whole=True, properties=properties
    )


def head(packet_id=0, *, back=True, topic="t"):
    way = ("reply/x", b"\0\xff") if back else (None, None)
    return Delivery(topic, b"", False, packet_id, *way, whole=False, properties=BOTH if back else [])


MIXED = b"".join(
    [
        raw.publish("a", b"1", v5=True),
        raw.PINGRESP,
        raw.publish("b/c", b"x" * 3_000, qos=1, packet_id=9, v5=True, props=BACK),
        raw.publish("d", b"y" * 300, qos=1, packet_id=10, retain=True, v5=True, props=BACK),
        raw.packet(0x40, b"\0\x07"),
        raw.publish("e", b"", v5=True),
    ]
)
FOUND = [
    whole("a", b"1"),
    Packet(13, b""),
    head(9, topic="b/c"),
    whole("d", b"y" * 300, retain=True, packet_id=10, response="reply/x", correlation=b"\0\xff"),
    Packet(4, b"\0\x07"),
    whole("e"),
]


@given(st.lists(st.integers(0, len(MIXED)), max_size=20))
def test_however_it_is_cut(cuts):
    assert feed(reader(), MIXED, cuts) == FOUND


def test_all_at_once_after_it_was_pushed_in_pieces():
    one = reader()
    for start in range(0, len(MIXED), 7):
        one.push(MIXED[start : start + 7])
    assert one.held == len(MIXED)
    assert popped(one) == FOUND
    assert one.held == 0


def test_byte_by_byte():
    assert feed(reader(), MIXED, range(1, len(MIXED))) == FOUND


@both
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_the_bound_is_the_length_of_the_packet(v5, over):
    frame = raw.publish("t", b"", v5=v5)
    payload = b"p" * (MAX - len(frame) - 1 + over)  # a longer length takes one byte more
    found = feed(reader(v5=v5), raw.publish("t", payload, v5=v5) + raw.PINGRESP)
    assert [one.whole for one in found[:1]] == [over <= 0]
    assert found[1] == Packet(13, b"")


def test_nothing_of_a_long_message_is_held():
    one = reader()
    message = raw.publish("t", b"x" * 20_000_000, v5=True, props=BACK)
    found = []
    for start in range(0, len(message), 65_536):
        one.push(message[start : start + 65_536])
        assert one.held <= HEAD_MAX + 65_536
        found += popped(one)
    assert found == [head()]
    assert feed(one, raw.PINGRESP) == [Packet(13, b"")]


def test_behind_too_many_properties_no_way_back_is_found():
    user = b"\x26" + raw.text("k") + raw.text("v" * 60_000)
    message = raw.publish("t", b"1", qos=1, packet_id=3, v5=True, props=user * 6 + BACK)
    assert feed(reader(), message) == [head(3, back=False)]
    # They are found before them.
    message = raw.publish("t", b"1", qos=1, packet_id=3, v5=True, props=BACK + user)
    (found,) = feed(reader(), message)
    assert (found.whole, found.response_topic, found.correlation) == (False, "reply/x", b"\0\xff")
    assert [one.identifier for one in found.properties] == [0x08, 0x09, 0x26]


def test_a_message_of_a_million_properties_is_no_fault_of_the_bus():
    props = (b"\x26" + raw.text("") + raw.text("")) * 5_000
    found = feed(reader(max_size=1_000_000), raw.publish("t", b"1", v5=True, props=props) + raw.PINGRESP)
    assert found == [head(back=False), Packet(13, b"")]


def test_a_response_topic_that_is_no_text_is_none_one_may_use():
    for value in (b"\xff", b"a\0b"):
        message = raw.publish("t", b"1", v5=True, props=b"\x08" + raw.text(value))
        (found,) = feed(reader(), message)
        assert (found.whole, found.response_topic, found.payload) == (True, "", b"1")


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\xff\xff\xff\xff\x01",
        raw.packet(0x20, b"\0" * 2_000),
        raw.publish("t", b"", qos=2, packet_id=1, v5=True),
        raw.publish("t", b"", qos=1, packet_id=0, v5=True),
        raw.publish("", b"", v5=True),
        raw.publish("t", b"", v5=True, props=b"\x23\0\x01"),
        raw.publish(b"\xff", b"", v5=True),
        raw.publish("t", b"", v5=True, props=b"\x02\0"),
        b"\x30\x00",
        b"\x36\x02\0\0",
    ],
    ids=range(10),
)
def test_what_no_bus_sends(data):
    with pytest.raises(MqttError):
        feed(reader(), data)


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_packets_or_a_fault(data, v5):
    one = reader(v5=v5)
    try:
        found = feed(one, data, range(1, len(data)))
    except MqttError:
        return
    assert all(isinstance(packet, Delivery | Packet) for packet in found)
