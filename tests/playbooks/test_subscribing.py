"""SUBSCRIBE and UNSUBSCRIBE: judged filter by filter, and the SUBACK put together again."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import LAMP, Ends, context, established, policy, refused, suback

from gateway.connection.audit_vocabulary import Report
from gateway.connection.commands import SendToBus, SendToDevice
from gateway.connection.events import BusBytes, DeviceBytes, PolicyChanged

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


def no(v5):
    return 0x87 if v5 else 0x80


def denied(topic_filter):
    return refused("subscribe", topic_filter, "subscribe")


@both
def test_what_is_allowed_passes_as_it_came(v5):
    asked = raw.subscribe(1, ("ok/#", 2), ("low/a", 1), ("$share/g/ok/+", 0), v5=v5)
    answer = suback(1, 2, 1, 0x80, v5=v5)
    assert (
        established(v5=v5)
        >> DeviceBytes(asked)
        << SendToBus(asked)
        >> BusBytes(answer)
        << SendToDevice(answer)
    )


@both
@pytest.mark.parametrize(
    "topic_filter", ["#", "+", "other", "ok/no/a", "$share/g/#", "$SYS/#", "gateway/#", "private"]
)
def test_what_is_denied_altogether_never_reaches_the_bus(v5, topic_filter):
    if topic_filter == "private":
        topic_filter = "private/no/#"
    assert (
        established(v5=v5)
        >> DeviceBytes(raw.subscribe(9, (topic_filter, 1), v5=v5))
        << SendToDevice(suback(9, no(v5), v5=v5))
        << denied(topic_filter)
    )


@both
def test_the_rest_goes_to_the_bus_and_the_answer_is_put_together_in_order(v5):
    subscription_id = b"\x0b\x07"
    whole = [("other", 0), ("ok/a", 2), ("#", 1), ("$share/g/other", 0), ("ok/b", 1), ("other/x", 2)]
    some = [whole[1], whole[4]]
    reason = b"\x1f" + raw.text("fine")
    assert (
        established(v5=v5)
        >> DeviceBytes(raw.subscribe(3, *whole, v5=v5, props=subscription_id))
        << SendToBus(raw.subscribe(3, *some, v5=v5, props=subscription_id))
        << denied("other")
        << denied("#")
        << denied("$share/g/other")
        << denied("other/x")
        >> BusBytes(suback(3, 2, 0x80, v5=v5, props=reason))
        << SendToDevice(suback(3, no(v5), 2, no(v5), no(v5), 0x80, no(v5), v5=v5, props=reason))
    )


def test_a_filter_denied_in_part_is_allowed_for_each_delivery_is_judged_again():
    asked = raw.subscribe(1, ("ok/#", 0))
    assert established() >> DeviceBytes(asked) << SendToBus(asked)


@both
def test_the_qos_of_the_rule_is_the_highest_granted(v5):
    # MQTT 5, 3.8.4: a server may grant less than was asked for; the other options stay.
    options = 0x2C if v5 else 0
    assert (
        established(v5=v5)
        >> DeviceBytes(raw.subscribe(1, ("low/#", 2 | options), ("ok", 2), v5=v5))
        << SendToBus(raw.subscribe(1, ("low/#", 1 | options), ("ok", 2), v5=v5))
        >> BusBytes(suback(1, 1, 2, v5=v5))
        << SendToDevice(suback(1, 1, 2, v5=v5))
    )


def test_several_may_wait_even_with_the_same_id():
    first = raw.subscribe(1, ("ok/a", 0), ("other", 0))
    assert (
        established()
        >> DeviceBytes(first + raw.subscribe(2, ("ok/b", 0)) + raw.subscribe(1, ("other", 0), ("ok/c", 0)))
        << SendToBus(ANY)
        << denied("other")
        << denied("other")
        >> BusBytes(suback(2, 0) + suback(1, 1) + suback(1, 2))
        << SendToDevice(suback(2, 0) + suback(1, 1, 0x80) + suback(1, 0x80, 2))
    )


@both
def test_unsubscribe_passes_whatever_it_names(v5):
    asked = raw.unsubscribe(4, "other", "#", "ok", v5=v5)
    answer = raw.packet(0xB0, b"\0\4" + (b"\0\x11\x11\0" if v5 else b""))
    assert (
        established(v5=v5)
        >> DeviceBytes(asked)
        << SendToBus(asked)
        >> BusBytes(answer)
        << SendToDevice(answer)
    )


@both
def test_subscriptions_are_bounded_and_unsubscribing_makes_room(v5):
    full = 0x97 if v5 else 0x80
    world = context(policy(subscriptions=2))
    two = raw.subscribe(1, ("ok/a", 0), ("ok/b", 0), v5=v5)
    again = raw.subscribe(2, ("ok/a", 1), v5=v5)
    gone = raw.unsubscribe(4, "ok/a", v5=v5)
    third = raw.subscribe(5, ("ok/c", 0), v5=v5)
    assert (
        established(world, v5=v5)
        >> DeviceBytes(two)
        << SendToBus(two)
        >> DeviceBytes(again)
        << SendToBus(again)
        >> DeviceBytes(raw.subscribe(3, ("ok/c", 0), v5=v5))
        << SendToDevice(suback(3, full, v5=v5))
        << Report("subscribe", "refused", ANY, "subscribe", "ok/c")
        >> DeviceBytes(gone)
        << SendToBus(gone)
        >> DeviceBytes(third)
        << SendToBus(third)
    )


def test_subscribes_that_wait_for_the_bus_are_bounded():
    book = established(context(policy(in_flight=2)))
    for packet_id in (1, 2):
        asked = raw.subscribe(packet_id, ("ok", 0))
        book = book >> DeviceBytes(asked) << SendToBus(asked)
    assert book >> DeviceBytes(raw.subscribe(3, ("ok", 0))) << Ends()


@both
@pytest.mark.parametrize(
    "topic_filter", ["", "ok/#/a", "ok#", "o+", "a\0", b"\xff", "$share/g", "$share//ok", "$share/+/ok"]
)
def test_a_filter_that_is_none_ends_the_connection(v5, topic_filter):
    assert established(v5=v5) >> DeviceBytes(raw.subscribe(1, (topic_filter, 0), v5=v5)) << Ends()


@pytest.mark.parametrize(
    ("v5", "packet"),
    [
        (True, raw.subscribe(0, ("ok", 0), v5=True)),
        (True, raw.subscribe(1, v5=True)),
        (True, raw.subscribe(1, ("ok", 3), v5=True)),
        (True, raw.subscribe(1, ("ok", 0x30), v5=True)),
        (True, raw.subscribe(1, ("ok", 0x40), v5=True)),
        (True, raw.subscribe(1, ("$share/g/ok", 4), v5=True)),
        (True, raw.subscribe(1, ("ok", 0), v5=True, props=b"\x01\0")),
        (True, b"\x80" + raw.subscribe(1, ("ok", 0), v5=True)[1:]),
        (False, raw.subscribe(1, ("ok", 4))),
        (False, raw.subscribe(1)),
        (False, raw.packet(0x82, b"\0")),
        (False, raw.packet(0x82, b"\0\1\0\2o")),
        (False, raw.packet(0x82, b"\0\1\0\2ok")),
        (False, raw.packet(0xA2, b"\0\0\0\2ok")),
        (False, raw.packet(0xA2, b"\0\1\0\3ok")),
    ],
)
def test_a_subscribe_that_is_none_ends_the_connection(v5, packet):
    assert established(v5=v5) >> DeviceBytes(packet) << Ends()


@pytest.mark.parametrize("packet", [suback(7, 0), suback(0, 0), raw.packet(0x90, b"\0")])
def test_a_suback_nobody_waits_for(packet):
    asked = raw.subscribe(1, ("ok", 0))
    assert established() >> DeviceBytes(asked) << SendToBus(asked) >> BusBytes(packet) << Ends()


@pytest.mark.parametrize("codes", [(), (0, 0)])
def test_a_suback_that_does_not_fit(codes):
    book = established(v5=True) >> DeviceBytes(raw.subscribe(1, ("ok", 0), ("other", 0), v5=True))
    assert book << SendToBus(ANY) << denied("other") >> BusBytes(suback(1, *codes, v5=True)) << Ends()


def test_other_rules_judge_the_next_subscribe():
    world = context()
    asked = raw.subscribe(1, ("ok", 0))
    book = established(world) >> DeviceBytes(asked) << SendToBus(asked)
    world.policy = policy([])
    assert book >> PolicyChanged(LAMP) >> DeviceBytes(asked) << SendToDevice(suback(1, 0x80)) << denied("ok")
