"""Messages that we make too long for the bus: told in the device's own terms, and no disconnect."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import LAMP, Playbook, context, established, policy, refused, rule, told

from gateway.connection.commands import Authenticate, Close, OpenBus, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import Authenticated, BusBytes, DeviceBytes, PolicyChanged
from gateway.connection.process_context import OnDeny
from gateway.keys.sealed_packet_size import announced
from gateway.policy.engine.limits import ANY_SIZE
from gateway.policy.engine.policy import Role

TOPIC = "private/pin"
LIMIT = 1_000
both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


def most(size: int) -> bytes:
    return b"\x27" + size.to_bytes(4, "big")


def before_a_bus_of(size: int, *, v5: bool, on_deny: OnDeny = OnDeny.DROP) -> Playbook:
    """In 3.1.1 the bus does not say its limit: the gateway knows it from the last one in MQTT 5."""
    world = context(on_deny=on_deny)
    if v5:
        lowered = most(announced(size, "lamp-1"))
        return established(world, v5=True, connack_props=most(size), passed_on=lowered)
    world.bus_packet_max = size
    return established(world)


def explained(size: int) -> str:
    return (
        f"Sealed, the message has {size:,} bytes, and the bus takes packets of {LIMIT:,} at most "
        "(its max_packet_size)."
    )


@pytest.mark.parametrize("again", [1, 2], ids=["new topic", "known topic"])
@pytest.mark.parametrize("qos", [1, 2])
def test_in_mqtt_5_the_message_is_refused_by_its_code(qos, again):
    book = before_a_bus_of(LIMIT, v5=True)
    kind = 0x40 if qos == 1 else 0x50
    if again == 2:
        small = raw.publish(TOPIC, b"1", qos=qos, packet_id=9, v5=True)
        book = book >> DeviceBytes(small) << SendToBus(ANY)
        ack = raw.packet(kind, b"\0\x09")
        book = book >> BusBytes(ack) << SendToDevice(ack)
    publish = raw.publish(TOPIC, bytes(900), qos=qos, packet_id=5, v5=True)
    book = book >> DeviceBytes(publish)
    (answer, report) = book._left
    book._left = []
    assert report == refused("publish", TOPIC)
    size = int(report.reason.split()[4].replace(",", ""))
    assert answer == SendToDevice(told(kind, 5, 0x97, explained(size)))
    assert size > LIMIT
    # The connection goes on, and the log is told once a topic.
    plain = raw.publish("ok", b"1", v5=True)
    assert (
        book
        >> DeviceBytes(plain)
        << SendToBus(plain)
        >> DeviceBytes(publish)
        << SendToDevice(told(kind, 5, 0x97, explained(size)))
    )


@pytest.mark.parametrize("on_deny", list(OnDeny))
@pytest.mark.parametrize("qos", [1, 2])
def test_in_mqtt_311_it_is_dropped_and_the_log_names_the_limit(qos, on_deny):
    book = before_a_bus_of(LIMIT, v5=False, on_deny=on_deny)
    kind = 0x40 if qos == 1 else 0x50
    book = book >> DeviceBytes(raw.publish(TOPIC, bytes(900), qos=qos, packet_id=5))
    (answer, report) = book._left
    book._left = []
    assert answer == SendToDevice(raw.ack(kind, 5))
    assert "the bus takes packets of 1,000 at most (its max_packet_size)" in report.reason
    if qos == 2:
        assert book >> DeviceBytes(raw.ack(0x62, 5)) << SendToDevice(raw.ack(0x70, 5))
    assert book


@both
def test_a_message_of_qos_0_is_dropped_and_told(v5):
    book = before_a_bus_of(LIMIT, v5=v5) >> DeviceBytes(raw.publish(TOPIC, bytes(900), v5=v5))
    assert book << refused("publish", TOPIC)


@both
def test_what_is_too_long_takes_no_place_among_the_retained(v5):
    world = context(policy(retained_topics=1))
    lowered = {"connack_props": most(LIMIT), "passed_on": most(announced(LIMIT, "lamp-1"))} if v5 else {}
    world.bus_packet_max = LIMIT
    book = established(world, v5=v5, **lowered)
    book = (
        book >> DeviceBytes(raw.publish(TOPIC, bytes(900), retain=True, v5=v5)) << refused("publish", TOPIC)
    )
    kept = raw.publish("ok", b"1", retain=True, v5=v5)
    book = book >> DeviceBytes(kept) << SendToBus(kept)
    # The place is taken now: a sealed one on a different topic gets none.
    assert book >> DeviceBytes(raw.publish(TOPIC, b"1", retain=True, v5=v5)) << refused("publish", TOPIC)


def test_a_plain_message_is_the_bus_own_affair_in_mqtt_311():
    packet = raw.publish("ok", bytes(2_000))
    assert before_a_bus_of(LIMIT, v5=False) >> DeviceBytes(packet) << SendToBus(packet)


def test_in_mqtt_5_a_plain_message_is_refused_at_its_header_as_the_bus_would():
    # Left to the bus its 0x95 is lost: it closes at the header, and the rest of the packet runs into that.
    book = before_a_bus_of(LIMIT, v5=True)
    small = raw.publish("ok", bytes(LIMIT - 6), v5=True)
    assert len(small) == LIMIT + 2  # Mosquitto counts one byte of the header
    book = book >> DeviceBytes(small) << SendToBus(small) >> DeviceBytes(small) << SendToBus(small)
    book = book >> PolicyChanged(LAMP)
    header = raw.publish("ok", bytes(LIMIT - 5), v5=True)[:3]
    assert header == b"\x30" + raw.varint(LIMIT)
    assert book >> DeviceBytes(header) << SendToDevice(b"\xe0\x01\x95") << Close(ANY)


@pytest.mark.parametrize("size", [700, 2_000, 65_536, 2_000_000])
@pytest.mark.parametrize("topic", ["private/pin", "private/" + "x" * 60])
def test_what_is_announced_leaves_room_for_sealing(size, topic):
    room = announced(size, "lamp-1")
    assert room > size // 4
    book = before_a_bus_of(size, v5=True)
    packet = raw.publish(topic, b"", qos=1, packet_id=1, v5=True)
    payload = bytes(room - len(packet) - 4)
    packet = raw.publish(topic, payload, qos=1, packet_id=1, v5=True)
    assert room - 5 < len(packet) <= room
    book = book >> DeviceBytes(packet)
    (sent,) = book._left
    book._left = []
    assert isinstance(sent, SendToBus)
    assert len(sent.data) <= size


def test_the_room_never_exceeds_what_the_bus_takes():
    for size in (1, 63, 64, 300, 1_000, ANY_SIZE):
        assert 1 <= announced(size, "x" * 64) <= size


def test_who_may_publish_nothing_sensitive_is_told_what_the_bus_said():
    plain = policy([Role("lamp", "", (rule("ok/#", "publish"), rule("private/#", "subscribe")))])
    assert established(context(plain), v5=True, connack_props=most(LIMIT))
    label = policy([Role("lamp", "", (rule("{device}/pin", "publish"),))])
    lowered = most(announced(LIMIT, "lamp-1"))
    assert established(context(label), v5=True, connack_props=most(LIMIT), passed_on=lowered)


def test_where_the_bus_names_no_limit_none_is_announced():
    assert established(v5=True, connack_props=b"")


@both
def test_a_will_that_is_too_long_when_sealed_is_refused_at_once(v5):
    world = context()
    world.bus_packet_max = LIMIT
    will = (TOPIC, bytes(800), 1, False)
    book = Playbook(DeviceConnection(world))
    book = (
        book
        >> DeviceBytes(raw.connect("c", v5=v5, username="lamp-1", password="s", will=will))
        << Authenticate(b"lamp-1", b"s")
        >> Authenticated(LAMP)
        << refused("will", TOPIC)
        << SendToDevice(raw.packet(0x20, b"\0\x95\0" if v5 else b"\0\x05"))
    )
    assert book << Close(ANY)
    assert (
        Playbook(DeviceConnection(world))
        >> DeviceBytes(raw.connect("c", v5=v5, username="lamp-1", password="s", will=(TOPIC, b"1", 1, False)))
        << Authenticate(b"lamp-1", b"s")
        >> Authenticated(LAMP)
        << OpenBus(ANY)
    )


def test_a_topic_that_takes_the_place_of_its_alias_makes_no_message_longer_than_the_bus_takes():
    """The bus never learnt what the alias stands for: the packet that set it was denied."""
    topic = "low/" + "t" * 900
    alias = b"\x23\0\x01"
    lowered = b"\x22\0\x05" + most(announced(LIMIT, "lamp-1"))
    book = established(context(), v5=True, connack_props=b"\x22\0\x05" + most(LIMIT), passed_on=lowered)
    book = book >> DeviceBytes(raw.publish(topic, b"x", v5=True, props=alias, retain=True))
    book = book << refused("publish", topic)
    more = alias + b"\x26" + raw.text("k") + raw.text("v" * 90)
    book = book >> DeviceBytes(raw.publish("", b"x", qos=1, packet_id=5, v5=True, props=more))
    (answer, report) = book._left
    book._left = []
    assert report == refused("publish", topic)
    size = int(report.reason.split()[6].replace(",", ""))
    assert size > LIMIT
    why = explained(size).replace("Sealed", "With its topic")
    assert answer == SendToDevice(told(0x40, 5, 0x97, why))
    # A shorter one passes with the topic, and the bus has learnt the alias.
    short = raw.publish("", b"x", v5=True, props=alias)
    book = book >> DeviceBytes(short) << SendToBus(raw.publish(topic, b"x", v5=True, props=alias))
    assert book >> DeviceBytes(short) << SendToBus(short)
