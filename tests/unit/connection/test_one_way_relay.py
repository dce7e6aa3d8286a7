"""The pump alone: boundaries, runs, the remembered verdict. What is allowed is the test's own choice."""

from __future__ import annotations

from itertools import pairwise

import pytest
from harness import raw
from hypothesis import given
from hypothesis import strategies as st

from gateway.connection.device_budgets import Budgets
from gateway.connection.one_way_relay import Relay
from gateway.connection.verdict_cache import CachedVerdict
from gateway.mqtt.acknowledgement_order import Ledger
from gateway.mqtt.decode import decode_publish
from gateway.mqtt.errors import LimitExceeded, MqttError, PacketTooLarge
from gateway.mqtt.framing import packet_at
from gateway.mqtt.packets import Version
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Decision, Rule
from gateway.policy.engine.rules import Action, Effect

GRANT = Rule(Effect.ALLOW, frozenset(Action), "#")
FINE = Decision(allowed=True, reason="", rule=GRANT, allow_rules=(GRANT,))


class Told(Relay):
    """Lets `yes` pass and remembers it, drops `no`, puts another packet in the place of `new`."""

    __slots__ = ("handled",)

    def __init__(self, version=Version.V311, max_size=1000):
        budgets = Budgets()
        super().__init__(version, Ledger(), Ledger(), max_size, budgets.join("one", Limits()).from_device)
        self.handled = []

    def handle(self, data, pos, body, end):
        self.handled.append(data[pos:end])
        kind = data[pos] >> 4
        if kind == 4:
            return self.acknowledged(data, pos, end, 1)
        if kind == 14:
            self.stopped = True
        if kind != 3:
            return None
        packet = decode_publish(data, pos, body, end, self.version)
        self.meter.messages += 1
        if packet.topic == b"no":
            return b""
        self.ledger.passed(packet.qos)
        if packet.topic == b"new":
            return raw.publish("newer", b"!")
        if packet.topic == b"yes":
            self.remember_header(packet, data, pos, body, end)
        if packet.topic == b"known":
            self.verdicts[b"known"] = CachedVerdict("known", FINE, sensitive=False)
        return None


def said(relay):
    return b"".join(relay.out)


def feed_all(relay, chunks):
    for chunk in chunks:
        relay.feed(chunk)


def fed(*chunks, **settings):
    relay = Told(**settings)
    feed_all(relay, chunks)
    return relay


PACKETS = st.one_of(
    st.builds(
        raw.publish,
        st.sampled_from(["yes", "yes", "no", "new", "known", "other"]),
        st.sampled_from([b"", b"x", b"y", b"xyz", b"z" * 200]),
        qos=st.integers(0, 2),
        packet_id=st.integers(1, 3),
        retain=st.booleans(),
    ),
    st.sampled_from([raw.ack(0x40, 1), raw.ack(0x40, 1, 0x10), raw.PINGREQ, raw.ack(0x50, 2)]),
)


def expected(packets):
    out = []
    for packet in packets:
        topic = packet[4:] if packet[0] >> 4 == 3 and packet[1] < 128 else packet[5:]
        if packet[0] >> 4 == 3 and topic.startswith(b"no"):
            continue
        out.append(raw.publish("newer", b"!") if packet[0] >> 4 == 3 and topic.startswith(b"new") else packet)
    return b"".join(out)


class Framed(Relay):
    """Looks at each packet for itself, and writes down where it begins and ends."""

    __slots__ = ("frames",)

    def __init__(self):
        budgets = Budgets()
        super().__init__(Version.V311, Ledger(), Ledger(), 300_000, budgets.join("one", Limits()).from_device)
        self.frames = []

    def handle(self, data, pos, body, end):
        self.frames.append((data[pos:body], data[body:end]))
        return


def frames_of(stream):
    """The same by `gateway.mqtt.framing` alone, and why it ends before the stream does."""
    frames, pos = [], 0
    try:
        while pos < len(stream) and (found := packet_at(stream, pos)) and found[1] <= len(stream):
            body, end = found
            frames.append((stream[pos:body], stream[body:end]))
            pos = end
    except MqttError as error:
        return frames, type(error)
    return frames, None


SIZES = st.sampled_from([0, 1, 126, 127, 128, 129, 16_383, 16_384, 20_000])
OTHERS = st.builds(lambda kind, size: raw.packet(kind << 4, b"\1" * size), st.integers(5, 15), SIZES)


@given(
    st.lists(st.one_of(PACKETS.filter(lambda packet: packet[0] != 0x40), OTHERS), max_size=6),
    st.sampled_from([b"", b"\x50", b"\x50\x80", b"\x50\xff\xff\xff\xff", b"\x50\x05\1"]),
    st.lists(st.integers(0, 60_000), max_size=6),
)
def test_the_loop_and_the_framing_see_the_same_packets(packets, rest, cuts):
    stream = b"".join(packets) + rest
    marks = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    relay, refused = Framed(), None
    try:
        feed_all(relay, (stream[start:end] for start, end in pairwise(marks)))
    except MqttError as error:
        refused = type(error)
    assert (relay.frames, refused) == frames_of(stream)


@given(st.lists(PACKETS, max_size=12), st.lists(st.integers(0, 2000), max_size=8))
def test_however_it_is_cut_the_same_goes_out_and_is_counted(packets, cuts):
    stream = b"".join(packets)
    marks = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    relay = fed(*(stream[start:end] for start, end in pairwise(marks)))
    publishes = [packet for packet in packets if packet[0] >> 4 == 3]
    passed = [packet for packet in publishes if b"\0\2no" not in packet[:7]]
    assert said(relay) == expected(packets)
    assert relay.meter.messages == len(publishes)
    assert relay.ledger.passed1 == sum(packet[0] >> 1 & 3 == 1 for packet in passed)
    assert relay.ledger.passed2 == sum(packet[0] >> 1 & 3 == 2 for packet in passed)
    assert relay.other_ledger.acked1 == sum(packet[0] == 0x40 for packet in packets)
    assert not relay.has_partial_packet


@pytest.mark.parametrize("qos", [0, 1])
def test_a_run_of_the_same_is_looked_at_once_and_goes_out_in_one_piece(qos):
    packets = [raw.publish("yes", b"%03d" % number, qos=qos, packet_id=number + 1) for number in range(50)]
    relay = fed(b"".join(packets))
    assert relay.handled == packets[:1]
    assert relay.out == [b"".join(packets)]
    assert relay.meter.messages == 50
    # And one in a chunk of its own takes the shortest way.
    relay.feed(packets[7])
    assert relay.handled == packets[:1]
    assert relay.out[1] is packets[7]
    assert relay.ledger.passed1 == (51 if qos else 0)


def test_qos_2_is_looked_at_each_time():
    packet = raw.publish("yes", b"x", qos=2, packet_id=1)
    assert fed(packet * 3).handled == [packet] * 3


@pytest.mark.parametrize(
    "other",
    [
        raw.publish("no", b"xxx"),
        raw.publish("yet", b"xx"),
        raw.publish("yes", b"xx", retain=True),
        raw.publish("yes", b"xxx"),
        raw.publish("yes", b"", qos=1, packet_id=1),
    ],
)
def test_only_the_same_header_is_remembered(other):
    first = raw.publish("yes", b"xx")
    assert fed(first + other).handled == [first, other]
    assert fed(first, other).handled == [first, other]


def test_properties_are_part_of_what_is_remembered():
    def packet(alias, qos=0):
        return raw.publish("yes", b"x", qos=qos, packet_id=5, v5=True, props=b"\x23\0" + bytes([alias]))

    for qos in (0, 1):
        stream = [packet(1, qos), packet(1, qos), packet(2, qos), packet(1, qos)]
        assert fed(b"".join(stream), version=Version.V5).handled == [stream[0], stream[2], stream[3]]
        assert fed(*stream, version=Version.V5).handled == [stream[0], stream[2], stream[3]]


def test_a_remembered_packet_with_id_0_is_looked_at_again():
    good, bad = raw.publish("yes", b"x", qos=1, packet_id=1), raw.publish("yes", b"x", qos=1, packet_id=0)
    for chunks in ([good + bad], [good, bad]):
        with pytest.raises(MqttError):
            fed(*chunks)


def test_nothing_is_remembered_after_forgetting():
    packet = raw.publish("yes", b"x")
    relay = fed(packet)
    relay.forget_header()
    relay.feed(packet)
    assert relay.handled == [packet] * 2


def test_a_long_header_is_not_kept():
    packet = raw.publish("yes", b"x", v5=True, props=b"\x26" + raw.text("k") + raw.text("v" * 1100))
    assert fed(packet * 2, version=Version.V5, max_size=5000).handled == [packet] * 2


@pytest.mark.parametrize(("qos", "v5"), [(0, False), (1, False), (0, True), (1, True)])
def test_a_known_topic_needs_no_second_look_whatever_the_length(qos, v5):
    packets = [raw.publish("known", b"x" * size, qos=qos, packet_id=3, v5=v5) for size in (3, 5, 200, 0)]
    relay = fed(b"".join(packets), version=Version.V5 if v5 else Version.V311)
    assert relay.handled == packets[:1]
    assert said(relay) == b"".join(packets)
    assert (relay.meter.messages, relay.ledger.passed1) == (4, 4 * qos)


@pytest.mark.parametrize(
    "packet",
    [
        raw.packet(0x36, raw.text("known") + b"\0\1"),
        raw.packet(0x32, raw.text("known") + b"\0\0x"),
        raw.packet(0x32, raw.text("known") + b"\0"),
        raw.packet(0x30, b"\0\6known"),
        raw.packet(0x30, b"\0"),
    ],
)
def test_a_known_topic_makes_no_bad_packet_good(packet):
    relay = fed(raw.publish("known", b"x"))
    with pytest.raises(MqttError):
        relay.feed(packet + raw.publish("known", b"x"))


def test_a_bad_packet_does_not_take_along_what_was_allowed_before_it():
    good = raw.publish("other", b"x")
    relay = Told()
    with pytest.raises(MqttError):
        relay.feed(good + raw.packet(0x36, b"\0\1a\0\1") + good)
    assert said(relay) == good


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_packet_in_pieces(size):
    packet = raw.publish("other", b"x" * 150)
    relay = Told()
    for start in range(0, len(packet), size):
        assert said(relay) == b""
        relay.feed(packet[start : start + size])
    assert said(relay) == packet
    assert relay.handled == [packet]


@pytest.mark.parametrize("qos", [0, 1])
def test_what_looks_like_an_allowed_message_inside_another_is_payload(qos):
    allowed = raw.publish("yes", b"x", qos=qos, packet_id=1)
    denied = raw.publish("no", allowed * 3)
    inside = len(denied) - 3 * len(allowed)
    relay = fed(allowed, denied[:inside], allowed, allowed)
    assert relay.out == [allowed]
    relay.feed(allowed)
    assert relay.out == [allowed]
    assert (relay.meter.messages, relay.ledger.passed1) == (2, qos)
    relay.feed(allowed)
    assert relay.out == [allowed] * 2


def test_whether_the_rest_is_waited_for():
    packet = raw.publish("other", b"x" * 10)
    relay = fed(packet + packet[:5])
    assert relay.has_partial_packet
    assert relay.partial_packets == 1
    relay.feed(packet[5:])
    assert not relay.has_partial_packet
    assert said(relay) == packet * 2


def test_a_packet_that_is_too_long_is_refused_by_its_header():
    exact = raw.publish("other", b"x" * 990)
    assert len(exact) == 1000
    assert said(fed(exact)) == exact
    with pytest.raises(PacketTooLarge):
        fed(b"\x30" + raw.varint(998))


def test_what_comes_behind_the_end_is_not_looked_at():
    good = raw.publish("other", b"x")
    relay = fed(good + raw.DISCONNECT + good + b"\xff\xff\xff\xff\xff")
    assert relay.stopped
    assert said(relay) == good + raw.DISCONNECT


def test_an_acknowledgement_brings_the_answers_that_waited_for_it():
    relay = Told()
    relay.other_ledger.passed(1)
    relay.other_ledger.passed(1)
    assert relay.other_ledger.answer(1, b"OURS", 10) == b""
    ack = raw.ack(0x40, 1)
    relay.feed(ack * 3)
    assert said(relay) == ack * 2 + b"OURS" + ack


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\x00",
        b"\x02ab",
        b"\x02a",
        b"\x80",
        raw.varint(998),
        raw.varint(2**28 - 1),
        b"\xff\xff\xff\xff\x01",
    ],
    ids=["alone", "empty", "whole", "begun", "in its length", "too long", "the longest", "no length"],
)
@pytest.mark.parametrize("first", range(16))
@pytest.mark.parametrize("before", [raw.publish("other", b"x"), raw.ack(0x40, 1)], ids=["PUBLISH", "PUBACK"])
def test_why_a_packet_is_refused_does_not_depend_on_how_the_stream_is_cut(before, first, rest):
    stream = before + bytes([first]) + rest
    for size in (1, 2, len(stream)):
        relay = Told()
        with pytest.raises(MqttError, match="the reserved type"):
            feed_all(relay, [stream[at : at + size] for at in range(0, len(stream), size)])
        assert said(relay) == before


LONG = raw.publish("yes", b"x" * 90, qos=1, packet_id=9) * 100
SPLIT = {
    "remembered": raw.publish("yes", b"x" * 90, qos=1, packet_id=8),
    "other": raw.publish("other", b"x" * 300),
    "dropped": raw.publish("no", b"x" * 30),
    "replaced": raw.publish("new", b"x" * 30),
    "answer": raw.ack(0x40, 5),
}


@pytest.mark.parametrize("kind", SPLIT)
def test_a_packet_whose_end_comes_with_a_long_chunk(kind):
    packet = SPLIT[kind]
    whole = fed(LONG[:198] + packet + LONG)
    for cut in range(1, len(packet)):
        relay = fed(LONG[:198] + packet[:cut], packet[cut:] + LONG)
        assert said(relay) == said(whole)
        assert relay.meter.messages == whole.meter.messages
        assert relay.ledger.passed1 == whole.ledger.passed1
        assert (relay.meter.budget.held, relay.meter.work.held) == (0, 0)
        assert not relay.has_partial_packet


def test_a_long_chunk_is_copied_once_after_the_end_of_a_packet(monkeypatch):
    packet = SPLIT["other"]
    relay = fed(packet[:20])
    monkeypatch.setattr(relay.__class__, "_gather", None)  # where it would be copied twice more
    relay.feed(packet[20:] + LONG)
    assert relay.out == [packet, LONG]


def test_after_a_goodbye_in_two_pieces_a_long_chunk_is_not_looked_at():
    goodbye = raw.packet(0xE0, bytes(20))
    relay = fed(goodbye[:5], goodbye[5:] + LONG)
    assert relay.stopped
    assert said(relay) == goodbye


def test_a_turn_that_ends_with_the_packet_has_the_long_chunk_wait():
    packet = SPLIT["other"]
    relay = fed(packet[:20])
    relay.meter.effort = relay.meter.effort_left + 1
    relay.feed(packet[20:] + LONG)
    assert relay.out == []
    assert relay.unprocessed == packet + LONG
    relay.meter.effort = 0
    relay.go_on()
    assert said(relay) == packet + LONG


def test_in_a_turn_that_is_full_not_even_the_packet_that_ends_is_looked_at():
    packet = SPLIT["other"]
    relay = fed(packet[:20])
    relay.meter.work.iteration_is_full = True
    relay.feed(packet[20:] + LONG)
    assert relay.out == []
    assert relay.unprocessed == packet + LONG


def test_a_packet_held_beyond_its_bound_is_refused_with_a_long_chunk_too():
    packet = raw.publish("other", b"x" * 900)
    relay = fed(packet[:20])
    relay.meter.budget.held_max = 900
    with pytest.raises(LimitExceeded):
        relay.feed(packet[20:] + LONG)
