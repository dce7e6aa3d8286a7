"""What was decided is recorded once; an observed device may do what its rules refuse for its time."""

from __future__ import annotations

import dataclasses

import pytest
from harness import raw
from harness.playbook import (
    LAMP,
    NOW,
    READER,
    Playbook,
    Sealed,
    context,
    established,
    policy,
    react,
    refused,
    seal,
    suback,
)

from gateway.connection.audit_vocabulary import Report
from gateway.connection.commands import Authenticate, Close, OpenBus, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import Authenticated, BusBytes, DeviceBytes, PolicyChanged, Tick
from gateway.policy.engine.decision_recorder import RECORD_AGAIN_SECONDS
from gateway.policy.engine.identity import OBSERVE_MAX, Grant
from gateway.policy.engine.policy import Action
from gateway.policy.engine.usage_record import Passage

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
SECOND = 1_000
ALLOWED, OBSERVED, REFUSED = Passage
UNTIL = NOW // SECOND + 60
WATCHED = dataclasses.replace(LAMP, observe_until=UNTIL)
WATCHED_READER = dataclasses.replace(READER, observe_until=UNTIL)
NO_RULE = "Would be refused: No rule allows the device to publish to this topic."


def passed(topic, action="publish", reason=None, rule=None):
    """The report of what would have been refused."""

    class Any:
        def __eq__(self, other):
            return isinstance(other, str) and other.startswith("Would be refused: ")

        __hash__ = None

    return Report("observe", "done", reason or Any(), action, topic, "lamp.toml:1" if rule is None else rule)


def says(topic, payload=b"x", **publish):
    return DeviceBytes(raw.publish(topic, payload, **publish))


def world_with_a_clock():
    world = context()
    clock = [NOW]
    world.now = lambda: clock[0]
    return world, clock


def recorded(world):
    return {(one.action, one.template, one.passage): one.count for one in world.recorder.take(1_000, 0)}


# What is recorded


@both
def test_each_topic_is_recorded_once_a_connection_and_not_once_a_message(v5):
    world = context()
    book = established(world, v5=v5)
    chunk = raw.publish("ok/lamp-1", b"1", v5=v5) * 9
    assert book >> DeviceBytes(chunk) << SendToBus(chunk) >> DeviceBytes(chunk) << SendToBus(chunk)
    assert book >> says("other", v5=v5) << refused("publish", "other") >> says("other", v5=v5)
    assert recorded(world) == {
        (Action.PUBLISH, "ok/{device}", ALLOWED): 1,
        (Action.PUBLISH, "other", REFUSED): 1,
    }


def test_a_message_that_a_condition_refuses_is_recorded_too():
    world = context()
    assert (
        established(world)
        >> says("low/a", retain=True)
        << refused("publish", "low/a")
        >> says("low/a", retain=True)
    )
    assert recorded(world) == {(Action.PUBLISH, "low/a", ALLOWED): 1, (Action.PUBLISH, "low/a", REFUSED): 1}


@both
def test_subscriptions_and_deliveries_and_what_is_opened_are_recorded(v5):
    world = context()
    asked = raw.subscribe(1, ("$share/g/ok/#", 1), ("#", 0), ("private/+", 0), v5=v5)
    book = established(world, v5=v5, device=READER)
    book.connection.receive(DeviceBytes(asked))
    for topic, payload in (("ok/a", b""), ("ok/no/a", b""), ("private/x", seal(b"1", "private/x"))):
        book.connection.receive(BusBytes(raw.publish(topic, payload, v5=v5)))
    book.connection.receive(BusBytes(raw.publish("private/no/x", seal(b"1", "private/no/x"), v5=v5)))
    subscribe = Action.SUBSCRIBE
    assert recorded(world) == {
        (subscribe, "ok/#", ALLOWED): 1,
        (subscribe, "#", REFUSED): 1,
        (subscribe, "private/+", ALLOWED): 1,
        (subscribe, "ok/a", ALLOWED): 1,
        (subscribe, "ok/no/a", REFUSED): 1,
        (subscribe, "private/x", ALLOWED): 1,
        (subscribe, "private/no/x", REFUSED): 1,
        (Action.DECRYPT, "private/x", ALLOWED): 1,
    }


@pytest.mark.parametrize("device", [LAMP, WATCHED], ids=["not observed", "observed"])
def test_a_will_is_recorded_whatever_becomes_of_it(device):
    for topic, passage in (("ok/lamp-1", ALLOWED), ("other", REFUSED if device is LAMP else OBSERVED)):
        world = context()
        book = Playbook(DeviceConnection(world))
        book.connection.receive(DeviceBytes(raw.connect("c", will=(topic, b"x", 0, False))))
        book.connection.receive(Authenticated(device))
        assert recorded(world) == {(Action.PUBLISH, topic.replace("lamp-1", "{device}"), passage): 1}


def test_the_gateway_s_own_topics_are_not_recorded():
    world = context()
    book = established(world)
    book.connection.receive(says("gateway/auth", b"{}"))
    book.connection.receive(says("gateway/no", b"{}"))
    book.connection.receive(DeviceBytes(raw.subscribe(1, ("gateway/auth_response", 0), ("gateway/#", 0))))
    assert recorded(world) == {}


@both
def test_what_goes_on_for_long_is_recorded_again(v5):
    """A device that stays connected for weeks would else look as if it did nothing any more."""
    world = context()
    book = established(world, v5=v5, will=("ok/will", b"x", 0, False))
    message = raw.publish("ok/a", b"1", v5=v5)
    asked = raw.subscribe(1, ("ok/#", 0), ("ok/gone", 0), (f"ok/{'x' * 200}", 0), v5=v5)
    gone = raw.unsubscribe(2, "ok/gone", v5=v5)
    heard = raw.publish("ok/heard", b"1", v5=v5)
    for event in (DeviceBytes(message), DeviceBytes(asked), DeviceBytes(gone), BusBytes(heard)):
        book.connection.receive(event)
    assert len(recorded(world)) == 6
    for _ in range(RECORD_AGAIN_SECONDS - 1):
        book.connection.receive(Tick())
    for event in (DeviceBytes(message), BusBytes(heard)):
        book.connection.receive(event)
    assert recorded(world) == {}
    for _ in range(2):
        book.connection.receive(Tick())
    assert recorded(world) == {
        (Action.SUBSCRIBE, "ok/#", ALLOWED): 1,
        (Action.PUBLISH, "ok/will", ALLOWED): 1,
    }
    assert book >> DeviceBytes(message) << SendToBus(message) >> DeviceBytes(message) << SendToBus(message)
    assert book >> BusBytes(heard) << SendToDevice(heard)
    assert recorded(world) == {
        (Action.PUBLISH, "ok/a", ALLOWED): 1,
        (Action.SUBSCRIBE, "ok/heard", ALLOWED): 1,
    }


def test_many_filters_are_recorded_again_a_few_a_second():
    """Sixty connections that came together judged sixty thousand filters in one turn of the loop."""
    world = context(policy(messages_per_second=10_000_000))
    filters = [(f"ok/{number}", 0) for number in range(1_000)]
    links = [established(world, keep_alive=0).connection for _ in range(4)]
    for link in links:
        react(link, DeviceBytes(raw.subscribe(1, *filters)))

    def judged():
        return sum(world.counters.decisions.values())

    before, most = judged(), 0
    for _ in range(2 * RECORD_AGAIN_SECONDS - 1):
        at = judged()
        for link in links:
            link.receive(Tick())
        most = max(most, judged() - at)
    assert most <= 2 * len(links)
    assert judged() - before == len(filters) * len(links), "and each of them once"


# An observed device


@both
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_no_rule_allows_passes_and_is_told_and_recorded_once(v5, qos):
    world = context()
    packet = raw.publish("other", b"x", qos=qos, packet_id=1 if qos else 0, v5=v5)
    assert (
        established(world, v5=v5, device=WATCHED)
        >> DeviceBytes(packet)
        << SendToBus(packet)
        << passed("other", reason=NO_RULE, rule="")
        >> DeviceBytes(packet)
        << SendToBus(packet)
    )
    assert recorded(world) == {(Action.PUBLISH, "other", OBSERVED): 1}


@both
def test_what_passed_is_recorded_as_such_topics_filters_and_deliveries(v5):
    world = context()
    book = established(world, v5=v5, device=WATCHED_READER)
    book.connection.receive(DeviceBytes(raw.subscribe(1, ("$share/g/else/#", 1), ("ok/#", 0), v5=v5)))
    for topic in ("ok/no/a", "private/no/a", "ok/lamp-1"):
        book.connection.receive(says(topic, v5=v5))
    book.connection.receive(says("low/a", retain=True, v5=v5))
    for topic, payload in (("heard", b"1"), ("private/no/b", seal(b"1", "private/no/b"))):
        book.connection.receive(BusBytes(raw.publish(topic, payload, v5=v5)))
    publish, subscribe = Action.PUBLISH, Action.SUBSCRIBE
    assert recorded(world) == {
        (subscribe, "else/#", OBSERVED): 1,
        (subscribe, "ok/#", ALLOWED): 1,
        (publish, "ok/no/a", OBSERVED): 1,
        (publish, "private/no/a", OBSERVED): 1,
        (publish, "ok/{device}", ALLOWED): 1,
        (publish, "low/a", ALLOWED): 1,
        (publish, "low/a", OBSERVED): 1,
        (subscribe, "heard", OBSERVED): 1,
        (subscribe, "private/no/b", OBSERVED): 1,
    }


def test_what_stays_closed_to_an_observed_device_is_recorded_as_refused():
    world = context(policy(topic_levels=2))
    book = established(world, device=WATCHED)
    for topic in ("$CONTROL/dynamic-security/v1", "a/b/c", "gateway/no"):
        book.connection.receive(says(topic))
    book.connection.receive(DeviceBytes(raw.subscribe(1, ("$SYS/#", 0))))
    assert recorded(world) == {
        (Action.PUBLISH, "$CONTROL/dynamic-security/v1", REFUSED): 1,
        (Action.PUBLISH, "a/b/c", REFUSED): 1,
        (Action.SUBSCRIBE, "$SYS/#", REFUSED): 1,
    }


def test_a_verdict_that_outlives_the_time_is_recorded_anew_once():
    """What is remembered of a topic is the same, what becomes of a message is not."""
    world, clock = world_with_a_clock()
    book = established(world, device=WATCHED)
    clock[0] = UNTIL * SECOND - 1
    chunk, heard = says("other"), BusBytes(raw.publish("heard", b"1"))
    for event in (chunk, chunk, heard):
        book.connection.receive(event)
    assert recorded(world) == {
        (Action.PUBLISH, "other", OBSERVED): 1,
        (Action.SUBSCRIBE, "heard", OBSERVED): 1,
    }
    clock[0] += 1
    for event in (chunk, chunk, heard, heard):
        book.connection.receive(event)
    assert recorded(world) == {
        (Action.PUBLISH, "other", REFUSED): 1,
        (Action.SUBSCRIBE, "heard", REFUSED): 1,
    }


def test_who_is_observed_in_the_middle_of_a_connection_is_recorded_so_from_then_on():
    world = context()
    book = established(world)
    for device in (LAMP, WATCHED, LAMP):
        if device is not book.connection.device:
            book.connection.receive(PolicyChanged(device))
        for _ in range(2):
            book.connection.receive(says("other"))
    assert recorded(world) == {(Action.PUBLISH, "other", REFUSED): 2, (Action.PUBLISH, "other", OBSERVED): 1}


def test_a_filter_that_passed_is_recorded_again_as_what_it_is_by_then():
    world, clock = world_with_a_clock()
    far = dataclasses.replace(LAMP, observe_until=UNTIL + RECORD_AGAIN_SECONDS)
    book = established(world, device=far, keep_alive=0)
    book.connection.receive(DeviceBytes(raw.subscribe(1, ("other/#", 0))))
    for passage in (OBSERVED, OBSERVED, REFUSED):
        assert recorded(world) == {(Action.SUBSCRIBE, "other/#", passage): 1}
        for _ in range(RECORD_AGAIN_SECONDS + 1):
            clock[0] += SECOND
            book.connection.receive(Tick())


def test_a_deny_and_a_condition_pass_too():
    denied, retained = raw.publish("ok/no/a", b"1"), raw.publish("low/a", b"1", retain=True)
    assert (
        established(device=WATCHED)
        >> DeviceBytes(denied)
        << SendToBus(denied)
        << passed("ok/no/a")
        >> DeviceBytes(retained)
        << SendToBus(retained)
        << passed("low/a")
    )


@both
def test_what_is_sensitive_is_sealed_all_the_same(v5):
    assert (
        established(v5=v5, device=WATCHED)
        >> says("private/no/a", b"pin", v5=v5)
        << SendToBus(Sealed("private/no/a", b"pin", v5=v5))
        << passed("private/no/a")
    )


@pytest.mark.parametrize("topic", ["gateway/no", "gateway", "$SYS/x", "$CONTROL/dynamic-security/v1"])
def test_the_gateway_s_topics_and_the_bus_s_own_stay_closed(topic):
    assert established(device=WATCHED) >> says(topic) << refused("publish", topic)
    for asked in (topic, f"{topic}/#", f"$share/g/{topic}/#"):
        assert (
            established(device=WATCHED)
            >> DeviceBytes(raw.subscribe(1, (asked, 1)))
            << SendToDevice(suback(1, 0x80))
            << refused("subscribe", asked, "subscribe")
        )


def test_the_limits_hold():
    assert (
        established(context(policy(topic_levels=2)), device=WATCHED)
        >> says("a/b/c")
        << refused("publish", "a/b/c")
    )


def test_what_a_token_does_not_say_is_not_let_through():
    grant = Grant("t", "t", 0, 0, UNTIL + 60, {"publish": ("other",)})
    other = raw.publish("other", b"1")
    assert (
        established(device=WATCHED, grant=grant)
        >> says("more")
        << refused("publish", "more")
        >> DeviceBytes(other)
        << SendToBus(other)
        << passed("other", rule="")
    )


@both
def test_a_will_is_for_later_so_the_device_connects_without_it_and_a_learned_role_may_allow_it(v5):
    """Kind: a device that is to show what it needs is kept out by what it needs."""
    world = context()
    book = Playbook(DeviceConnection(world))
    book >> DeviceBytes(raw.connect("c", v5=v5, username="lamp-1", will=("other", b"x", 0, False)))
    assert book << Authenticate(b"lamp-1", None)
    without = raw.connect("lamp-1/c", v5=v5, username="gate", password="way")
    assert book >> Authenticated(WATCHED) << refused("will", "other") << OpenBus(without)
    assert recorded(world) == {(Action.PUBLISH, "other", OBSERVED): 1}


@both
@pytest.mark.parametrize("topic", ["$SYS/x", "gateway/auth"])
def test_a_will_that_no_observing_lets_through_is_refused_as_ever(v5, topic):
    book = Playbook(DeviceConnection(context()))
    refusal = raw.packet(0x20, b"\0\x87\0" if v5 else b"\0\x05")
    book >> DeviceBytes(raw.connect("c", v5=v5, username="lamp-1", will=(topic, b"x", 0, False)))
    assert book << Authenticate(b"lamp-1", None)
    why = "No rule allows the device to publish to this topic."
    reason = why if topic == "$SYS/x" else "This topic belongs to the gateway itself."
    assert book >> Authenticated(WATCHED) << refused("will", topic) << SendToDevice(refusal) << Close(reason)


@both
def test_a_filter_passes_with_the_qos_it_asks_for(v5):
    asked = raw.subscribe(1, ("other/#", 2), ("ok", 1), ("$share/g/else", 1), v5=v5)
    assert (
        established(v5=v5, device=WATCHED)
        >> DeviceBytes(asked)
        << SendToBus(asked)
        << passed("other/#", "subscribe", rule="")
        << passed("$share/g/else", "subscribe", rule="")
    )


def test_deliveries_pass_and_those_of_the_services_do_not():
    heard, denied = raw.publish("other", b"1"), raw.publish("ok/no/a", b"1")
    assert (
        established(device=WATCHED)
        >> BusBytes(heard)
        << SendToDevice(heard)
        << passed("other", "subscribe", rule="")
        >> BusBytes(denied)
        << SendToDevice(denied)
        << passed("ok/no/a", "subscribe")
        >> BusBytes(raw.publish("gateway/reply/lamp-1/x", b"1"))
        << refused("delivery", "gateway/reply/lamp-1/x", "subscribe")
    )


@pytest.mark.parametrize("topic", ["private/no/a", "vault/a"])
def test_nobody_gets_a_plaintext_by_being_observed(topic):
    """Though it may decrypt: it may not receive it, or not this message of it."""
    heard = raw.publish(topic, seal(b"a secret of some length", topic), retain=True)
    assert (
        established(device=WATCHED_READER)
        >> BusBytes(heard)
        << SendToDevice(heard)
        << passed(topic, "subscribe")
    )


def test_when_the_time_is_over_nothing_more_passes_and_no_event_is_needed():
    world, clock = world_with_a_clock()
    other, heard = raw.publish("other", b"1"), raw.publish("heard", b"1")
    book = established(world, device=WATCHED)
    clock[0] = UNTIL * SECOND - 1
    assert book >> DeviceBytes(other) << SendToBus(other) << passed("other", rule="")
    assert book >> BusBytes(heard) << SendToDevice(heard) << passed("heard", "subscribe", rule="")
    clock[0] += 1
    assert book >> DeviceBytes(other) << refused("publish", "other") >> DeviceBytes(other)
    assert book >> BusBytes(heard) << refused("delivery", "heard", "subscribe")
    assert (
        book
        >> DeviceBytes(raw.subscribe(1, ("other", 1)))
        << SendToDevice(suback(1, 0x80))
        << refused("subscribe", "other", "subscribe")
    )


def test_a_live_connection_follows():
    other = raw.publish("other", b"1")
    assert (
        established()
        >> DeviceBytes(other)
        << refused("publish", "other")
        >> PolicyChanged(WATCHED)
        >> DeviceBytes(other)
        << SendToBus(other)
        << passed("other", rule="")
        >> PolicyChanged(LAMP)
        >> DeviceBytes(other)
        << refused("publish", "other")
    )


def test_an_end_further_away_than_any_may_be_is_not_believed():
    """A clock that ran ahead while somebody asked for a minute would take the rules away for years."""
    far = dataclasses.replace(WATCHED, observe_until=NOW // SECOND + OBSERVE_MAX + 60)
    assert established(device=far) >> says("more") << refused("publish", "more")
