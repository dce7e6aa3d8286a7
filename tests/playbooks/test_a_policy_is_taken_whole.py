"""A connection goes by one policy, all of it: by the old one until it is told, then by the new one."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import LAMP, READER, ROLES, Sealed, context, established, refused, seal, suback

from gateway.connection.commands import Call, Report, SendToBus, SendToDevice
from gateway.connection.events import BusBytes, DeviceBytes, PolicyChanged, Tick
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Policy
from gateway.policy.engine.service_names import Service


def before(**limits):
    return Policy(ROLES, sensitive=["private/#"], limits=Limits(**limits), reserved="gateway")


def now(**limits):
    """The same rights, and all else is different."""
    return Policy(ROLES, sensitive=["ok/#"], limits=Limits(**limits), reserved="house")


def replaced(device=LAMP, old=None, new=None):
    """A connection that was not told yet of the policy that is in force."""
    world = context(before(**old or {}))
    book = established(world, device=device)
    world.policy = now(**new or {})
    return book


def test_what_is_sealed():
    plain = raw.publish("ok/a", b"1")
    book = replaced() >> DeviceBytes(plain) << SendToBus(plain)
    book = book >> DeviceBytes(raw.publish("private/a", b"2")) << SendToBus(Sealed("private/a", b"2"))
    book = book >> PolicyChanged(LAMP)
    book = book >> DeviceBytes(plain) << SendToBus(Sealed("ok/a", b"1"))
    plain = raw.publish("private/a", b"2")
    assert book >> DeviceBytes(plain) << SendToBus(plain)


def test_what_is_opened():
    opened, plain = raw.publish("private/a", b"1"), raw.publish("ok/a", b"2")
    sealed = raw.publish("private/a", seal(b"1", "private/a"))
    book = replaced(READER) >> BusBytes(sealed) << SendToDevice(opened)
    book = book >> BusBytes(plain) << SendToDevice(plain)
    book = book >> PolicyChanged(READER) >> BusBytes(sealed) << SendToDevice(sealed)
    assert book >> BusBytes(plain) << Report("open", "failed", ANY, "decrypt", "ok/a")


def test_what_is_the_gateways_own():
    asked, old = raw.publish("house/validate", b"{}"), raw.publish("gateway/validate", b"{}")
    book = replaced() >> DeviceBytes(old) << Call(Service.VALIDATE, b"{}")
    book = book >> DeviceBytes(asked) << refused("publish", "house/validate")
    book = book >> PolicyChanged(LAMP) >> DeviceBytes(asked) << Call(Service.VALIDATE, b"{}")
    assert book >> DeviceBytes(old) << refused("publish", "gateway/validate")


def test_what_is_answered_without_the_bus():
    response = ("gateway/validate_response", 0)
    book = replaced() >> DeviceBytes(raw.subscribe(1, response)) << SendToDevice(suback(1, 0))
    gone = raw.unsubscribe(2, response[0])
    book = book >> DeviceBytes(gone) << SendToDevice(raw.packet(0xB0, b"\0\2"))
    assert book >> PolicyChanged(LAMP) >> DeviceBytes(gone) << SendToBus(gone)


def test_how_many_subscriptions():
    one, two = raw.subscribe(1, ("ok", 0)), raw.subscribe(2, ("ok/a", 0))
    book = replaced(old={"subscriptions": 1}) >> DeviceBytes(one) << SendToBus(one)
    book = book >> DeviceBytes(two) << SendToDevice(suback(2, 0x80)) << refused_quota("ok/a")
    assert book >> PolicyChanged(LAMP) >> DeviceBytes(two) << SendToBus(two)


def refused_quota(topic):
    return Report("subscribe", "refused", ANY, "subscribe", topic)


@pytest.mark.parametrize("kept", [True, False])
def test_how_many_retained_topics(kept):
    packet = raw.publish("ok/a", b"1", retain=True)
    old, new = ({}, {"retained_topics": 0}) if kept else ({"retained_topics": 0}, {})
    book = replaced(old=old, new=new) >> DeviceBytes(packet)
    refusal = Report("publish", "refused", ANY, "publish", "ok/a")
    assert book << (SendToBus(packet) if kept else refusal)


def test_how_much_in_a_second():
    packet = raw.publish("ok/a", b"1")
    book = replaced(new={"messages_per_second": 1}) >> DeviceBytes(packet * 3) << SendToBus(packet * 3)
    assert book >> Tick() >> DeviceBytes(packet * 3) << SendToBus(packet * 3)
