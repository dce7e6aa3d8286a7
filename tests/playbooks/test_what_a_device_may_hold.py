"""What a device may hold on the bus: refused at the bound, in words of its version, and free again after."""

from __future__ import annotations

import dataclasses
from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import (
    LAMP,
    Ends,
    Playbook,
    Sealed,
    connack,
    context,
    established,
    policy,
    suback,
    told,
)

from gateway.connection.audit_vocabulary import Report
from gateway.connection.bus_holdings import Kind
from gateway.connection.commands import Authenticate, Close, Established, OpenBus, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import (
    Authenticated,
    BusBytes,
    BusLost,
    BusUnavailable,
    DeviceBytes,
    DeviceLost,
    PolicyChanged,
    Reauthenticated,
)
from gateway.connection.process_context import OnDeny
from gateway.connection.transition_table import State
from gateway.policy.engine.identity import Grant

RETAINED = "The device has retained messages on as many topics as it may."
SESSION = "The device has as many sessions on the bus as it may."
both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


def world(**limits):
    return context(policy(**limits))


def full(kind, topic, action="publish"):
    return Report(kind, "refused", RETAINED, action, topic)


def stays(v5, seconds=0xFFFF_FFFF):
    """The words of a CONNECT whose session outlives its connection."""
    return {"clean": v5, "props": b"\x11" + seconds.to_bytes(4, "big") if v5 else b""}


def passes(book, topic, payload=b"x", **publish):
    packet = raw.publish(topic, payload, **publish)
    return book >> DeviceBytes(packet) << SendToBus(packet)


def kept(topic, payload=b"x", **publish):
    return DeviceBytes(raw.publish(topic, payload, retain=True, **publish))


def opening(on, client="c", *, v5=False, **connect):
    """A CONNECT came, and the device is who it says."""
    return (
        Playbook(DeviceConnection(on))
        >> DeviceBytes(raw.connect(client, v5=v5, username="lamp-1", password="s", **connect))
        << Authenticate(ANY, ANY)
        >> Authenticated(LAMP)
    )


def lasting(on, client="c", *, v5=False, present=False, **connect):
    """A session that stays, which the bus took."""
    answer = connack(v5=v5, session_present=present)
    return (
        opening(on, client, v5=v5, **(stays(v5) | connect))
        << OpenBus(ANY)
        >> BusBytes(answer)
        << SendToDevice(answer)
        << Established()
    )


def test_whose_a_connection_is_follows_what_it_is_told_while_the_bus_is_opened():
    """The registry tells it once more what it knows: an older device would bring back what was taken."""
    book = opening(world()) << OpenBus(ANY)
    changed = dataclasses.replace(LAMP, observe_until=0, labels={"floor": ("2",)})
    assert book >> PolicyChanged(changed)
    assert book.connection.device is changed


# Retained messages


def test_the_first_topic_above_the_bound_is_refused_in_v5():
    on = world(retained_topics=1)
    book = passes(established(on, v5=True), "ok/a", retain=True, v5=True)
    assert (
        book
        >> kept("ok/b", qos=1, packet_id=7, v5=True)
        << SendToDevice(told(0x40, 7, 0x97, RETAINED))
        << full("publish", "ok/b")
        >> kept("ok/c", qos=2, packet_id=8, v5=True)
        << SendToDevice(told(0x50, 8, 0x97, RETAINED))
        << full("publish", "ok/c")
        >> kept("ok/b", v5=True)
    ), "QoS 0 has no answer, and a topic is told once"
    assert on.counters.holdings_refused[Kind.RETAINED] == 3
    assert passes(book, "ok/b", v5=True), "what is not retained has no bound"
    assert passes(book, "ok/a", b"again", retain=True, v5=True)


@pytest.mark.parametrize("qos", [1, 2])
def test_311_is_answered_as_a_denied_publish_is(qos):
    ack = raw.ack(0x40 if qos == 1 else 0x50, 7)
    drop = established(world(retained_topics=1))
    assert (
        passes(drop, "ok/a", retain=True)
        >> kept("ok/b", qos=qos, packet_id=7)
        << SendToDevice(ack)
        << full("publish", "ok/b")
    )
    end = established(context(policy(retained_topics=1), on_deny=OnDeny.DISCONNECT))
    assert (
        passes(end, "ok/a", retain=True)
        >> kept("ok/b", qos=qos, packet_id=7)
        << full("publish", "ok/b")
        << Close(RETAINED)
    )


@both
def test_an_empty_one_clears_and_makes_room(v5):
    book = established(world(retained_topics=1), v5=v5)
    for topic in ("ok/a", "ok/b", "ok/c"):
        book = passes(book, topic, retain=True, v5=v5)
        book = passes(book, topic, b"", retain=True, v5=v5)
    assert book


@both
@pytest.mark.parametrize("qos", [0, 1])
def test_a_topic_known_for_other_messages_is_not_known_for_retained_ones(v5, qos):
    # A look at the topic is enough for the second message on it, but not if only that one is retained.
    book = established(world(retained_topics=1), v5=v5)
    for topic in ("ok/a", "ok/b"):
        book = passes(book, topic, b"long enough", v5=v5)
    book = passes(book, "ok/a", b"long enough", retain=True, qos=qos, packet_id=1, v5=v5)
    chunk = raw.publish("ok/b", b"long enough", retain=True, qos=qos, packet_id=2, v5=v5)
    answer = SendToDevice(told(0x40, 2, 0x97, RETAINED) if v5 else raw.ack(0x40, 2))
    if not qos:
        assert book >> DeviceBytes(chunk) << full("publish", "ok/b")
        return
    book = book >> DeviceBytes(chunk)
    # Its place is behind the message before it, which the bus has not acknowledged.
    assert (
        book
        << full("publish", "ok/b")
        >> BusBytes(raw.ack(0x40, 1))
        << SendToDevice(raw.ack(0x40, 1) + answer.data)
    )


@both
def test_what_another_connection_cleared_counts_anew(v5):
    # Else as many topics again as a connection remembers would stand on the bus for each connection.
    on = world(retained_topics=1)
    one, other = established(on, v5=v5), established(on, v5=v5)
    one = passes(passes(one, "ok/a", retain=True, v5=v5), "ok/a", retain=True, v5=v5)
    other = passes(other, "ok/a", b"", retain=True, v5=v5)
    other = passes(other, "ok/b", retain=True, v5=v5)
    assert one >> kept("ok/a", v5=v5) << full("publish", "ok/a")


@both
def test_what_clears_a_topic_is_looked_at_each_time(v5):
    book = established(world(retained_topics=1), v5=v5)
    for packet_id in (1, 2, 3):
        # QoS 2 is not remembered: what was remembered before it is the empty one.
        book = passes(book, "ok/a", retain=True, qos=2, packet_id=packet_id, v5=v5)
        book = passes(book, "ok/a", b"", retain=True, v5=v5)
    assert passes(book, "ok/b", retain=True, v5=v5)


@both
def test_a_connection_that_ended_is_told_of_nothing(v5):
    on = world()
    book = passes(established(on, v5=v5), "ok/a", retain=True, v5=v5)
    assert len(on.holdings.find("lamp-1").publishers) == 1
    assert book >> DeviceLost() << Close(ANY)
    assert not on.holdings.find("lamp-1").publishers


def test_an_empty_one_of_qos_2_takes_away_what_was_remembered():
    book = passes(established(world(retained_topics=1)), "ok/a", retain=True)
    book = passes(book, "ok/a", b"", retain=True, qos=2, packet_id=1)
    book = passes(book, "ok/b", retain=True)
    assert book >> kept("ok/a") << full("publish", "ok/a")


def test_a_run_of_retained_messages_is_judged_one_by_one():
    topics = [raw.publish(f"ok/{number}", b"long enough", retain=True) for number in range(6)]
    plain = [raw.publish(f"ok/{number}", b"long enough") for number in range(6)]
    book = established(world(retained_topics=2))
    chunk = b"".join(plain + topics + topics)
    assert (
        book
        >> DeviceBytes(chunk)
        << SendToBus(b"".join(plain + topics[:2] + topics[:2]))
        << full("publish", "ok/2")
        << full("publish", "ok/3")
        << full("publish", "ok/4")
        << full("publish", "ok/5")
    )


def test_a_topic_by_its_alias_is_the_same_topic():
    book = established(world(retained_topics=1), v5=True, connack_props=b"\x22\0\x05")
    alias = b"\x23\0\x01"
    book = passes(book, "ok/a", retain=True, v5=True, props=alias)
    book = passes(book, "", retain=True, v5=True, props=alias)
    assert (
        book
        >> kept("ok/b", qos=1, packet_id=1, v5=True, props=b"\x23\0\x02")
        << SendToDevice(told(0x40, 1, 0x97, RETAINED))
        << full("publish", "ok/b")
    )


@both
def test_sealed_ones_count_too(v5):
    book = established(world(retained_topics=1), v5=v5)
    for _ in range(3):
        book = (
            book
            >> kept("private/a", b"secret", v5=v5)
            << SendToBus(Sealed("private/a", b"secret", retain=True, v5=v5))
        )
    assert book >> kept("private/b", b"secret", v5=v5) << full("publish", "private/b")
    book = passes(book, "private/a", b"", retain=True, v5=v5)
    assert (
        book
        >> kept("private/b", b"secret", v5=v5)
        << SendToBus(Sealed("private/b", b"secret", retain=True, v5=v5))
    )


def test_a_denied_one_takes_no_place():
    book = established(world(retained_topics=1))
    assert book >> kept("other") << Report("publish", "refused", ANY, "publish", "other", ANY)
    assert passes(book, "ok/a", retain=True)


def test_other_rules_do_not_change_what_counts():
    on = world(retained_topics=1)
    book = passes(established(on), "ok/a", retain=True)
    on.policy = policy(retained_topics=1)
    book = passes(book >> PolicyChanged(LAMP), "ok/a", b"y", retain=True)
    on.policy = policy(retained_topics=2)
    book = passes(book >> PolicyChanged(LAMP), "ok/b", retain=True)
    on.policy = policy(retained_topics=1)
    assert passes(book >> PolicyChanged(LAMP), "ok/b", b"y", retain=True), "a lower limit takes nothing away"


# Wills


@both
def test_a_retained_will_counts_from_its_connect_on(v5):
    on, code = world(retained_topics=1), 0x97 if v5 else 3
    assert established(on, v5=v5, will=("ok/a", b"bye", 0, True))
    assert established(on, v5=v5, will=("ok/a", b"bye", 0, True))
    assert established(on, v5=v5, will=("ok/b", b"bye", 0, False))
    assert established(on, v5=v5, will=("ok/b", b"", 0, True)), "an empty one fills nothing"
    assert (
        opening(on, v5=v5, will=("ok/b", b"bye", 0, True))
        << Report("will", "refused", RETAINED, "publish", "ok/b")
        << SendToDevice(connack(code, v5=v5))
        << Close(RETAINED)
    )
    book = passes(established(on, v5=v5), "ok/a", b"", retain=True, v5=v5)
    assert book
    assert established(on, v5=v5, will=("ok/b", b"bye", 0, True))


def test_a_refused_will_leaves_no_session_behind():
    on = world(retained_topics=1, sessions=1)
    assert established(on, will=("ok/a", b"bye", 0, True))
    book = opening(on, v5=True, will=("ok/b", b"bye", 0, True), **stays(True))
    assert book << Report("will", "refused", RETAINED, "publish", "ok/b") << SendToDevice(ANY) << Close(ANY)
    assert lasting(on, "another")


# Sessions


@both
def test_the_first_session_above_the_bound_is_refused(v5):
    on, code = world(sessions=2), 0x97 if v5 else 3
    assert lasting(on, "a", v5=v5) >> DeviceLost() << Close(ANY)
    assert lasting(on, "b", v5=v5)
    assert (
        opening(on, "c", v5=v5, **stays(v5))
        << Report("session", "refused", SESSION)
        << SendToDevice(connack(code, v5=v5))
        << Close(SESSION)
    )
    assert on.counters.holdings_refused[Kind.SESSION] == 1
    assert established(on, v5=v5), "one that goes with its connection needs no place"
    assert lasting(on, "a", v5=v5, present=True)


@both
def test_a_clean_connect_frees_the_place(v5):
    on = world(sessions=1)
    assert lasting(on, "a", v5=v5) >> DeviceLost() << Close(ANY)
    answer = connack(v5=v5)
    book = (
        opening(on, "a", v5=v5) << OpenBus(ANY) >> BusBytes(answer) << SendToDevice(answer) << Established()
    )
    assert book >> DeviceLost() << Close(ANY)
    assert lasting(on, "b", v5=v5)


@pytest.mark.parametrize(
    ("goodbye", "frees"),
    [
        (b"", False),
        (b"\0", False),
        (b"\0\x05\x11\0\0\0\0", True),
        (b"\x04\x05\x11\0\0\0\0", True),
        (b"\0\x05\x11\0\0\0\x09", False),
        # What the bus may read differently leaves it counted.
        (b"\0\x0a\x11\0\0\0\0\x11\0\0\0\x09", False),
        (b"\0\x08\x21\0\x01\x11\0\0\0\0", False),
        (b"\0\x05\x11\0\0\0\0x", False),
        (b"\0\x09\x11\0\0\0\0", False),
    ],
)
def test_a_goodbye_says_anew_whether_the_session_stays(goodbye, frees):
    on, packet = world(sessions=1), raw.packet(0xE0, goodbye)
    book = lasting(on, "a", v5=True) >> DeviceBytes(packet) << SendToBus(packet)
    assert book.connection.state is State.GOODBYE
    assert book >> BusLost() << Close(ANY)
    again = opening(on, "b", v5=True, **stays(True))
    if frees:
        assert again << OpenBus(ANY)
    else:
        assert again << Report("session", "refused", SESSION) << SendToDevice(ANY) << Close(SESSION)


def test_what_was_to_go_can_not_be_made_to_stay():
    # MQTT 5, 3.14.2.2.2: a protocol error.
    packet = raw.packet(0xE0, b"\0\x05\x11\0\0\0\x09")
    assert established(v5=True) >> DeviceBytes(packet) << Ends(0x82)


@both
def test_a_connect_that_never_came_to_the_bus_leaves_no_session(v5):
    on = world(sessions=1)
    book = opening(on, "a", v5=v5, **stays(v5)) << OpenBus(ANY) >> BusUnavailable()
    assert book << SendToDevice(ANY) << Close(ANY)
    refusal = connack(0x88 if v5 else 3, v5=v5)
    book = opening(on, "b", v5=v5, **stays(v5)) << OpenBus(ANY) >> BusBytes(refusal)
    assert book << SendToDevice(refusal) << Close(ANY)
    book = opening(on, "c", v5=v5, **stays(v5)) << OpenBus(ANY) >> BusUnavailable(connect_sent=True)
    assert book << SendToDevice(ANY) << Close(ANY)
    book = opening(on, "d", v5=v5, **stays(v5))
    assert book << Report("session", "refused", SESSION) << SendToDevice(ANY) << Close(SESSION)


# Filters over reconnects of one session


@both
def test_filters_count_over_reconnects(v5):
    on, code = world(subscriptions=2), 0x97 if v5 else 0x80
    asked = raw.subscribe(1, ("ok/a", 0), ("ok/b", 0), v5=v5)
    book = lasting(on, v5=v5) >> DeviceBytes(asked) << SendToBus(asked)
    assert book >> BusBytes(suback(1, 0, 0, v5=v5)) << SendToDevice(suback(1, 0, 0, v5=v5))
    assert book >> DeviceLost() << Close(ANY)
    book = lasting(on, v5=v5, present=True)
    report = Report("subscribe", "refused", ANY, "subscribe", "ok/c")
    asked = raw.subscribe(1, ("ok/c", 0), v5=v5)
    assert book >> DeviceBytes(asked) << SendToDevice(suback(1, code, v5=v5)) << report
    again = raw.subscribe(2, ("ok/b", 1), v5=v5)
    gone = raw.unsubscribe(3, "ok/a", v5=v5)
    asked = raw.subscribe(4, ("ok/c", 0), v5=v5)
    assert book >> DeviceBytes(again + gone + asked) << SendToBus(again + gone + asked)
    assert on.counters.holdings_refused[Kind.SUBSCRIPTION] == 1


@both
def test_filters_count_from_zero_when_the_bus_has_no_session(v5):
    on, asked = world(subscriptions=1), raw.subscribe(1, ("ok/a", 0), v5=v5)
    book = lasting(on, v5=v5) >> DeviceBytes(asked) << SendToBus(asked)
    assert book >> BusLost() << Close(ANY)
    asked = raw.subscribe(1, ("ok/b", 0), v5=v5)
    assert lasting(on, v5=v5, present=False) >> DeviceBytes(asked) << SendToBus(asked)


def test_those_for_the_gateway_itself_do_not_outlive_the_connection():
    on, own = world(subscriptions=1), raw.subscribe(1, ("gateway/encrypt_response", 0))
    for _ in range(3):
        assert lasting(on, present=True) >> DeviceBytes(own) << SendToDevice(suback(1, 0))
    asked = raw.subscribe(1, ("ok/a", 0))
    assert lasting(on, present=True) >> DeviceBytes(asked) << SendToBus(asked)


def test_another_token_does_not_change_what_counts():
    on = world(retained_topics=1)
    grant = Grant("t", "t", 0, 0, 2**40, {"publish": ("#",)})
    book = passes(established(on, v5=True, grant=grant), "ok/a", retain=True, v5=True)
    assert book >> Reauthenticated(LAMP, grant) << SendToDevice(ANY)
    assert book >> kept("ok/b", v5=True) << full("publish", "ok/b")
