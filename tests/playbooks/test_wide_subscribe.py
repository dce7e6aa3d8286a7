"""`subscribe = "filter"`: a SUBSCRIBE that no rule covers is granted in part, and each delivery is judged."""

from __future__ import annotations

import dataclasses

import pytest
from harness import raw
from harness.playbook import LAMP, NOW, context, established, policy, react, refused, rule, suback

from gateway.connection.commands import SendToBus, SendToDevice
from gateway.connection.events import BusBytes, DeviceBytes, PolicyChanged, Tick
from gateway.policy.engine.identity import Grant
from gateway.policy.engine.policy import Effect, Role
from gateway.policy.engine.rules import OnWideSubscribe

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
RULES = (
    rule("rooms/+/temp", "subscribe", max_qos=1),
    rule("rooms/hall/#", "subscribe", max_qos=0),
    rule("rooms/+/temp/no/#", "subscribe", effect=Effect.DENY),
    rule("shut/#", "subscribe", effect=Effect.DENY),
    rule("$SYS/broker/load/#", "subscribe"),
)
WIDE = Role("lamp", "", RULES, subscribe=OnWideSubscribe.FILTER)
NARROW = Role("lamp", "", RULES)


def dashboard(role=WIDE, *, v5=False, device=LAMP, grant=None, **limits):
    return established(context(policy([role], **limits)), v5=v5, device=device, grant=grant)


def no(v5):
    return 0x87 if v5 else 0x80


@both
@pytest.mark.parametrize(
    "topic_filter", ["#", "rooms/#", "+/hall/+", "rooms/+/+", "$SYS/#", "$SYS/broker/+/1min"]
)
def test_a_filter_that_meets_a_rule_is_granted_with_the_highest_qos_of_those_it_meets(v5, topic_filter):
    most = 2 if topic_filter[0] == "$" else 1
    passed = raw.subscribe(1, (topic_filter, most), v5=v5)
    book = dashboard(v5=v5) >> DeviceBytes(raw.subscribe(1, (topic_filter, 2), v5=v5)) << SendToBus(passed)
    assert book >> BusBytes(suback(1, most, v5=v5)) << SendToDevice(suback(1, most, v5=v5))


@both
@pytest.mark.parametrize(
    "topic_filter",
    [
        "doors/#",
        "shut/#",
        "shut/+",
        "$share/g/#",
        "$share/g/rooms/#",
        "$CONTROL/#",
        "$SYS/other/#",
        "gateway/#",
        "gateway/auth",
        "rooms/+/temp/no/#",
    ],
)
def test_what_meets_no_rule_is_shared_or_is_not_for_rules_stays_refused(v5, topic_filter):
    book = dashboard(v5=v5) >> DeviceBytes(raw.subscribe(9, (topic_filter, 1), v5=v5))
    assert book << SendToDevice(suback(9, no(v5), v5=v5)) << refused("subscribe", topic_filter, "subscribe")


def test_without_the_word_nothing_changes():
    book = dashboard(NARROW) >> DeviceBytes(raw.subscribe(9, ("#", 1)))
    assert book << SendToDevice(suback(9, 0x80)) << refused("subscribe", "#", "subscribe")


def subscribed(**more):
    asked = raw.subscribe(1, ("#", 1))
    book = dashboard(**more) >> DeviceBytes(asked) << SendToBus(asked)
    return book >> BusBytes(suback(1, 1)) << SendToDevice(suback(1, 1))


def test_each_delivery_is_judged_and_what_is_held_back_is_acknowledged():
    fine, low = raw.publish("rooms/attic/temp", b"1"), raw.publish("rooms/hall/lamp", b"1")
    other = raw.publish("doors/front", b"1", qos=1, packet_id=7)
    book = subscribed() >> BusBytes(fine + low) << SendToDevice(fine + low)
    book = (
        book
        >> BusBytes(other)
        << SendToBus(raw.ack(0x40, 7))
        << refused("delivery", "doors/front", "subscribe")
    )
    for topic in ("rooms/a/temp/no/x", "gateway/auth", "shut/x", "$SYS/other"):
        book = book >> BusBytes(raw.publish(topic, b"1")) << refused("delivery", topic, "subscribe")
    assert book


def test_what_is_held_back_counts_against_the_budget_of_the_device():
    """A bus that is full of what it may not read costs it its second, and nobody else anything."""
    flood = b"".join(raw.publish(f"doors/{number}", b"x") for number in range(30))
    book = subscribed(messages_per_second=100)
    connection = book.connection
    commands = connection.receive(BusBytes(flood))
    assert connection.established.downstream.waits
    assert not any(isinstance(one, SendToDevice) for one in commands)
    for _ in range(10):
        react(connection, Tick())
    assert not connection.established.downstream.waits, "and nothing of it is lost to the next second"


def test_a_token_bounds_it_still():
    hall = Grant("t", "t", 0, 0, NOW, {"subscribe": ("rooms/hall/#",)})
    asked = raw.subscribe(1, ("#", 1))
    book = dashboard(grant=hall) >> DeviceBytes(asked) << SendToBus(asked)
    book = book >> BusBytes(suback(1, 1)) << SendToDevice(suback(1, 1))
    held, heard = raw.publish("rooms/attic/temp", b"1"), raw.publish("rooms/hall/temp", b"1")
    book = book >> BusBytes(held) << refused("delivery", "rooms/attic/temp", "subscribe")
    assert book >> BusBytes(heard) << SendToDevice(heard)
    elsewhere = Grant("t", "t", 0, 0, NOW, {"subscribe": ("doors/#",)})
    book = dashboard(grant=elsewhere) >> DeviceBytes(asked)
    assert book << SendToDevice(suback(1, 0x80)) << refused("subscribe", "#", "subscribe")


def test_a_token_for_what_is_denied_gets_no_filter():
    shut = Grant("t", "t", 0, 0, NOW, {"subscribe": ("shut/a", "rooms/hall/#")})
    book = dashboard(grant=shut) >> DeviceBytes(raw.subscribe(1, ("shut/#", 1)))
    assert book << SendToDevice(suback(1, 0x80)) << refused("subscribe", "shut/#", "subscribe")


def test_the_word_taken_away_leaves_the_subscription_and_refuses_the_next():
    world = context(policy([WIDE]))
    asked, fine = raw.subscribe(1, ("#", 1)), raw.publish("rooms/hall/temp", b"1")
    book = established(world) >> DeviceBytes(asked) << SendToBus(asked)
    book = book >> BusBytes(suback(1, 1)) << SendToDevice(suback(1, 1))
    world.policy = policy([NARROW])
    book = book >> PolicyChanged(LAMP) >> BusBytes(fine) << SendToDevice(fine)
    book = book >> DeviceBytes(raw.subscribe(2, ("+/#", 1)))
    assert book << SendToDevice(suback(2, 0x80)) << refused("subscribe", "+/#", "subscribe")


def test_one_role_that_says_so_is_enough_and_an_included_one_too():
    silent = Role("lamp", "", RULES, includes=("board",))
    board = Role("board", "", (rule("boards/x", "publish"),), subscribe=OnWideSubscribe.FILTER)
    asked = raw.subscribe(1, ("#", 1))
    world = context(policy([silent, board]))
    assert established(world) >> DeviceBytes(asked) << SendToBus(asked)
    two = dataclasses.replace(LAMP, roles=("lamp", "board"))
    world = context(policy([NARROW, board]))
    assert established(world, device=two) >> DeviceBytes(asked) << SendToBus(asked)
