"""Arbitrary bytes, and sound packets that were damaged, on both sides of the gateway.

Whatever comes: nothing but commands goes out, the same commands however the bytes are cut, and none of
them says what must not be said (`harness.split_chunk_twin`).

`HYPOTHESIS_PROFILE=long pytest tests/fuzz --timeout=0` searches for long.
"""

from __future__ import annotations

from harness import raw, reference_parser
from harness.playbook import disconnect, seal, suback
from harness.split_chunk_twin import PROFILE, SECRET, SENSITIVE, TOPICS, Twin
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.connection.events import Tick
from gateway.connection.transition_table import State

CUTS = st.lists(st.integers(0, 3000), max_size=6)
# What is done to the bytes of sound packets: the place, how many bytes go, and what comes instead.
DAMAGE = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3), st.binary(max_size=3)), max_size=3)


def damaged(data, damage):
    for place, count, instead in damage:
        at = place % (len(data) + 1)
        data = data[:at] + instead + data[at + count :]
    return data


def user_property(pair):
    return b"\x26" + raw.text(pair[0]) + raw.text(pair[1])


PROPERTIES = st.lists(
    st.one_of(
        st.tuples(st.text(max_size=3), st.text(max_size=3)).map(user_property),
        st.integers(0, 5).map(lambda alias: b"\x23" + alias.to_bytes(2, "big")),
        st.integers(0, 300).map(lambda number: b"\x0b" + raw.varint(number)),
        st.sampled_from(
            [b"\x01\x01", b"\x02\0\0\0\x05", b"\x08" + raw.text("ok"), b"\x09" + raw.text(b"\xff")]
        ),
        st.sampled_from(
            [b"\x11\0\0\0\x05", b"\x21\0\x03", b"\x22\0\x03", b"\x27\0\0\0\x40", b"\x17\0", b"\x19\1"]
        ),
    ),
    max_size=3,
).map(b"".join)


def payload_of(topic, payload):
    return SECRET + payload if topic.startswith(SENSITIVE) else payload


@st.composite
def connects(draw):
    topic = draw(st.sampled_from([*TOPICS, "ok/+", ""]))
    will = None
    if draw(st.booleans()):
        will = (
            topic,
            payload_of(topic, draw(st.binary(max_size=20))),
            draw(st.integers(0, 3)),
            draw(st.booleans()),
        )
    return raw.connect(
        draw(st.one_of(st.text(max_size=5), st.binary(max_size=3))),
        v5=draw(st.booleans()),
        username=draw(st.sampled_from([None, "lamp-1", b"\xff"])),
        password=draw(st.sampled_from([None, "s", b"\xff\0"])),
        clean=draw(st.booleans()),
        keep_alive=0,
        will=will,
        props=draw(PROPERTIES),
        will_props=draw(PROPERTIES),
    )


@st.composite
def publishes(draw, v5, *, from_bus=False):
    topic = draw(st.sampled_from(TOPICS))
    qos = draw(st.integers(0, 2))
    payload = payload_of(topic, draw(st.binary(max_size=20)))
    if from_bus and topic.startswith(SENSITIVE):
        payload = seal(payload, draw(st.sampled_from([topic, "private/b"])))
    return raw.publish(
        topic,
        payload,
        qos=qos,
        packet_id=draw(st.integers(0, 5)) if qos else 0,
        retain=draw(st.booleans()),
        dup=draw(st.booleans()),
        v5=v5,
        props=draw(PROPERTIES) if v5 else b"",
    )


ACKS = st.builds(raw.ack, st.sampled_from([0x40, 0x50, 0x62, 0x70]), st.integers(0, 5))


def device_packets(v5):
    topics = st.sampled_from(["ok/#", "#", "private/+", "$share/g/ok", "low/a"])
    subscribes = st.builds(
        lambda packet_id, some, props: raw.subscribe(packet_id, *some, v5=v5, props=props),
        st.integers(0, 5),
        st.lists(st.tuples(topics, st.integers(0, 2)), max_size=3),
        PROPERTIES,
    )
    others = st.sampled_from([raw.PINGREQ, raw.unsubscribe(3, "ok", v5=v5), raw.packet(0xF0), raw.DISCONNECT])
    return st.one_of(publishes(v5), publishes(v5), ACKS, subscribes, others)


def bus_packets(v5):
    subacks = st.builds(
        lambda one, codes: suback(one, *codes, v5=v5), st.integers(0, 5), st.lists(st.integers(0, 2))
    )
    others = st.sampled_from([raw.PINGRESP, raw.packet(0xB0, b"\0\3\0\0"), disconnect(0x8E)])
    return st.one_of(publishes(v5, from_bus=True), publishes(v5, from_bus=True), ACKS, subacks, others)


@st.composite
def conversations(draw, v5):
    """(from the bus?, bytes, damage, cuts), a few times."""
    turns = []
    for _ in range(draw(st.integers(1, 4))):
        from_bus = draw(st.booleans())
        packets = draw(st.lists((bus_packets if from_bus else device_packets)(v5), min_size=1, max_size=5))
        turns.append((from_bus, b"".join(packets), draw(DAMAGE), draw(CUTS)))
    return turns


@PROFILE
@given(data=st.binary(max_size=200), cuts=CUTS)
@example(data=b"\x10", cuts=[])
@example(data=b"\x10\xff\xff\xff\xff\xff", cuts=[1, 2, 3, 4, 5])
def test_arbitrary_first_bytes(data, cuts):
    said = Twin(v5=False).from_device(data, cuts)
    assert not said.to_bus


@PROFILE
@given(connect=connects(), behind=st.binary(max_size=30), damage=DAMAGE, cuts=CUTS)
def test_a_connect_sound_or_damaged(connect, behind, damage, cuts):
    twin = Twin(v5=connect[8] == 5)
    said = twin.from_device(damaged(connect, damage) + behind, cuts)
    assert len(said.to_bus) + len(said.to_device) <= 1
    assert all(packet.kind == reference_parser.CONNACK and packet.body[1] for packet in said.to_device)
    assert (twin.state is State.OPENING_BUS) == bool(said.to_bus)


@PROFILE
@given(answer=st.binary(min_size=1, max_size=60), v5=st.booleans(), claimed=st.booleans(), cuts=CUTS)
def test_an_arbitrary_answer_of_the_bus_to_the_connect(answer, v5, claimed, cuts):
    twin = Twin(v5=v5)
    twin.from_device(raw.connect("", v5=v5, username="lamp-1", password="s"))
    twin.from_bus(raw.packet(0x20, answer) if claimed else answer, cuts)


@PROFILE
@given(
    v5=st.booleans(), reader=st.booleans(), from_bus=st.booleans(), data=st.binary(max_size=300), cuts=CUTS
)
def test_arbitrary_bytes_in_an_established_session(v5, reader, from_bus, data, cuts):
    twin = Twin(v5=v5, reader=reader).begin()
    (twin.from_bus if from_bus else twin.from_device)(data, cuts)
    twin.happens(Tick())


@PROFILE
@given(data=st.data(), v5=st.booleans(), reader=st.booleans())
def test_a_conversation_sound_or_damaged(data, v5, reader):
    twin = Twin(v5=v5, reader=reader, in_flight=8).begin()
    for from_bus, chunk, damage, cuts in data.draw(conversations(v5)):
        twin.garbled |= bool(damage) and not from_bus
        (twin.from_bus if from_bus else twin.from_device)(damaged(chunk, damage), cuts)
