"""Sensitive topics (`private/#` here): sealed on the way to the bus, opened for whom it may be."""

from __future__ import annotations

import dataclasses
import json
from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import (
    BOTH,
    LAMP,
    NOW,
    READER,
    ROLES,
    Ends,
    Role,
    Sealed,
    context,
    established,
    policy,
    refused,
    rule,
    seal,
    told,
)

from gateway.connection.audit_vocabulary import Report
from gateway.connection.commands import SendToBus, SendToDevice
from gateway.connection.events import BusBytes, DeviceBytes, PolicyChanged, Tick
from gateway.keys.key_ring import USES_MAX, Key, KeyRing, KeyState, Nonces
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Policy

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
USER = b"\x26" + raw.text("k") + raw.text("v") + b"\x26" + raw.text("k") + raw.text("")
TOPIC = "private/pin"


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("payload", [b"", b"4711", bytes(range(256)), b'{"encrypted":true}'], ids=range(4))
@both
def test_any_payload_is_sealed(v5, qos, payload):
    packet_id = 5 if qos else 0
    assert (
        established(v5=v5)
        >> DeviceBytes(raw.publish(TOPIC, payload, qos=qos, packet_id=packet_id, v5=v5))
        << SendToBus(Sealed(TOPIC, payload, qos=qos, packet_id=packet_id, v5=v5))
    )


def test_flags_and_properties_stay_as_they_were():
    publish = {"qos": 1, "packet_id": 7, "retain": True, "dup": True, "v5": True, "props": b"\x01\x01" + USER}
    assert (
        established(v5=True)
        >> DeviceBytes(raw.publish(TOPIC, b"1", **publish))
        << SendToBus(Sealed(TOPIC, b"1", **publish))
    )


@both
def test_an_empty_retained_message_clears_the_topic_and_stays_empty(v5):
    clear = raw.publish(TOPIC, b"", retain=True, qos=1, packet_id=1, v5=v5)
    assert established(v5=v5) >> DeviceBytes(clear) << SendToBus(clear)
    assert established(v5=v5, device=READER) >> BusBytes(clear) << SendToDevice(clear)


@both
def test_sealed_and_plain_messages_keep_their_order(v5):
    def plain(text):
        return raw.publish("ok", text, v5=v5)

    def private(text):
        return raw.publish(TOPIC, text, v5=v5)

    class Order:
        def __eq__(self, other):
            parts = []
            while other:
                size = 2 + other[1] if other[1] < 128 else 3 + other[1] % 128 + 128 * other[2]
                parts.append(other[:size])
                other = other[size:]
            return [plain(b"1"), Sealed(TOPIC, b"2", v5=v5), plain(b"3"), Sealed(TOPIC, b"4", v5=v5)] == parts

        __hash__ = None

    chunk = plain(b"1") + private(b"2") + plain(b"3") + private(b"4")
    assert established(v5=v5) >> DeviceBytes(chunk) << SendToBus(Order())


def test_what_is_sealed_and_opened_is_counted():
    world = context()
    book = established(world, device=READER)
    for _ in range(3):
        book = book >> DeviceBytes(raw.publish(TOPIC, b"1")) << SendToBus(ANY)
    book = book >> BusBytes(raw.publish(TOPIC, seal(b"1", TOPIC))) << SendToDevice(ANY)
    assert book >> Tick()
    assert (world.counters.sealed, world.counters.opened) == (3, 1)


def test_no_two_messages_share_a_nonce():
    seen = set()

    class Keep:
        def __eq__(self, other):
            seen.add(json.loads(other[other.index(b"{") :])["data"][:16])
            return True

        __hash__ = None

    book = established()
    for _ in range(50):
        book = book >> DeviceBytes(raw.publish(TOPIC, b"same")) << SendToBus(Keep())
    assert book
    assert len(seen) == 50


def test_a_denied_sensitive_topic_is_denied_and_not_sealed():
    assert (
        established(v5=True)
        >> DeviceBytes(raw.publish("private/no/a", b"1", qos=1, packet_id=1, v5=True))
        << SendToDevice(told(0x40, 1, 0x87, "A rule denies this to the device."))
        << refused("publish", "private/no/a")
    )


def test_a_payload_is_judged_as_the_device_sent_it():
    world = context(policy([Role("lamp", "", (rule("private/#", *BOTH, max_payload=4),))]))
    assert (
        established(world)
        >> DeviceBytes(raw.publish(TOPIC, b"1234"))
        << SendToBus(Sealed(TOPIC, b"1234"))
        >> DeviceBytes(raw.publish(TOPIC, b"12345"))
        << refused("publish", TOPIC)
    )


@pytest.mark.parametrize("device", [LAMP, READER], ids=["hears", "opens"])
def test_the_receivers_payload_is_judged_as_it_was_before_sealing(device):
    # vault/# allows 16 bytes; the envelope of one is ten times as long.
    fits, over = (seal(b"x" * size, "vault/pin") for size in (16, 17))
    seen = fits if device is LAMP else b"x" * 16
    assert (
        established(device=device)
        >> BusBytes(raw.publish("vault/pin", fits))
        << SendToDevice(raw.publish("vault/pin", seen))
        >> BusBytes(raw.publish("vault/pin", over))
        << refused("delivery", "vault/pin", "subscribe")
    )


@both
def test_when_the_key_is_used_up_nothing_is_sent_in_plain(v5):
    world = context()
    world.ring = KeyRing([Key("k1", bytes(32), KeyState.ACTIVE, 0)], Nonces(bytes), {"k1": USES_MAX - 1})
    book = established(world, v5=v5) >> DeviceBytes(raw.publish(TOPIC, b"last", v5=v5)) << SendToBus(ANY)
    book = book >> DeviceBytes(raw.publish("ok", b"1", v5=v5) + raw.publish(TOPIC, b"more", v5=v5))
    assert book << SendToBus(raw.publish("ok", b"1", v5=v5)) << Ends(0x83 if v5 else None)


# Opening


@pytest.mark.parametrize("payload", [b"", b"4711", bytes(range(256))], ids=range(3))
@pytest.mark.parametrize("qos", [0, 1, 2])
@both
def test_a_reader_gets_the_plaintext(v5, qos, payload):
    publish = {"qos": qos, "packet_id": 9 if qos else 0, "retain": True, "v5": v5, "props": USER}
    assert (
        established(v5=v5, device=READER)
        >> BusBytes(raw.publish(TOPIC, seal(payload, TOPIC), **publish))
        << SendToDevice(raw.publish(TOPIC, payload, **publish))
    )


@both
def test_who_may_not_open_gets_the_sealed_message(v5):
    packet = raw.publish(TOPIC, seal(b"4711", TOPIC), v5=v5)
    assert established(v5=v5) >> BusBytes(packet) << SendToDevice(packet)


def members(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


SEALED = seal(b"4711", TOPIC)
HIDING = {
    "spaces": json.dumps(json.loads(SEALED), indent=9).encode(),
    "spaces behind it": SEALED + b" " * 4_096,
    "a member twice": b'{"sender":"read me",' + SEALED[1:],
    "a request id": members(json.loads(SEALED) | {"request_id": "read me"}),
    "another order": members(dict(reversed(json.loads(SEALED).items()))),
}


@pytest.mark.parametrize("written", HIDING.values(), ids=HIDING)
@pytest.mark.parametrize("qos", [0, 1, 2])
@both
def test_who_may_not_open_gets_nothing_that_nobody_sealed(v5, qos, written):
    world = context()
    publish = {"qos": qos, "packet_id": 9 if qos else 0, "retain": True, "v5": v5, "props": USER}
    assert (
        established(world, v5=v5)
        >> BusBytes(raw.publish(TOPIC, written, **publish))
        << SendToDevice(raw.publish(TOPIC, SEALED, **publish))
    )
    assert world.counters.opened == 0
    assert (
        established(world, v5=v5, device=READER)
        >> BusBytes(raw.publish(TOPIC, written, **publish))
        << SendToDevice(raw.publish(TOPIC, b"4711", **publish))
    )
    assert world.counters.opened == 1


def test_who_is_observed_gets_nothing_that_nobody_sealed_either():
    # vault/# allows 16 bytes: what is more passes by observation only, and sealed for the reader too.
    reader = dataclasses.replace(READER, observe_until=NOW // 1_000 + 60)
    fine = seal(b"x" * 17, "vault/pin")
    assert (
        established(device=reader)
        >> BusBytes(raw.publish("vault/pin", fine + b" "))
        << SendToDevice(raw.publish("vault/pin", fine))
        << Report("observe", "done", ANY, "subscribe", "vault/pin", ANY)
    )


@pytest.mark.parametrize("device", [LAMP, READER], ids=["hears", "opens"])
@pytest.mark.parametrize(("qos", "kind"), [(0, 0), (1, 0x40), (2, 0x50)])
@both
def test_an_empty_message_that_is_neither_sealed_nor_retained_is_delivered_to_nobody(v5, qos, kind, device):
    world = context()
    live = raw.publish(TOPIC, b"", qos=qos, packet_id=3 if qos else 0, v5=v5)
    book = established(world, v5=v5, device=device) >> BusBytes(live)
    assert book << SendToBus(raw.ack(kind, 3)) if qos else book
    # A live clear keeps its flag for whoever asked for Retain As Published.
    clear = raw.publish(TOPIC, b"", retain=True, v5=v5)
    assert book >> BusBytes(clear) << SendToDevice(clear) >> Tick()
    counters = world.counters
    assert (counters.empty_unsealed_dropped, counters.open_failed, counters.opened) == (1, 0, 0)


def test_an_empty_payload_that_was_sealed_is_delivered():
    sealed, plain = raw.publish(TOPIC, seal(b"", TOPIC)), raw.publish(TOPIC, b"")
    assert established(device=READER) >> BusBytes(sealed) << SendToDevice(plain)
    assert established() >> BusBytes(sealed) << SendToDevice(sealed)


def test_an_empty_message_on_any_other_topic_passes():
    packet = raw.publish("ok", b"")
    assert established() >> BusBytes(packet * 2) << SendToDevice(packet * 2)


def test_what_is_sealed_here_is_opened_here():
    world = context()
    sealed = []

    class Keep:
        def __eq__(self, other):
            sealed.append(other)
            return True

        __hash__ = None

    packet = raw.publish(TOPIC, b"4711")
    assert established(world) >> DeviceBytes(packet) << SendToBus(Keep())
    assert established(world, device=READER) >> BusBytes(sealed[0]) << SendToDevice(packet)


GOOD = json.loads(seal(b"4711", TOPIC))
BAD = {
    "plaintext": b"4711",
    "another topic": seal(b"4711", "private/other"),
    "another topic, renamed": json.dumps(
        json.loads(seal(b"4711", "private/other")) | {"topic": TOPIC}
    ).encode(),
    "another sender": json.dumps(GOOD | {"sender": "lamp-1"}).encode(),
    "another time": json.dumps(GOOD | {"timestamp": GOOD["timestamp"] + 1}).encode(),
    "a key that is not here": json.dumps(GOOD | {"key_id": "k9"}).encode(),
    "cut off": json.dumps(GOOD | {"data": GOOD["data"][:36]}).encode(),
    "a bit flipped": json.dumps(GOOD | {"data": "A" + GOOD["data"][1:]}).encode(),
    "no UTF-8 in it": seal(b"4711", TOPIC, sender="??").replace(b"??", b"\xff?"),
    "not encrypted": json.dumps(GOOD | {"encrypted": False}).encode(),
}


@pytest.mark.parametrize("device", [LAMP, READER], ids=["hears", "opens"])
@pytest.mark.parametrize("envelope", BAD.values(), ids=BAD)
@both
def test_what_does_not_open_is_delivered_to_nobody(v5, envelope, device):
    world = context()
    assert (
        established(world, v5=v5, device=device)
        >> BusBytes(raw.publish(TOPIC, envelope, qos=1, packet_id=3, v5=v5))
        << SendToBus(raw.ack(0x40, 3))
        << Report("open", "failed", ANY, "decrypt", TOPIC)
        >> Tick()
    )
    assert world.counters.open_failed == 1


def test_the_right_to_open_comes_and_goes_with_the_policy():
    sealed, plain = raw.publish(TOPIC, seal(b"4711", TOPIC)), raw.publish(TOPIC, b"4711")
    assert (
        established(device=LAMP)
        >> BusBytes(sealed)
        << SendToDevice(sealed)
        >> PolicyChanged(READER)
        >> BusBytes(sealed)
        << SendToDevice(plain)
        >> PolicyChanged(LAMP)
        >> BusBytes(sealed)
        << SendToDevice(sealed)
    )


def test_a_topic_that_becomes_sensitive_is_sealed_from_the_next_message_on():
    world = context()
    plain = raw.publish("ok", b"1", qos=1, packet_id=1)
    book = established(world) >> DeviceBytes(plain * 2) << SendToBus(plain * 2)
    world.policy = Policy(ROLES, sensitive=["ok"], limits=Limits(), reserved="gateway")
    assert (
        book >> PolicyChanged(LAMP) >> DeviceBytes(plain) << SendToBus(Sealed("ok", b"1", qos=1, packet_id=1))
    )
