"""A session opened with a token: what it may, when it ends, and how it is renewed by AUTH (MQTT 5, 4.12)."""

from __future__ import annotations

import dataclasses
from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import (
    LAMP,
    NOW,
    TURNED_AWAY,
    Ends,
    Playbook,
    connack,
    context,
    disconnect,
    established,
    policy,
    refused,
)

from gateway.connection.audit_vocabulary import Report
from gateway.connection.commands import (
    Authenticate,
    Close,
    Established,
    OpenBus,
    Reauthenticate,
    SendToBus,
    SendToDevice,
)
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import (
    AccessWithdrawn,
    Authenticated,
    BusBytes,
    DeviceBytes,
    PolicyChanged,
    Reauthenticated,
    ReauthenticationFailed,
    Tick,
)
from gateway.connection.transition_table import State
from gateway.policy.engine.identity import Grant

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
ALL = dict.fromkeys(("publish", "subscribe", "encrypt", "decrypt"), ("#",))
GRANT = Grant("t1", "t1", 0, NOW // 1000, NOW // 1000 + 60, ALL)
METHOD = b"\x15" + raw.text("gateway-jwt")
BYE = raw.packet(0xE0)
PING = raw.packet(0xC0)


def data(token):
    return b"\x16" + raw.text(token)


def auth(code=0x19, props=None):
    props = METHOD + data(b"new") if props is None else props
    return raw.packet(0xF0, bytes([code]) + raw.properties(props))


def farewell(text):
    return SendToDevice(raw.packet(0xE0, b"\x87" + raw.properties(b"\x1f" + raw.text(text))))


# CONNECT


def test_the_method_at_connect_is_answered_with_the_method():
    answer = raw.packet(0x20, b"\x00\x00" + raw.properties(b"\x21\x00\x14"))
    ours = raw.packet(0x20, b"\x00\x00" + raw.properties(b"\x21\x00\x14" + METHOD))
    book = Playbook(DeviceConnection(context()))
    packet = raw.connect("c", v5=True, props=METHOD + data(b"a.b.c") + b"\x11\x00\x00\x00\x09")
    # The bus gets neither.
    expected = raw.connect(
        "lamp-1/c", v5=True, username=b"gate", password=b"way", props=b"\x11\x00\x00\x00\x09"
    )
    assert (
        book
        >> DeviceBytes(packet)
        << Authenticate(None, None, b"a.b.c")
        >> Authenticated(LAMP, GRANT)
        << OpenBus(expected)
        >> BusBytes(answer)
        << SendToDevice(ours)
        << Established()
    )


def test_the_method_without_data_is_no_way_round_the_token():
    book = Playbook(DeviceConnection(context()))
    packet = raw.connect("c", v5=True, username="lamp-1", password="s", props=METHOD)
    assert book >> DeviceBytes(packet) << Authenticate(b"lamp-1", b"s", b"")


def test_with_an_assigned_client_id_too():
    book = Playbook(DeviceConnection(context()))
    assert (
        book
        >> DeviceBytes(raw.connect("", v5=True, props=METHOD + data(b"a.b.c")))
        << Authenticate(None, None, b"a.b.c")
        >> Authenticated(LAMP, GRANT)
        << OpenBus(ANY)
        >> BusBytes(connack(v5=True))
        << SendToDevice(connack(v5=True, props=b"\x12" + raw.text("auto-1") + METHOD))
        << Established()
    )


def test_data_without_a_method_are_refused():
    packet = raw.connect("c", v5=True, username="lamp-1", password="s", props=data(b"a.b.c"))
    book = Playbook(DeviceConnection(context())) >> DeviceBytes(packet)
    assert book << TURNED_AWAY << SendToDevice(connack(0x82, v5=True)) << Close(ANY)


@both
def test_policy_and_token_both_have_to_allow(v5):
    narrow = dataclasses.replace(GRANT, permissions={"publish": ("ok/a", "other"), "subscribe": ()})
    fine = raw.publish("ok/a", b"1", v5=v5)
    book = established(v5=v5, grant=narrow)
    assert (
        book
        >> DeviceBytes(fine)
        << SendToBus(fine)
        >> DeviceBytes(raw.publish("ok/b", b"1", v5=v5))
        << refused("publish", "ok/b")
        >> DeviceBytes(raw.publish("other", b"1", v5=v5))
        << refused("publish", "other")
        >> BusBytes(raw.publish("ok/a", b"1", v5=v5))
        << refused("delivery", "ok/a", "subscribe")
        # Other roles do not take the token away.
        >> PolicyChanged(LAMP)
        >> DeviceBytes(raw.publish("ok/b", b"1", v5=v5))
        << refused("publish", "ok/b")
    )


# The end


@both
def test_the_session_ends_when_the_token_does(v5):
    clock = [NOW]
    world = context()
    world.now = lambda: clock[0]
    book = established(world, v5=v5, grant=GRANT)
    clock[0] = GRANT.expires_at * 1000 - 1
    assert book >> Tick()
    clock[0] += 1
    # With a DISCONNECT for the bus: the will is not published.
    book >> Tick() << Report("session", "refused", "The token has expired.") << SendToBus(BYE)
    if v5:
        book << farewell("The token has expired.")
    assert book << Close("The token has expired.")


@both
def test_the_session_ends_when_the_certificate_does_whatever_changes_meanwhile(v5):
    ends, why = NOW // 1000 + 100, "The client certificate has ended."
    clock, world = [NOW], context()
    world.now = lambda: clock[0]
    book = established(world, v5=v5, certificate_ends=ends)
    book = book >> PolicyChanged(LAMP)
    clock[0] = ends * 1000 - 1
    assert book >> Tick()
    clock[0] += 1
    book >> Tick() << Report("session", "refused", why) << SendToBus(BYE)
    if v5:
        book << farewell(why)
    assert book << Close(why)


ENDS = {
    "The token has expired.": {"grant": GRANT},
    "The client certificate has ended.": {"certificate_ends": GRANT.expires_at},
}
either = pytest.mark.parametrize("why", ENDS)


def expiring(why):
    """A session whose credential expires with GRANT, and the clock by which it does."""
    clock, world = [NOW], context()
    world.now = lambda: clock[0]
    return established(world, **ENDS[why]), clock


@either
def test_after_a_goodbye_too_nothing_is_delivered_when_the_credential_has_expired(why):
    book, clock = expiring(why)
    book = book >> DeviceBytes(BYE) << SendToBus(BYE) >> Tick()
    clock[0] = GRANT.expires_at * 1000
    # Without another DISCONNECT: the bus has one.
    book = book >> Tick() << Report("session", "refused", why)
    assert book << Close(why)


@either
def test_what_the_bus_still_answers_is_not_waited_for_when_the_credential_has_expired(why):
    book, clock = expiring(why)
    waits = raw.publish("ok", b"1", qos=1, packet_id=1)
    book = book >> DeviceBytes(waits + raw.packet(0x00)) << SendToBus(waits) << SendToBus(PING) >> Tick()
    assert book.connection.state is State.DRAINING
    clock[0] = GRANT.expires_at * 1000
    book = book >> Tick() << Report("session", "refused", why) << SendToBus(BYE)
    assert book << Close(why)


def test_without_a_token_there_is_no_end():
    world = context()
    book = established(world)
    world.now = lambda: NOW * 10
    assert book >> Tick()


def test_a_revoked_token():
    why = "The token was revoked."
    assert (
        established(v5=True, grant=GRANT)
        >> AccessWithdrawn(why)
        << SendToBus(BYE)
        << farewell(why)
        << Close(why)
    )


# Renewal


def renewable(**more):
    """A session with the method, from CONNECT on."""
    book = Playbook(DeviceConnection(context()))
    assert (
        book
        >> DeviceBytes(raw.connect("c", v5=True, props=METHOD + data(b"a.b.c"), **more))
        << Authenticate(None, None, b"a.b.c")
        >> Authenticated(LAMP, GRANT)
        << OpenBus(ANY)
        >> BusBytes(connack(v5=True))
        << SendToDevice(connack(v5=True, props=METHOD))
        << Established()
    )
    return book


LATER = dataclasses.replace(GRANT, token_id="t2", expires_at=GRANT.expires_at + 60)


@pytest.mark.parametrize(
    "opened", [renewable, lambda: established(v5=True, grant=GRANT)], ids=["method", "password"]
)
def test_another_token_takes_its_place(opened):
    book = opened()
    fine = raw.publish("ok/a", b"1", v5=True)
    assert (
        book
        >> DeviceBytes(fine + auth() + fine)
        << SendToBus(fine + fine)
        << Reauthenticate(b"new")
        >> Reauthenticated(LAMP, LATER)
        << SendToDevice(auth(0, METHOD))
    )
    assert book.connection.identity is not None
    assert book.connection.identity.grant == LATER


def test_whose_a_connection_is_follows_what_it_is_told_and_no_token():
    book = renewable()
    other, rotated = dataclasses.replace(LAMP, roles=()), dataclasses.replace(LAMP, version=2)
    assert book.connection.device is LAMP
    assert book >> PolicyChanged(other)
    assert book.connection.device is other
    # It came before the registry has told of the other secret, and must not hide that there is one.
    assert book >> Reauthenticated(rotated, LATER) << SendToDevice(auth(0, METHOD))
    assert book.connection.device is other


def test_a_narrower_token_is_in_force_at_once():
    narrow = dataclasses.replace(LATER, permissions={"publish": ("ok/b",)})
    fine = raw.publish("ok/a", b"1", v5=True)
    assert (
        renewable()
        >> DeviceBytes(fine)
        << SendToBus(fine)
        >> Reauthenticated(LAMP, narrow)
        << SendToDevice(auth(0, METHOD))
        >> DeviceBytes(fine)
        << refused("publish", "ok/a")
    )


def test_a_token_that_takes_the_right_to_the_will():
    narrow = dataclasses.replace(LATER, permissions={"publish": ("ok/b",)})
    why = "The token does not allow the device to publish to this topic."
    assert (
        renewable(will=("ok/w", b"x", 0, False))
        >> Reauthenticated(LAMP, narrow)
        << SendToBus(BYE)
        << refused("will", "ok/w")
        << farewell(why)
        << Close(why)
    )


def test_a_token_that_is_not_good_ends_the_session():
    # [MQTT-4.12.1-2]
    why = "The token is not good."
    assert (
        renewable()
        >> DeviceBytes(auth())
        << Reauthenticate(b"new")
        >> ReauthenticationFailed(why)
        << SendToBus(BYE)
        << farewell(why)
        << Close(why)
    )


@pytest.mark.parametrize(
    "packet",
    [
        auth(0x18),
        auth(0x00),
        raw.packet(0xF0),
        auth(props=data(b"new")),
        auth(props=b"\x15" + raw.text("SCRAM") + data(b"new")),
        auth(props=METHOD + METHOD),
        auth(props=METHOD + b"\x11\x00\x00\x00\x09"),
        raw.packet(0xF0, b"\x19"),
        raw.packet(0xF0, b"\x19" + raw.properties(METHOD) + b"x"),
        raw.packet(0xF1, b"\x19" + raw.properties(METHOD)),
    ],
)
def test_what_is_no_re_authentication(packet):
    assert renewable() >> DeviceBytes(packet) << Ends()


def test_without_a_method_or_a_token_auth_is_a_fault():
    # [MQTT-4.12.0-7]
    assert established(v5=True) >> DeviceBytes(auth()) << Ends(0x82)
    assert established(grant=GRANT) >> DeviceBytes(auth()) << Ends()


def test_tokens_to_look_at_are_slowed_down():
    # At most one in a hundred of what a connection may do in a second.
    world = context(policy(messages_per_second=10_000))
    book = established(world, v5=True, grant=GRANT)
    asked = book.connection.receive(DeviceBytes(auth() * 50))
    assert 0 < sum(type(one) is Reauthenticate for one in asked) < 12
    assert disconnect(0x87) not in asked


# Narrowed tokens

NARROW = dataclasses.replace(GRANT, narrowed_digest="ab" * 16)
ANOTHER = dataclasses.replace(GRANT, narrowed_digest="cd" * 16)


@both
def test_a_narrow_token_opens_no_session_of_its_device(v5):
    """With the device's client id it would take its session over, and swallow what is queued there."""
    book = Playbook(DeviceConnection(context()))
    bus = raw.connect(f"lamp-1~{'ab' * 16}/c", v5=v5, clean=False, username=b"gate", password=b"way")
    answer = connack(v5=v5)
    assert (
        book
        >> DeviceBytes(raw.connect("c", v5=v5, clean=False, username="lamp-1", password="s"))
        << Authenticate(b"lamp-1", b"s")
        >> Authenticated(LAMP, NARROW)
        << OpenBus(bus)
        >> BusBytes(answer)
        << SendToDevice(answer)
        << Established()
    )
    # `{client}` is what the device sent.
    assert book.connection.identity is not None
    assert book.connection.identity.client_id == "c"


def test_a_client_id_that_leaves_no_room_for_its_namespace():
    room = 65_535 - len("lamp-1~/") - 32
    for length, fits in ((room, True), (room + 1, False)):
        connection = DeviceConnection(context())
        connection.receive(DeviceBytes(raw.connect("x" * length)))
        (first, *more) = connection.receive(Authenticated(LAMP, NARROW))
        assert isinstance(first, OpenBus) is fits
    assert more[0] == SendToDevice(connack(2))


@pytest.mark.parametrize(
    ("before", "after"),
    [(GRANT, NARROW), (NARROW, GRANT), (NARROW, ANOTHER)],
    ids=["narrowed", "widened", "narrowed otherwise"],
)
def test_auth_does_not_move_a_session_into_another_namespace(before, after):
    why = "The token was narrowed otherwise than that of the session."
    assert (
        established(v5=True, grant=before)
        >> DeviceBytes(auth())
        << Reauthenticate(b"new")
        >> Reauthenticated(LAMP, dataclasses.replace(after, token_id="t2"))
        << SendToBus(BYE)
        << Report("login", "refused", why)
        << farewell(why)
        << Close(why)
    )


def test_auth_renews_a_narrow_session_with_a_token_that_was_narrowed_alike():
    renewed = dataclasses.replace(NARROW, token_id="t2", permissions={})
    book = established(v5=True, grant=NARROW)
    assert (
        book
        >> DeviceBytes(auth())
        << Reauthenticate(b"new")
        >> Reauthenticated(LAMP, renewed)
        << SendToDevice(auth(0, METHOD))
    )
    assert book.connection.identity is not None
    assert book.connection.identity.grant == renewed
