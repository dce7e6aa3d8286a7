"""A PUBLISH that the policy denies: never on the bus, answered as its version and QoS allow."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import Ends, context, established, policy, react, refused, told

from gateway.connection.audit_vocabulary import Report
from gateway.connection.commands import Close, SendToBus, SendToDevice
from gateway.connection.events import BusBytes, DeviceBytes, DeviceLost, Tick
from gateway.connection.process_context import OnDeny
from gateway.connection.refusal_report_limit import PER_SECOND
from gateway.connection.transition_table import State

NO_RULE = "No rule allows the device to publish to this topic."
DENIED = "A rule denies this to the device."
both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


def says(topic, payload=b"x", **publish):
    return DeviceBytes(raw.publish(topic, payload, **publish))


@both
def test_qos_0_is_dropped(v5):
    assert established(v5=v5) >> says("other", v5=v5) << refused("publish", "other")


def test_qos_1_and_2_in_v5_are_told_why():
    assert (
        established(v5=True)
        >> says("other", qos=1, packet_id=7, v5=True)
        << SendToDevice(told(0x40, 7, 0x87, NO_RULE))
        << refused("publish", "other")
        # The handshake ends with the refusal (MQTT 5, 4.3.3).
        >> says("ok/no/a", qos=2, packet_id=8, v5=True)
        << SendToDevice(told(0x50, 8, 0x87, DENIED))
        << refused("publish", "ok/no/a")
    )


def test_who_wants_no_reason_strings_gets_none():
    assert (
        established(v5=True, props=b"\x17\0")
        >> says("other", qos=1, packet_id=7, v5=True)
        << SendToDevice(raw.ack(0x40, 7, 0x87))
        << refused("publish", "other")
    )


@pytest.mark.parametrize(("room", "fits"), [(len(NO_RULE) + 9, False), (len(NO_RULE) + 16, True)])
def test_a_reason_must_not_make_the_answer_too_long(room, fits):
    # [MQTT-3.4.2-2]
    answer = told(0x40, 7, 0x87, NO_RULE) if fits else raw.ack(0x40, 7, 0x87)
    assert (
        established(v5=True, props=b"\x27" + room.to_bytes(4, "big"))
        >> says("other", qos=1, packet_id=7, v5=True)
        << SendToDevice(answer)
        << refused("publish", "other")
    )


def test_qos_1_in_311_is_acknowledged_and_dropped():
    assert (
        established()
        >> says("other", qos=1, packet_id=7)
        << SendToDevice(raw.ack(0x40, 7))
        << refused("publish", "other")
    )


def test_qos_2_in_311_is_carried_to_its_end():
    assert (
        established()
        >> says("other", qos=2, packet_id=7)
        << SendToDevice(raw.ack(0x50, 7))
        << refused("publish", "other")
        # A repetition is answered like the first.
        >> says("other", qos=2, packet_id=7, dup=True)
        << SendToDevice(raw.ack(0x50, 7))
        >> DeviceBytes(raw.ack(0x62, 7))
        << SendToDevice(raw.ack(0x70, 7))
        # The next handshake of this id is the bus's again.
        >> says("ok", qos=2, packet_id=7)
        << SendToBus(raw.publish("ok", b"x", qos=2, packet_id=7))
        >> BusBytes(raw.ack(0x50, 7))
        << SendToDevice(raw.ack(0x50, 7))
        >> DeviceBytes(raw.ack(0x62, 7))
        << SendToBus(raw.ack(0x62, 7))
    )


def test_an_id_that_is_used_anew_for_an_allowed_message_belongs_to_the_bus():
    assert (
        established()
        >> says("other", qos=2, packet_id=7)
        << SendToDevice(raw.ack(0x50, 7))
        << refused("publish", "other")
        >> says("ok", qos=2, packet_id=7)
        << SendToBus(raw.publish("ok", b"x", qos=2, packet_id=7))
        >> DeviceBytes(raw.ack(0x62, 7))
        << SendToBus(raw.ack(0x62, 7))
    )


@pytest.mark.parametrize("qos", [1, 2])
def test_311_can_be_told_to_disconnect(qos):
    book = established(context(on_deny=OnDeny.DISCONNECT))
    assert book >> says("other", qos=qos, packet_id=7) << refused("publish", "other") << Close(NO_RULE)
    assert book.connection.state is State.CLOSED


def test_what_came_before_the_denied_one_still_passes():
    book = established(context(on_deny=OnDeny.DISCONNECT))
    fine = raw.publish("ok", b"1")
    chunk = fine + raw.publish("other", b"2", qos=1, packet_id=1) + raw.publish("ok", b"3")
    assert book >> DeviceBytes(chunk) << SendToBus(fine) << refused("publish", "other") << Close(NO_RULE)


def test_on_deny_is_not_for_qos_0_nor_for_v5():
    assert established(context(on_deny=OnDeny.DISCONNECT)) >> says("other") << refused("publish", "other")
    assert (
        established(context(on_deny=OnDeny.DISCONNECT), v5=True)
        >> says("other", qos=1, packet_id=7, v5=True)
        << SendToDevice(told(0x40, 7, 0x87, NO_RULE))
        << refused("publish", "other")
    )


# Conditions of a rule: low/# allows QoS 1, no retained messages, 16 bytes.


@pytest.mark.parametrize(
    ("publish", "why"),
    [
        ({"qos": 2, "packet_id": 1}, "QoS 2 is above the 1 allowed on this topic."),
        ({"qos": 1, "packet_id": 1, "retain": True}, "Retained messages are not allowed on this topic."),
        (
            {"qos": 1, "packet_id": 1, "payload": b"x" * 17},
            "The payload of 17 bytes is above the 16 allowed on this topic.",
        ),
    ],
)
def test_the_conditions_of_a_rule_are_judged_by_each_message(publish, why):
    kind = 0x50 if publish["qos"] == 2 else 0x40
    fine = raw.publish("low/a", b"x" * 16, v5=True)
    assert (
        established(v5=True)
        >> DeviceBytes(fine)
        << SendToBus(fine)
        >> says("low/a", **({"payload": b"x"} | publish), v5=True)
        << SendToDevice(told(kind, 1, 0x87, why))
        << refused("publish", "low/a")
        # A verdict on one message is none on the topic.
        >> DeviceBytes(fine)
        << SendToBus(fine)
    )


@both
def test_the_topics_of_the_gateway_itself_do_not_reach_the_bus(v5):
    for topic in ("gateway", "gateway/other", "gateway/auth_response", "gateway/reply/lamp-1/x"):
        assert established(v5=v5) >> says(topic, v5=v5) << refused("publish", topic)
    assert established(v5=v5) >> says("$SYS/x", v5=v5) << refused("publish", "$SYS/x")


# Order of acknowledgements [MQTT-4.6.0-2, -3]


@both
@pytest.mark.parametrize(("qos", "kind"), [(1, 0x40), (2, 0x50)])
def test_a_refusal_waits_for_the_acknowledgements_before_it(v5, qos, kind):
    def message(topic, packet_id):
        return raw.publish(topic, b"x", qos=qos, packet_id=packet_id, v5=v5)

    no = told(kind, 2, 0x87, NO_RULE) if v5 else raw.ack(kind, 2)
    assert (
        established(v5=v5)
        >> DeviceBytes(message("ok", 1) + message("other", 2) + message("ok", 3))
        << SendToBus(message("ok", 1) + message("ok", 3))
        << refused("publish", "other")
        >> BusBytes(raw.ack(kind, 1))
        << SendToDevice(raw.ack(kind, 1) + no)
        >> BusBytes(raw.ack(kind, 3))
        << SendToDevice(raw.ack(kind, 3))
    )


def test_several_refusals_keep_their_places():
    def message(topic, packet_id):
        return raw.publish(topic, b"x", qos=1, packet_id=packet_id)

    ids = range(1, 8)
    topics = ["ok", "other", "ok", "other", "other", "ok", "other"]
    chunk = b"".join(map(message, topics, ids))
    book = established() >> DeviceBytes(chunk)
    assert (
        book
        << SendToBus(message("ok", 1) + message("ok", 3) + message("ok", 6))
        << refused("publish", "other")
    )
    acks = [raw.ack(0x40, one) for one in ids]
    assert (
        book
        >> BusBytes(acks[0] + acks[2] + acks[5][:3])
        << SendToDevice(b"".join(acks[:5]))
        >> BusBytes(acks[5][3:])
        << SendToDevice(b"".join(acks[5:]))
    )


def test_the_other_qos_does_not_wait():
    # The order is one among PUBACKs and one among PUBRECs.
    pending = raw.publish("ok", b"x", qos=1, packet_id=1)
    assert (
        established()
        >> DeviceBytes(pending)
        << SendToBus(pending)
        >> says("other", qos=2, packet_id=2)
        << SendToDevice(raw.ack(0x50, 2))
        << refused("publish", "other")
        >> says("other", qos=1, packet_id=3)
        >> BusBytes(raw.ack(0x40, 1))
        << SendToDevice(raw.ack(0x40, 1) + raw.ack(0x40, 3))
    )


@both
def test_a_refusal_by_the_bus_counts_as_an_acknowledgement(v5):
    pending = raw.publish("ok", b"x", qos=1, packet_id=1, v5=v5)
    of_bus = raw.ack(0x40, 1, 0x97 if v5 else None)
    ours = told(0x40, 2, 0x87, NO_RULE) if v5 else raw.ack(0x40, 2)
    assert (
        established(v5=v5)
        >> DeviceBytes(pending)
        << SendToBus(pending)
        >> says("other", qos=1, packet_id=2, v5=v5)
        << refused("publish", "other")
        >> BusBytes(of_bus)
        << SendToDevice(of_bus + ours)
    )


# Bounds


def test_refusals_that_wait_are_bounded():
    book = established(context(policy(in_flight=3)), v5=True)
    pending = raw.publish("ok", b"x", qos=1, packet_id=1, v5=True)
    book = book >> DeviceBytes(pending) << SendToBus(pending) >> says("other", qos=1, packet_id=2, v5=True)
    assert book << refused("publish", "other")
    book = book >> says("other", qos=1, packet_id=3, v5=True) >> says("other", qos=1, packet_id=4, v5=True)
    assert book >> says("other", qos=1, packet_id=5, v5=True) << Ends(0x93)


def test_handshakes_that_end_here_are_bounded():
    book = established(context(policy(in_flight=2)))
    for packet_id in (1, 2):
        book = book >> says("other", qos=2, packet_id=packet_id) << SendToDevice(raw.ack(0x50, packet_id))
        if packet_id == 1:
            assert book << refused("publish", "other")
    assert book >> says("other", qos=2, packet_id=3) << Ends()


def test_a_refusal_is_reported_once_a_topic_and_not_without_end():
    book = established()
    assert book >> says("other") << refused("publish", "other") >> says("other") >> says("other")
    chunk = b"".join(raw.publish(f"other/{number}", b"") for number in range(PER_SECOND + 5))
    told = react(book.connection, DeviceBytes(chunk))
    assert told == [refused("publish", f"other/{number}") for number in range(PER_SECOND - 1)]
    assert book >> Tick() << Report("publish", "refused", ANY, count=6)
    assert book >> says("other/new") << refused("publish", "other/new")


def test_what_was_left_out_is_told_when_the_connection_ends_before_its_second():
    book = established()
    react(book.connection, DeviceBytes(b"".join(raw.publish(f"x/{n}", b"") for n in range(PER_SECOND + 5))))
    assert book >> DeviceLost() << Report("publish", "refused", ANY, count=5) << Close(ANY)


def test_refusals_of_one_kind_leave_room_for_the_first_of_another():
    book = established()
    react(book.connection, DeviceBytes(b"".join(raw.publish(f"x/{n}", b"") for n in range(PER_SECOND + 5))))
    assert book >> BusBytes(raw.publish("other", b"")) << refused("delivery", "other", "subscribe")


def test_a_topic_without_end_is_cut_in_what_is_told():
    (report,) = established().connection.receive(DeviceBytes(raw.publish("x" * 60_000, b"")))
    assert report.topic == "x" * 1_024 + "…"


def test_everything_is_counted():
    world = context()
    assert (
        established(world)
        >> DeviceBytes(raw.publish("ok", b"1") + raw.publish("other", b"2") * 2)
        << SendToBus(ANY)
        << refused("publish", "other")
        >> Tick()
    )
    assert world.counters.messages_from_devices == 3
    assert world.counters.publishes_denied == 2
    assert world.counters.bytes_from_devices == len(raw.publish("ok", b"1")) + 2 * len(
        raw.publish("other", b"2")
    )
