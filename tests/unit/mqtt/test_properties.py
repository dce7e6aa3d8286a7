"""Property lists: kept byte for byte, in order; paho-mqtt's own codec is the second opinion."""

from __future__ import annotations

import pytest
from harness import raw
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.mqtt import properties as module
from gateway.mqtt.data_types import Reader
from gateway.mqtt.errors import MalformedPacket, ProtocolError
from gateway.mqtt.properties import (
    IN_ACKNOWLEDGEMENT,
    IN_CONNACK,
    IN_CONNECT,
    IN_PUBLISH,
    IN_SUBSCRIBE,
    IN_UNSUBSCRIBE,
    IN_WILL,
    PropertyId,
    find,
    find_number,
    join,
    read_properties,
    string_property,
)

EVERYTHING = frozenset(range(256))
# paho refuses U+FEFF, though the standard has it taken as a character like others [MQTT-1.5.4-3].
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\ufeff"), max_size=5)


def read(data, allowed=EVERYTHING):
    return read_properties(Reader(data, 0, len(data)), allowed)


# MQTT 5, table 2-4, by the names that paho gives them.
@pytest.mark.parametrize(
    ("allowed", "packet"),
    [
        (IN_CONNECT, PacketTypes.CONNECT),
        (IN_WILL, PacketTypes.WILLMESSAGE),
        (IN_PUBLISH, PacketTypes.PUBLISH),
        (IN_SUBSCRIBE, PacketTypes.SUBSCRIBE),
        (IN_UNSUBSCRIBE, PacketTypes.UNSUBSCRIBE),
        (IN_CONNACK, PacketTypes.CONNACK),
        (IN_ACKNOWLEDGEMENT, PacketTypes.SUBACK),
    ],
)
def test_where_each_property_may_stand(allowed, packet):
    table = Properties(packet).properties
    assert allowed == {identifier for identifier, (_, packets) in table.items() if packet in packets}


def test_every_property_has_the_form_that_paho_gives_it():
    sizes = {"Byte": 1, "Two Byte Integer": 2, "Four Byte Integer": 4}
    oracle = Properties(PacketTypes.CONNECT)
    for identifier, (kind, _) in oracle.properties.items():
        form = oracle.types[kind]
        assert module._FORM[identifier] == sizes.get(form, module._FORM[identifier]), identifier
        assert (module._FORM[identifier] > 0) == (form in sizes), identifier
    assert module._FORM.keys() == oracle.properties.keys()


@st.composite
def of_publish(draw):
    made = Properties(PacketTypes.PUBLISH)
    for name, values in {
        "PayloadFormatIndicator": st.integers(0, 1),
        "MessageExpiryInterval": st.integers(0, 2**32 - 1),
        "ContentType": TEXT,
        "ResponseTopic": TEXT,
        "CorrelationData": st.binary(max_size=5),
        "TopicAlias": st.integers(1, 65_535),
    }.items():
        if draw(st.booleans()):
            setattr(made, name, draw(values))
    for pair in draw(st.lists(st.tuples(TEXT, TEXT), max_size=3)):
        made.UserProperty = pair
    return made


@given(of_publish())
def test_what_paho_writes_is_read_and_written_back(made):
    data = made.pack()
    found = read(data, IN_PUBLISH)
    assert join(found) == data
    assert find_number(found, PropertyId.TOPIC_ALIAS, 0) == getattr(made, "TopicAlias", 0)
    assert find(found, 0x09) == getattr(made, "CorrelationData", None)
    assert sum(one.identifier == PropertyId.USER_PROPERTY for one in found) == len(
        getattr(made, "UserProperty", [])
    )
    stripped = join(found, without=frozenset({PropertyId.TOPIC_ALIAS}))
    again = Properties(PacketTypes.PUBLISH)
    assert again.unpack(stripped)[1] == len(stripped)
    assert not hasattr(again, "TopicAlias")


def test_order_and_duplicates_stay():
    pairs = [b"\x26" + raw.text("k") + raw.text(value) for value in "bab"]
    data = raw.properties(pairs[0] + b"\x01\x01" + pairs[1] + pairs[2])
    found = read(data)
    assert [one.raw for one in found] == [pairs[0], b"\x01\x01", pairs[1], pairs[2]]
    assert join(found) == data
    assert find(found, 0x26) == pairs[0][1:]


def test_subscription_identifiers_may_repeat():
    found = read(raw.properties(b"\x0b\x01" + b"\x0b\x80\x01"))
    assert [one.value for one in found] == [b"\x01", b"\x80\x01"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MalformedPacket),
        (b"\x80", MalformedPacket),
        (b"\x01", MalformedPacket),
        (raw.properties(b"\x00"), MalformedPacket),
        (raw.properties(b"\x04\x00"), MalformedPacket),
        (raw.properties(b"\x7f"), MalformedPacket),
        (raw.properties(b"\x02\0\0\0"), MalformedPacket),
        (raw.properties(b"\x03\0\x05abc"), MalformedPacket),
        (raw.properties(b"\x26\0\1k"), MalformedPacket),
        (raw.properties(b"\x26\0\1k\0\2v"), MalformedPacket),
        (raw.properties(b"\x0b\xff\xff\xff\xff\x01"), MalformedPacket),
        (raw.properties(b"\x0b\x80"), MalformedPacket),
        (raw.properties(b"\x01\0\x01\0"), ProtocolError),
        (raw.properties(b"\x11\0\0\0\0"), ProtocolError),
    ],
)
def test_what_is_no_property_list(data, error):
    with pytest.raises(error):
        read(data, IN_PUBLISH)


def test_a_value_does_not_reach_behind_the_list():
    # The list says five bytes; the string in it wants more, which the packet would have.
    data = b"\x05\x03\x00\x04ab" + b"cdefgh"
    with pytest.raises(MalformedPacket):
        read(data)


def test_the_reader_stands_behind_the_list_afterwards():
    data = raw.properties(b"\x01\x01") + b"payload"
    reader = Reader(data, 0, len(data))
    read_properties(reader, IN_PUBLISH)
    assert reader.raw(reader.left) == b"payload"


def test_more_may_be_put_behind():
    found = read(raw.properties(b"\x01\x01"))
    reason = string_property(PropertyId.REASON_STRING, "why")
    assert join(found, reason) == raw.properties(b"\x01\x01" + b"\x1f" + raw.text("why"))
    assert find_number([], PropertyId.TOPIC_ALIAS, 7) == 7
