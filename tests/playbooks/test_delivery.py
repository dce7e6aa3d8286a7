"""From the bus to the device: each message is judged again, and what is not delivered is acknowledged."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import LAMP, READER, Ends, context, established, policy, refused, seal

from gateway.connection.audit_vocabulary import Report
from gateway.connection.commands import SendToBus, SendToDevice
from gateway.connection.events import BusBytes, DeviceBytes, PolicyChanged, Tick

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
USER = b"\x26" + raw.text("k") + raw.text("v")


def denied(topic="other"):
    return refused("delivery", topic, "subscribe")


def room(size):
    """The properties of a CONNECT that takes packets of `size` bytes at the most."""
    return b"\x27" + size.to_bytes(4, "big")


@pytest.mark.parametrize("qos", [0, 1, 2])
@both
def test_what_is_allowed_passes_as_it_came(v5, qos):
    packet = raw.publish(
        "ok/a", b"\0\xff", qos=qos, packet_id=5 if qos else 0, retain=True, v5=v5, props=USER
    )
    book = established(v5=v5)
    for _ in range(3):
        book = book >> BusBytes(packet * 2) << SendToDevice(packet * 2)
    assert book


@both
def test_qos_0_is_swallowed(v5):
    world = context()
    fine, bad = raw.publish("ok", b"1", v5=v5), raw.publish("other", b"2", v5=v5)
    assert (
        established(world, v5=v5)
        >> BusBytes(fine + bad + fine)
        << SendToDevice(fine + fine)
        << denied()
        >> BusBytes(bad)
        >> Tick()
    )
    assert world.counters.deliveries_denied == 2
    assert world.counters.messages_to_devices == 4


@both
def test_qos_1_is_swallowed_and_acknowledged(v5):
    bad = raw.publish("ok/no/a", b"2", qos=1, packet_id=3, v5=v5)
    assert established(v5=v5) >> BusBytes(bad) << SendToBus(raw.ack(0x40, 3)) << denied("ok/no/a")


@both
def test_qos_2_is_swallowed_and_its_handshake_finished(v5):
    assert (
        established(v5=v5)
        >> BusBytes(raw.publish("other", b"2", qos=2, packet_id=3, v5=v5))
        << SendToBus(raw.ack(0x50, 3))
        << denied()
        >> BusBytes(raw.ack(0x62, 3))
        << SendToBus(raw.ack(0x70, 3))
        # The next of this id is the device's.
        >> BusBytes(raw.ack(0x62, 3))
        << SendToDevice(raw.ack(0x62, 3))
    )


def test_a_handshake_of_the_device_passes():
    packet = raw.publish("ok", b"1", qos=2, packet_id=4)
    assert (
        established()
        >> BusBytes(packet)
        << SendToDevice(packet)
        >> DeviceBytes(raw.ack(0x50, 4))
        << SendToBus(raw.ack(0x50, 4))
        >> BusBytes(raw.ack(0x62, 4))
        << SendToDevice(raw.ack(0x62, 4))
        >> DeviceBytes(raw.ack(0x70, 4))
        << SendToBus(raw.ack(0x70, 4))
    )


@both
@pytest.mark.parametrize(("qos", "kind"), [(1, 0x40), (2, 0x50)])
def test_what_is_swallowed_is_acknowledged_in_its_place(v5, qos, kind):
    def message(topic, packet_id):
        return raw.publish(topic, b"x", qos=qos, packet_id=packet_id, v5=v5)

    chunk = message("ok", 1) + message("other", 2) + message("other", 3) + message("ok", 4)
    assert (
        established(v5=v5)
        >> BusBytes(chunk)
        << SendToDevice(message("ok", 1) + message("ok", 4))
        << denied()
        >> DeviceBytes(raw.ack(kind, 1))
        << SendToBus(raw.ack(kind, 1) + raw.ack(kind, 2) + raw.ack(kind, 3))
        >> DeviceBytes(raw.ack(kind, 4))
        << SendToBus(raw.ack(kind, 4))
    )


def test_an_acknowledgement_in_its_long_form_counts_too():
    def message(topic, packet_id):
        return raw.publish(topic, b"x", qos=1, packet_id=packet_id, v5=True)

    long = raw.packet(0x40, b"\0\1\x10\0")
    assert (
        established(v5=True)
        >> BusBytes(message("ok", 1) + message("other", 2))
        << SendToDevice(message("ok", 1))
        << denied()
        >> DeviceBytes(long)
        << SendToBus(long + raw.ack(0x40, 2))
    )


@both
@pytest.mark.parametrize("publish", [{"retain": True}, {"payload": b"x" * 17}])
def test_the_conditions_of_a_rule_hold_for_deliveries_too(v5, publish):
    fine = raw.publish("low/a", b"x" * 16, qos=2, packet_id=1, v5=v5)
    assert (
        established(v5=v5)
        >> BusBytes(fine)
        << SendToDevice(fine)
        >> BusBytes(raw.publish("low/a", **({"payload": b"x"} | publish), v5=v5))
        << denied("low/a")
    )


def test_a_right_that_was_taken_ends_deliveries_at_once():
    # CVE-2021-34434: the subscription is still there on the bus.
    world = context()
    packet = raw.publish("ok", b"1", qos=1, packet_id=1)
    book = (
        established(world)
        >> BusBytes(packet)
        << SendToDevice(packet)
        >> BusBytes(packet)
        << SendToDevice(packet)
    )
    world.policy = policy([])
    assert (
        book
        >> PolicyChanged(LAMP)
        >> BusBytes(packet)
        << denied("ok")
        # Both that passed are still the device's to acknowledge.
        >> DeviceBytes(raw.ack(0x40, 1) * 2)
        << SendToBus(raw.ack(0x40, 1) * 3)
    )


def test_the_topics_of_the_gateway_itself_are_not_delivered():
    assert (
        established()
        >> BusBytes(raw.publish("gateway/auth_response", b"{}"))
        << denied("gateway/auth_response")
    )


# The device's Maximum Packet Size


def test_what_is_too_long_for_the_device_is_swallowed():
    # [MQTT-3.1.2-25]
    world = context()
    fits = raw.publish("ok", b"x" * 20, qos=1, packet_id=1, v5=True)
    over = raw.publish("ok", b"x" * 22, qos=1, packet_id=2, v5=True)
    assert (
        established(world, v5=True, props=room(len(fits)))
        >> BusBytes(fits + over)
        << SendToDevice(fits)
        >> DeviceBytes(raw.ack(0x40, 1))
        << SendToBus(raw.ack(0x40, 1) + raw.ack(0x40, 2))
    )
    assert world.counters.deliveries_too_large == 1


def test_a_limit_is_judged_by_what_the_device_sees():
    sealed = raw.publish("private/pin", seal(b"4711", "private/pin"), v5=True)
    plain = raw.publish("private/pin", b"4711", v5=True)
    limit = room(len(plain))
    assert established(v5=True, device=READER, props=limit) >> BusBytes(sealed) << SendToDevice(plain)
    assert established(v5=True, props=limit) >> BusBytes(sealed)


# Longer than acl/limits.toml allows


@pytest.mark.parametrize("qos", [0, 1, 2])
@both
def test_a_message_over_the_limit_is_skipped_and_never_gathered(v5, qos):
    world = context(policy(packet_size=100))
    packet = raw.publish("ok", b"x" * 3_000_000, qos=qos, packet_id=7 if qos else 0, v5=v5)
    book = established(world, v5=v5)
    downstream = book.connection._stage.downstream
    told = Report("delivery", "failed", ANY)
    behind = raw.publish("ok", b"1", v5=v5)
    # Its header may be as long as the longest topic: so much has to be seen.
    book = book >> BusBytes(packet[:50_000]) >> BusBytes(packet[50_000:80_000])
    if qos:
        book = book << SendToBus(raw.ack(0x40 if qos == 1 else 0x50, 7))
    book = book << told >> BusBytes(packet[80_000:2_000_000])
    assert downstream._partial is None
    assert book >> BusBytes(packet[2_000_000:] + behind) << SendToDevice(behind)
    if qos == 2:
        assert book >> BusBytes(raw.ack(0x62, 7)) << SendToBus(raw.ack(0x70, 7))
    assert world.counters.deliveries_too_large == 1


@pytest.mark.parametrize("qos", [0, 1])
def test_what_looks_like_a_message_inside_one_that_is_skipped_is_not_delivered(qos):
    inside = raw.publish("ok", b"1", qos=qos, packet_id=qos)
    skipped = raw.publish("ok", b"x" * 100_000 + inside * 2)
    book = established(context(policy(packet_size=100))) >> BusBytes(inside) << SendToDevice(inside)
    book = book >> BusBytes(skipped[: -2 * len(inside)]) << Report("delivery", "failed", ANY)
    assert book >> BusBytes(inside) >> BusBytes(inside) >> BusBytes(inside) << SendToDevice(inside)


def test_a_sealed_message_may_be_longer_than_the_plain_one_was():
    world = context(policy(packet_size=80_000))
    plain = raw.publish("private/pin", b"x" * 79_000)
    sealed = raw.publish("private/pin", seal(b"x" * 79_000, "private/pin"))
    assert len(sealed) > 80_000
    assert established(world, device=READER) >> BusBytes(sealed) << SendToDevice(plain)


def test_what_is_no_message_and_too_long_ends_the_connection():
    book = established(context(policy(packet_size=100)))
    assert book >> BusBytes(b"\x90" + raw.varint(1_000_000)) << Ends()


# Bounds


def test_handshakes_that_end_here_are_bounded():
    book = established(context(policy(in_flight=2)))
    for packet_id in (1, 2):
        book = book >> BusBytes(raw.publish("other", b"", qos=2, packet_id=packet_id))
        book = book << SendToBus(raw.ack(0x50, packet_id))
        if packet_id == 1:
            book = book << denied()
    assert book >> BusBytes(raw.publish("other", b"", qos=2, packet_id=3)) << Ends()


def test_acknowledgements_that_wait_are_bounded():
    waits = raw.publish("ok", b"", qos=1, packet_id=1)
    book = established(context(policy(in_flight=2))) >> BusBytes(waits) << SendToDevice(waits)
    book = book >> BusBytes(raw.publish("other", b"", qos=1, packet_id=2)) << denied()
    book = book >> BusBytes(raw.publish("other", b"", qos=1, packet_id=3))
    assert book >> BusBytes(raw.publish("other", b"", qos=1, packet_id=4)) << Ends()


@pytest.mark.parametrize(
    ("topic", "properties", "least"),
    [("ok/" + "t" * 60_000, 0, 60_000 >> 4), ("ok/a", 4_000, 5_000), ("ok/a", 5_000, 8_000)],
    ids=["topic", "properties", "more properties than are read"],
)
def test_a_delivery_costs_by_its_topic_and_properties_as_a_publish_does(topic, properties, least):
    """Who sends it pays once, and each receiver takes as long to serve."""
    book = established(context(policy(packet_size=100_000)), v5=True)
    assert book.connection.established is not None
    meter = book.connection.established.downstream.meter
    empty = b"\x26" + raw.text("") + raw.text("")
    book.connection.receive(BusBytes(raw.publish(topic, b"x", v5=True, props=empty * properties)))
    assert meter.effort >= least
