"""The will of a CONNECT: judged and sealed like a PUBLISH, before anybody else sees it."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import (
    LAMP,
    ROLES,
    TURNED_AWAY,
    Playbook,
    connack,
    context,
    established,
    open_payload,
    policy,
    refused,
    seal,
)

from gateway.connection.commands import Authenticate, Close, OpenBus, SendToBus, SendToDevice
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import Authenticated, BusBytes, DeviceBytes, PolicyChanged
from gateway.keys.key_ring import USES_MAX, Key, KeyRing, KeyState, Nonces
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Policy, Role
from gateway.policy.engine.rules import OnDeniedWill

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])


def asked(packet, world=None):
    """A CONNECT came and the connection asks whose it is."""
    return Playbook(DeviceConnection(world or context())) >> DeviceBytes(packet) << Authenticate(ANY, ANY)


@both
def test_a_will_that_is_allowed_passes_untouched(v5):
    will = ("ok/gone", b"bye", 2, True)
    props = b"\x18\0\0\0\x05" + b"\x26" + raw.text("k") + raw.text("v")
    assert (
        asked(raw.connect("c", v5=v5, will=will, will_props=props))
        >> Authenticated(LAMP)
        << OpenBus(
            raw.connect("lamp-1/c", v5=v5, username="gate", password="way", will=will, will_props=props)
        )
    )


@pytest.mark.parametrize(
    "will",
    [
        ("other", b"bye", 0, False),
        ("ok/no/gone", b"bye", 0, False),
        ("private/no/gone", b"bye", 0, False),
        ("low/gone", b"bye", 2, False),
        ("low/gone", b"bye", 0, True),
        ("low/gone", b"x" * 17, 0, False),
        ("gateway/auth", b"{}", 0, False),
    ],
)
@both
def test_a_will_that_may_not_be_published_refuses_the_connect(v5, will):
    assert (
        asked(raw.connect("c", v5=v5, will=will))
        >> Authenticated(LAMP)
        << refused("will", will[0])
        << SendToDevice(connack(0x87 if v5 else 5, v5=v5))
        << Close(ANY)
    )


class Will:
    """Equals a CONNECT for the bus whose will is sealed."""

    def __init__(self, v5, topic, payload):
        self.v5, self.topic, self.payload = v5, topic, payload

    def __eq__(self, other):
        start, end = other.index(b'{"encrypted"'), other.index(b"}") + 1
        envelope = other[start:end]
        assert open_payload(envelope, self.topic) == (self.payload, "lamp-1")
        will = (self.topic, envelope, 1, False)
        return other == raw.connect("lamp-1/c", v5=self.v5, username="gate", password="way", will=will)

    __hash__ = None


@pytest.mark.parametrize("payload", [b"", b"bye", bytes(range(256))], ids=["empty", "text", "binary"])
@both
def test_a_will_on_a_sensitive_topic_is_sealed(v5, payload):
    assert (
        asked(raw.connect("c", v5=v5, will=("private/gone", payload, 1, False)))
        >> Authenticated(LAMP)
        << OpenBus(Will(v5, "private/gone", payload))
    )


def test_an_empty_retained_will_clears_the_topic_and_stays_empty():
    will = ("private/gone", b"", 0, True)
    assert (
        asked(raw.connect("c", will=will))
        >> Authenticated(LAMP)
        << OpenBus(raw.connect("lamp-1/c", username="gate", password="way", will=will))
    )


@both
def test_a_will_too_long_to_be_sealed_refuses_the_connect_and_says_so(v5):
    assert (
        asked(raw.connect("c", v5=v5, will=("private/gone", b"x" * 60_000, 0, False)))
        >> Authenticated(LAMP)
        << refused("will", "private/gone")
        << SendToDevice(connack(0x95 if v5 else 5, v5=v5))
        << Close(ANY)
    )


@both
def test_a_will_that_can_not_be_sealed_now_refuses_the_connect(v5):
    world = context()
    world.ring = KeyRing([Key("k1", bytes(32), KeyState.ACTIVE, 0)], Nonces(bytes), {"k1": USES_MAX})
    assert (
        asked(raw.connect("c", v5=v5, will=("private/gone", b"bye", 0, False)), world)
        >> Authenticated(LAMP)
        << refused("will", "private/gone")
        << SendToDevice(connack(0x88 if v5 else 3, v5=v5))
        << Close(ANY)
    )


@pytest.mark.parametrize("topic", ["ok/+", "ok/#", "a\0b", b"\xff"])
def test_a_will_without_a_valid_topic(topic):
    """Before anybody logs in, and without a word, as on Mosquitto: what stands behind it is not looked at."""
    packet = raw.connect("c", will=(topic, b"", 0, False))
    for sent in (packet, raw.packet(0x10, packet[2:-2] + b"\xff\xff")):
        assert Playbook(DeviceConnection(context())) >> DeviceBytes(sent) << TURNED_AWAY << Close(ANY)


def test_a_sealed_message_moved_into_a_will_is_sealed_once_more():
    envelope = seal(b"x", "private/gone")
    assert (
        asked(raw.connect("c", will=("private/gone", envelope, 1, False)))
        >> Authenticated(LAMP)
        << OpenBus(ANY)
    )


@both
def test_a_will_that_is_not_allowed_any_more_is_taken_back(v5):
    world = context()
    connection = established(world, v5=v5, will=("ok/gone", b"bye", 0, False)).connection
    world.policy = policy(roles=[Role("lamp", "", ())])
    commands = connection.receive(PolicyChanged(LAMP))
    assert commands[0] == SendToBus(raw.DISCONNECT)
    assert (commands[1].kind, commands[1].outcome, commands[1].topic) == ("will", "refused", "ok/gone")
    assert isinstance(commands[-1], Close)


@both
def test_a_will_whose_topic_becomes_sensitive_does_not_stay_on_the_bus_in_plain(v5):
    world = context()
    connection = established(world, v5=v5, will=("ok/gone", b"bye", 0, False)).connection
    sensitive = Policy(ROLES, sensitive=["ok/#"], limits=Limits(), reserved="gateway")
    world.policy = sensitive
    assert connection.receive(PolicyChanged(LAMP))[0] == SendToBus(raw.DISCONNECT)
    # One that was sealed all along stays.
    sealed = established(context(sensitive), v5=v5, will=("ok/gone", b"bye", 0, False)).connection
    assert sealed.receive(PolicyChanged(LAMP)) == []


DENIED = ("other", b"bye", 1, True)
WITHOUT = {"username": "gate", "password": "way"}


@both
def test_a_will_that_is_refused_can_be_dropped(v5):
    """As on Mosquitto: who brings a will that it may not publish comes in all the same, without it."""
    world = context(on_denied_will=OnDeniedWill.DROP)
    book = asked(raw.connect("c", v5=v5, will=DENIED), world) >> Authenticated(LAMP)
    report = refused("will", "other")
    assert book << report << OpenBus(raw.connect("lamp-1/c", v5=v5, **WITHOUT))
    assert "goes on without its will" in _reason(asked(raw.connect("c", v5=v5, will=DENIED), world))


def _reason(book):
    return book.connection.receive(Authenticated(LAMP))[0].reason


@pytest.mark.parametrize(
    ("said", "setting", "drops"),
    [
        ((None, None), OnDeniedWill.REFUSE, False),
        ((None, None), OnDeniedWill.DROP, True),
        ((None, OnDeniedWill.DROP), OnDeniedWill.REFUSE, True),
        ((OnDeniedWill.REFUSE, OnDeniedWill.DROP), OnDeniedWill.REFUSE, True),
        ((OnDeniedWill.REFUSE, None), OnDeniedWill.DROP, False),
    ],
)
def test_a_role_may_say_what_becomes_of_the_will(said, setting, drops):
    roles = [replace(ROLES[0], will=said[0]), replace(ROLES[1], will=said[1])]
    world = context(policy(roles), on_denied_will=setting)
    book = asked(raw.connect("c", will=DENIED), world)
    commands = book.connection.receive(Authenticated(replace(LAMP, roles=("lamp", "reader"))))
    assert isinstance(commands[-1], OpenBus if drops else Close)


def test_a_will_that_was_dropped_ends_no_session_later():
    world = context(on_denied_will=OnDeniedWill.DROP)
    book = asked(raw.connect("c", will=DENIED), world) >> Authenticated(LAMP) << ANY << ANY
    assert book >> BusBytes(connack()) << ANY << ANY >> PolicyChanged(LAMP)


@pytest.mark.parametrize("mode", OnDeniedWill)
def test_a_will_that_a_change_forbids_ends_the_session_cleanly_in_either_mode(mode):
    world = context(on_denied_will=mode)
    connection = established(world, will=("ok/gone", b"bye", 0, False)).connection
    world.policy = policy([])
    commands = connection.receive(PolicyChanged(LAMP))
    assert commands[0] == SendToBus(raw.DISCONNECT)
    assert isinstance(commands[-1], Close)


@both
@pytest.mark.parametrize("client_id", ["c", "another", ""])
@pytest.mark.parametrize("mode", OnDeniedWill)
def test_who_comes_back_with_a_will_that_a_change_took_back_goes_on_without_it(v5, client_id, mode):
    """In either mode, and as often as it comes: refused, it would be locked out for what others changed."""
    world = context(on_denied_will=mode)
    connection = established(world, v5=v5, will=("ok/gone", b"bye", 0, False)).connection
    world.policy = policy([replace(ROLES[0], rules=())])
    connection.receive(PolicyChanged(LAMP))
    for _ in range(2):
        book = asked(raw.connect(client_id, v5=v5, will=("ok/gone", b"bye", 1, True)), world)
        report, opening = book.connection.receive(Authenticated(LAMP))
        assert (report, isinstance(opening, OpenBus)) == (refused("will", "ok/gone"), True)
        assert "goes on without its will" in report.reason
        assert b"ok/gone" not in opening.connect


def test_what_comes_in_without_its_will_is_this_will_of_this_device_alone():
    world = context()
    connection = established(world, will=("ok/gone", b"bye", 0, False)).connection
    world.policy = policy([replace(ROLES[0], rules=())])
    connection.receive(PolicyChanged(LAMP))
    other = replace(LAMP, device_id="lamp-2")
    for device, topic in ((LAMP, "ok/else"), (other, "ok/gone")):
        book = asked(raw.connect("c", will=(topic, b"bye", 0, False)), world) >> Authenticated(device)
        assert book << refused("will", topic) << SendToDevice(connack(5)) << Close(ANY)


def test_a_will_that_a_change_forbids_while_the_bus_is_asked_is_not_asked_for_twice():
    """The CONNECT was on its way to the bus: it is refused once, and the next one goes on."""
    world = context()
    book = asked(raw.connect("c", will=("ok/gone", b"bye", 0, False)), world) >> Authenticated(LAMP) << ANY
    world.policy = policy([replace(ROLES[0], rules=())])
    book = book >> PolicyChanged(LAMP) << SendToBus(raw.DISCONNECT) << refused("will", "ok/gone")
    assert book << SendToDevice(connack(5)) << Close(ANY)
    again = asked(raw.connect("c", will=("ok/gone", b"bye", 0, False)), world) >> Authenticated(LAMP)
    assert again << refused("will", "ok/gone") << OpenBus(raw.connect("lamp-1/c", **WITHOUT))
