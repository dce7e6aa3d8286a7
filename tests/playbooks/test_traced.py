"""A connection somebody looks at does what it does otherwise, and what is shown holds no secret."""

from __future__ import annotations

import json
import random

import pytest
from harness import raw
from harness.playbook import READER, context, established, react, seal

from gateway.connection.commands import Close, SendToBus, SendToDevice
from gateway.connection.device_budgets import RUN_PACKETS
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import BusBytes, DeviceBytes, DeviceLost, Kicked, Tick, Turn
from gateway.connection.packet_tracing import PACKETS_READ_MAX, ConnectionTrace, TracedConnection
from gateway.connection.transition_table import State
from gateway.mqtt.packet_summary import HEAD_BYTES_MAX, PacketReader

SECRET = b"nobody is to see this"


def unheard():
    """Nobody counts what is not read."""


def traced(book, lines, room=lambda: True, missed=unheard):
    book.connection = TracedConnection(book.connection, ConnectionTrace(lines.append, room, missed))
    return book


def stream(v5: bool) -> bytes:
    return b"".join(
        [
            raw.publish("ok", b"1", v5=v5),
            raw.publish("ok", b"2", v5=v5),
            raw.publish("ok/1", b"3", qos=1, packet_id=1, v5=v5),
            raw.publish("no", b"4", qos=1, packet_id=2, v5=v5),
            raw.publish("private/x", SECRET, qos=1, packet_id=3, v5=v5),
            raw.subscribe(4, ("ok/#", 1), ("no", 1), v5=v5),
            raw.publish("ok/no/x", b"5", qos=2, packet_id=5, v5=v5),
            raw.PINGREQ,
            raw.publish("ok", b"x" * 3_000, v5=v5),
        ]
    )


def of_the_bus(v5: bool) -> bytes:
    return b"".join(
        [
            raw.ack(0x40, 1),
            raw.publish("ok/2", b"1", qos=1, packet_id=9, v5=v5),
            raw.publish("ok/no/x", b"2", v5=v5),
            raw.publish("private/x", seal(SECRET, "private/x"), v5=v5),
            raw.PINGRESP,
        ]
    )


def bytes_of(commands, kind):
    return b"".join(one.data for one in commands if type(one) is kind)


def fed(book, v5, cut):
    """All commands of both streams, cut into chunks the same way."""
    commands = []
    for event, data in ((DeviceBytes, stream(v5)), (BusBytes, of_the_bus(v5))):
        chance, at = random.Random(cut), 0
        while at < len(data):
            size = chance.choice([1, 2, 7, 50, 5_000])
            commands += react(book.connection, event(data[at : at + size]))
            at += size
        commands += react(book.connection, Tick())
    return commands


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
@pytest.mark.parametrize("cut", range(8))
def test_traced_or_not_both_sides_get_the_same_bytes(v5, cut):
    lines = []
    plain = fed(established(context(), v5=v5, device=READER), v5, cut)
    seen = fed(traced(established(context(), v5=v5, device=READER), lines), v5, cut)
    for kind in (SendToBus, SendToDevice):
        assert bytes_of(seen, kind) == bytes_of(plain, kind)
    assert [type(one) for one in seen if type(one) not in (SendToBus, SendToDevice)] == [
        type(one) for one in plain if type(one) not in (SendToBus, SendToDevice)
    ]
    assert sum(one.get("packet") == "PUBLISH" and one["from"] == "device" for one in lines) == 7
    assert SECRET.decode() not in json.dumps(lines)


def test_what_passes_is_one_line_and_what_is_changed_or_answered_is_two():
    lines = []
    book = traced(established(device=READER), lines)
    react(book.connection, DeviceBytes(stream(v5=False)))
    react(book.connection, BusBytes(of_the_bus(v5=False)))
    short = [(one["from"], one["to"], one["packet"], one.get("topic", one.get("packet_id"))) for one in lines]
    assert short == [
        ("device", "bus", "PUBLISH", "ok"),
        ("device", "bus", "PUBLISH", "ok"),
        ("device", "bus", "PUBLISH", "ok/1"),
        ("device", "gateway", "PUBLISH", "no"),
        ("device", "gateway", "PUBLISH", "private/x"),
        ("device", "gateway", "SUBSCRIBE", 4),
        ("device", "gateway", "PUBLISH", "ok/no/x"),
        ("device", "bus", "PINGREQ", None),
        ("device", "bus", "PUBLISH", "ok"),
        ("gateway", "bus", "PUBLISH", "private/x"),
        ("gateway", "bus", "SUBSCRIBE", 4),
        ("gateway", "device", "PUBREC", 5),
        ("bus", "device", "PUBACK", 1),
        ("bus", "device", "PUBLISH", "ok/2"),
        ("bus", "gateway", "PUBLISH", "ok/no/x"),
        ("bus", "gateway", "PUBLISH", "private/x"),
        ("bus", "device", "PINGRESP", None),
        ("gateway", "device", "PUBACK", 2),
        ("gateway", "device", "PUBLISH", "private/x"),
    ]
    verdicts = [(one["topic"], one["allowed"], one.get("rule")) for one in lines if "allowed" in one]
    assert ("no", False, None) in verdicts
    assert ("ok/no/x", False, "lamp.toml:1") in verdicts
    assert ("ok", True, "lamp.toml:1") in verdicts


def test_a_look_that_begins_inside_a_packet_begins_with_the_next():
    lines = []
    book = established()
    first, second = raw.publish("ok", b"12345"), raw.publish("ok/1", b"1")
    react(book.connection, DeviceBytes(first[:5]))
    traced(book, lines)
    react(book.connection, DeviceBytes(first[5:]))
    react(book.connection, DeviceBytes(second))
    assert [one["topic"] for one in lines if one["from"] == "device"] == ["ok/1"]


def test_the_fast_way_is_there_again_when_nobody_looks():
    book = established()
    plain = book.connection
    assert plain.established is not None
    traced(book, [])
    assert book.connection.established is None
    book.connection = book.connection.untraced()
    assert type(book.connection) is DeviceConnection
    assert book.connection.established is plain.established
    assert book >> DeviceBytes(raw.publish("ok", b"1")) << SendToBus(raw.publish("ok", b"1"))


def test_a_connection_that_ended_meanwhile_stays_so():
    lines = []
    book = traced(established(), lines)
    assert book >> Kicked("why") << Close("why")
    assert lines[-1] == {"event": "closed", "reason": "why"}
    book.connection = book.connection.untraced()
    assert (book.connection.state, book.connection.established) == (State.CLOSED, None)
    assert book >> DeviceLost()


def test_a_connect_is_shown_without_its_credentials_and_its_answer():
    lines = []
    connection = DeviceConnection(context())
    connect = raw.connect(
        "c", v5=True, username="lamp-1", password=SECRET.decode(), keep_alive=17,
        will=("ok", SECRET, 1, False), props=b"\x26" + raw.text("a") + raw.text(SECRET.decode()),
    )  # fmt: skip
    connection.receive(DeviceBytes(connect))
    seen = TracedConnection(connection, ConnectionTrace(lines.append, lambda: True, unheard))
    seen.show_connect()
    assert lines == [
        {
            "from": "device", "to": "gateway", "packet": "CONNECT", "protocol": "5", "client_id": "c",
            "clean_start": True, "keep_alive": 17, "user_name": True, "password": True, "will_topic": "ok",
            "will_qos": 1, "will_retain": False, "will_payload_size": len(SECRET),
            "properties": ["user_property"],
        }
    ]  # fmt: skip


def test_without_room_lines_are_left_out_and_the_stream_is_followed():
    lines, room = [], [False]
    book = traced(established(v5=True), lines, lambda: room[0])
    react(book.connection, DeviceBytes(raw.publish("ok", b"1", v5=True) * 3))
    assert lines == []
    room[0] = True
    react(book.connection, DeviceBytes(raw.publish("ok/1", b"1", v5=True)))
    assert [one["topic"] for one in lines] == ["ok/1"]


@pytest.fixture
def read(monkeypatch):
    """The packets that readers gave."""
    packets = []
    plain = PacketReader._whole

    def counted(self):
        packets.append(plain(self))
        return packets[-1]

    monkeypatch.setattr(PacketReader, "_whole", counted)
    return packets


FLOODS = {
    "pings": (DeviceBytes, raw.PINGREQ * 32_768),
    "acknowledgements": (DeviceBytes, raw.ack(0x40, 1) * 16_384),
    "what is refused": (DeviceBytes, raw.publish("no", b"x") * 8_000),
    "what the bus sends": (BusBytes, raw.publish("ok/no/x", b"x") * 8_000),
}


@pytest.mark.parametrize(("event", "flood"), FLOODS.values(), ids=FLOODS)
def test_of_a_flood_the_beginning_is_read_and_counts_as_effort(event, flood, read):
    """The kind: sixty connections of a device that is looked at, with 30,000 packets in a chunk each."""
    lines, missed = [], []
    book = traced(established(device=READER), lines, missed=lambda: missed.append(True))
    stage = book.connection._stage
    relay = stage.upstream if event is DeviceBytes else stage.downstream
    plain = established(device=READER)
    its = plain.connection._stage
    plain.connection.receive(event(flood))
    alone = (its.upstream if event is DeviceBytes else its.downstream).meter.work.done
    book.connection.receive(event(flood))
    assert missed == [True]
    assert PACKETS_READ_MAX <= len(read) <= 2 * PACKETS_READ_MAX + RUN_PACKETS
    assert relay.meter.work.done >= alone + 2 * PACKETS_READ_MAX
    assert relay.meter.effort >= 2 * PACKETS_READ_MAX


def test_in_a_turn_that_is_full_nothing_is_read_and_the_next_is_followed_again(read):
    lines, missed = [], []
    book = established(v5=True, connack_props=b"\x22\0\x05")
    traced(book, lines, missed=lambda: missed.append(True))
    work = book.connection._stage.upstream.meter.work
    react(book.connection, DeviceBytes(raw.publish("ok", b"1", v5=True, props=b"\x23\x00\x01")))
    work.iteration_is_full = True
    lines.clear()
    book.connection.receive(DeviceBytes(raw.publish("ok/1", b"1", v5=True, props=b"\x23\x00\x01")))
    assert (lines, missed) == ([], [True])
    work.begin()
    react(book.connection, Turn())
    react(book.connection, DeviceBytes(raw.publish("", b"1", v5=True, props=b"\x23\x00\x01")))
    assert [one.get("topic") for one in lines if one["from"] == "device"] == ["ok/1"]


@pytest.mark.parametrize("data", [b"\x30\xff\xff\xff\xff\xff", b"\x00\x00", b"\x3f\x00", b"\x82\x02\x00\x01"])
def test_what_is_malformed_is_shown_as_that_and_ends_as_without_a_trace(data):
    lines = []
    plain = established(v5=True).connection.receive(DeviceBytes(data))
    assert traced(established(v5=True), lines).connection.receive(DeviceBytes(data)) == plain


def test_a_reader_keeps_no_more_than_a_head():
    packet = raw.publish("t", b"x" * 1_000_000)
    reader, found = PacketReader(), []
    for at in range(0, len(packet), 1_000):
        found += reader.feed(packet[at : at + 1_000])
        assert len(reader._head) <= HEAD_BYTES_MAX
    assert [(one.size, len(one.head)) for one in found] == [(len(packet), HEAD_BYTES_MAX)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1_000])
def test_a_reader_finds_the_same_packets_however_the_stream_is_cut(size):
    data = stream(v5=True)
    reader = PacketReader()
    whole = [(one.size, one.head) for one in PacketReader().feed(data)]
    cut = [
        (one.size, one.head) for at in range(0, len(data), size) for one in reader.feed(data[at : at + size])
    ]
    assert cut == whole
    assert b"".join(head for _, head in whole) == data
