"""Topic aliases (MQTT 5, 3.3.2.3.4): resolved before any decision, and never told wrong to the bus.

What device and bus hold for an alias differs as soon as a packet that set it went another way.
"""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import (
    READER,
    Ends,
    Role,
    Sealed,
    context,
    established,
    policy,
    react,
    refused,
    rule,
    told,
)

from gateway.connection.commands import Close, SendToBus, SendToDevice
from gateway.connection.events import BusBytes, DeviceBytes, PolicyChanged

USER = b"\x26" + raw.text("k") + raw.text("v")


def alias(number, *more):
    return b"\x23" + number.to_bytes(2, "big") + b"".join(more)


def message(topic, payload=b"x", *, props=b"", **publish):
    return raw.publish(topic, payload, v5=True, props=props, **publish)


def started(world=None):
    return established(world, v5=True, connack_props=b"\x22\0\x05")


def passes(book, packet):
    return book >> DeviceBytes(packet) << SendToBus(packet)


def test_an_alias_of_an_allowed_topic_passes_as_it_came():
    book = passes(started(), message("ok", props=alias(1)))
    for qos in (0, 1, 2, 0):
        book = passes(book, message("", b"again", props=alias(1, USER), qos=qos, packet_id=3))
    assert passes(book, message("", b"again", props=alias(1)) * 5)


def test_a_denied_topic_stays_denied_behind_its_alias():
    assert (
        started()
        >> DeviceBytes(message("other", props=alias(1)))
        << refused("publish", "other")
        >> DeviceBytes(message("", props=alias(1), qos=1, packet_id=1))
        << SendToDevice(told(0x40, 1, 0x87, "No rule allows the device to publish to this topic."))
    )


def test_an_alias_set_by_a_denied_packet_does_not_touch_what_the_bus_holds():
    book = passes(started(), message("ok", props=alias(1)))
    book = book >> DeviceBytes(message("other", props=alias(1))) << refused("publish", "other")
    # For the bus alias 1 is still "ok": this must not arrive there.
    book = book >> DeviceBytes(message("", b"stray", props=alias(1)))
    # Set anew to what the bus holds already.
    book = passes(book, message("ok", props=alias(1)))
    assert passes(book, message("", props=alias(1)))


def test_a_topic_that_becomes_allowed_is_told_to_the_bus():
    world = context()
    book = passes(started(world), message("ok/a", props=alias(1)))
    book = book >> DeviceBytes(message("ok/no/b", props=alias(1))) << refused("publish", "ok/no/b")
    world.policy = policy([Role("lamp", "", (rule("#", "publish"),)), Role("reader", "", ())])
    assert (
        book
        >> PolicyChanged(READER)
        >> DeviceBytes(message("", b"1", props=alias(1, USER), qos=1, packet_id=4))
        << SendToBus(message("ok/no/b", b"1", props=alias(1, USER), qos=1, packet_id=4))
        # Now both hold the same.
        >> DeviceBytes(message("", b"2", props=alias(1)))
        << SendToBus(message("", b"2", props=alias(1)))
    )


def test_a_sealed_message_goes_with_its_topic_and_without_the_alias():
    assert (
        started()
        >> DeviceBytes(message("private/pin", b"1", props=alias(2, USER)))
        << SendToBus(Sealed("private/pin", b"1", v5=True, props=USER))
        >> DeviceBytes(message("", b"2", props=alias(2), qos=1, packet_id=5))
        << SendToBus(Sealed("private/pin", b"2", v5=True, qos=1, packet_id=5))
    )


def test_an_alias_set_by_a_sealed_packet_does_not_touch_what_the_bus_holds():
    book = passes(started(), message("ok", props=alias(1)))
    book = (
        book
        >> DeviceBytes(message("private/pin", b"1", props=alias(1)))
        << SendToBus(Sealed("private/pin", b"1", v5=True))
        >> DeviceBytes(message("", b"2", props=alias(1)))
        << SendToBus(Sealed("private/pin", b"2", v5=True))
    )
    assert passes(book, message("ok", props=alias(1)))


def test_an_empty_retained_message_behind_an_alias_clears_the_sensitive_topic():
    assert (
        started()
        >> DeviceBytes(message("private/pin", b"1", props=alias(1)))
        << SendToBus(ANY)
        >> DeviceBytes(message("", b"", props=alias(1), retain=True))
        << SendToBus(message("private/pin", b"", props=alias(1), retain=True))
    )


def test_an_alias_is_set_anew():
    book = started()
    for topic in ("ok/a", "ok/b", "ok/a"):
        book = passes(book, message(topic, props=alias(1)))
        book = passes(book, message("", b"same length", props=alias(1)))
    assert book >> DeviceBytes(message("other", props=alias(1))) << refused("publish", "other")
    # The remembered verdict on these very bytes is gone.
    assert book >> DeviceBytes(message("", b"same length", props=alias(1)))


def test_aliases_do_not_mix():
    book = passes(started(), message("ok/a", props=alias(1)))
    book = book >> DeviceBytes(message("other", props=alias(2))) << refused("publish", "other")
    book = passes(book, message("", props=alias(1)))
    assert book >> DeviceBytes(message("", props=alias(2)))


@pytest.mark.parametrize(
    "packet",
    [
        message("ok", props=alias(0)),
        message("ok", props=alias(6)),
        message("", props=alias(6)),
        message("", props=alias(5)),
        message(""),
        message("ok", props=alias(1, alias(2))),
    ],
    ids=range(6),
)
def test_an_alias_that_can_not_be(packet):
    book = passes(started(), message("ok", props=alias(1)))
    assert book >> DeviceBytes(packet) << Ends()


def test_without_an_offer_of_the_bus_there_are_no_aliases():
    assert established(v5=True) >> DeviceBytes(message("ok", props=alias(1))) << Ends()


def test_the_bus_is_asked_for_no_alias_and_may_use_none():
    # A delivery behind an alias could not be judged.
    book = established(v5=True, props=b"\x22\0\x05")
    assert book >> BusBytes(message("ok", props=alias(1))) << Ends()


@pytest.mark.parametrize("topic", ["ok/", "other/", "private/", "low/"])
def test_a_long_topic_costs_as_much_when_an_alias_stands_for_it(topic):
    """It is judged, sealed and sent as one: of ten bytes alone a slice would take far too many."""
    long = topic + "t" * 60_000
    book = started(context(policy(packet_size=100_000)))
    established_now = book.connection.established
    assert established_now is not None
    meter = established_now.upstream.meter

    def cost(packet):
        before = meter.effort
        book.connection.receive(DeviceBytes(packet))
        return meter.effort - before

    whole = cost(message(long, props=alias(1), retain=True))
    assert whole > 60_000 >> 4
    assert cost(message("", props=alias(1), retain=True)) >= whole * 0.99


def learn(topics):
    """How many of these topics a device can have an alias stand for, each for its own."""
    world = context(policy(messages_per_second=10_000_000))
    connection = established(world, v5=True, connack_props=b"\x22\xff\xff").connection
    for number, topic in enumerate(topics, 1):
        packet = message(topic, props=alias(number))
        commands = react(connection, DeviceBytes(packet))
        if commands != [SendToBus(packet)]:
            assert commands[0].data[2] == 0x97
            assert isinstance(commands[-1], Close)
            return number - 1
    return len(topics)


def test_aliases_are_bounded_by_the_bytes_of_their_topics():
    """A bus that takes sixty thousand of them had the gateway keep gigabytes for one connection."""
    assert learn([f"ok/{number}" + "x" * 60_000 for number in range(10)]) == 4
    assert 1_000 < learn([f"ok/{number}" for number in range(5_000)]) < 2_500


def test_an_alias_that_gets_a_different_topic_counts_once():
    world = context(policy(messages_per_second=10_000_000))
    connection = established(world, v5=True, connack_props=b"\x22\0\x05").connection
    for number in range(50):
        packet = message(f"ok/{number}" + "x" * 60_000, props=alias(1))
        assert react(connection, DeviceBytes(packet)) == [SendToBus(packet)]
