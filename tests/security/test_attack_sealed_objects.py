"""What somebody tries who holds sealed objects and may open others: to have them opened, or to forge one.

At the request handler itself, where every bit can be turned.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from harness.request_handler import NOW, Counter

from gateway.keys.key_ring import Key, KeyState
from gateway.keys.payload_envelope import Sealer

PIN = b"4711"
TOPIC = "corner/svc/pin"


@pytest.fixture
def counter() -> Counter:
    return Counter(service_requests_per_second=1_000_000)


@pytest.fixture
def envelope(counter: Counter) -> bytes:
    return Sealer(counter.context.ring, lambda: NOW, topic=TOPIC, sender="svc").seal(PIN)


def opened(counter: Counter, message: bytes, *, who: str = "svc") -> dict[str, object]:
    answer = counter.raw("decrypt", b'{"message":%s}' % message, who=who)
    assert PIN.decode() not in repr(answer.report)
    return json.loads(answer.payload)


def fields_of(envelope: bytes, **changed: object) -> bytes:
    return json.dumps(json.loads(envelope) | changed).encode()


# Opening what is not for them


def test_decrypt_without_the_right(counter, envelope):
    assert opened(counter, envelope)["message"] == 4711
    for who in ("other", "mute"):
        answer = opened(counter, envelope, who=who)
        assert (answer["success"], answer["error"]) == (False, "not_authorized")


def test_decrypt_with_a_token_that_does_not_grant_it(counter, envelope):
    svc = counter.devices.get("svc")
    for granted, error in (
        (["corner/svc/#"], None),
        (["corner/other/#"], "not_authorized"),
        ([], "not_authorized"),
    ):
        grant = counter.tokens.issue(svc, {"decrypt": granted, "encrypt": ["#"]}).grant
        answer = counter.raw("decrypt", b'{"message":%s}' % envelope, grant=grant)
        assert json.loads(answer.payload).get("error") == error


def test_an_envelope_is_moved_to_a_topic_that_the_caller_may_open(counter, envelope):
    moved = fields_of(envelope, topic="corner/other/pin")
    assert opened(counter, moved, who="other")["error"] == "decrypt_failed"


def test_a_sealed_object_with_a_name_twice_is_not_read_two_ways(counter, envelope):
    twice = [
        envelope.replace(b'"topic":"corner/svc/pin"', b'"topic":"corner/other/pin","topic":"corner/svc/pin"'),
        envelope.replace(b'"topic":"corner/svc/pin"', b'"topic":"corner/svc/pin","topic":"corner/other/pin"'),
        envelope[:-1] + b',"topic":"corner/svc/pin"}',
        envelope[:-1] + b',"v":1}',
    ]
    for one in twice:
        for who in ("svc", "other"):
            answer = opened(counter, one, who=who)
            assert (answer["error"], answer["message"]) == (
                "invalid_request",
                '"message" has a member twice: give it once.',
            )


@pytest.mark.parametrize("value", [b"1", b"true", b"null", b"[]", b'"x"', b'"\\""'], ids=repr)
def test_each_of_its_names_twice_is_found_whatever_the_other_value_is(counter, envelope, value):
    """The name spelt out or escaped; alone it is read."""
    assert opened(counter, envelope)["success"] is True
    names = [*json.loads(envelope), "rewrapped", "request_id"]
    for name in names:
        for spelt in (name, f"\\u{ord(name[0]):04x}{name[1:]}"):
            once = envelope if name in json.loads(envelope) else envelope[:-1] + b',"%s":1}' % name.encode()
            twice = b'{"%s":%s,%s' % (spelt.encode(), value, once[1:])
            assert opened(counter, twice)["error"] in {"invalid_request", "decrypt_failed"}, twice


def test_fields_are_moved_across_their_border(counter):
    """U+0000 joins what is bound: one that moves must not give the same bytes."""
    ring = counter.context.ring
    made = Sealer(ring, lambda: NOW, topic="corner/other/x", sender="svc").seal(PIN)
    for topic, sender in (
        ("corner/other/x\0svc", ""),
        ("corner/other/x\0", "svc"),
        ("corner/other", "/x\0svc"),
        ("corner/other/x", "\0svc"),
        ("corner/other/x", "svc\0"),
    ):
        answer = opened(counter, fields_of(made, topic=topic, sender=sender))
        assert answer["error"] in {"decrypt_failed", "not_authorized"}


@pytest.mark.parametrize(
    "changed",
    [
        {"sender": "other"},
        {"sender": "Svc"},
        {"timestamp": NOW + 1},
        {"timestamp": NOW - 86_400_000},
        {"timestamp": -NOW},
        {"timestamp": float(NOW)},
        {"key_id": "k2"},
        {"key_id": ""},
        {"v": 2},
        {"algorithm": "none"},
        {"algorithm": "AES-128-GCM"},
        {"encrypted": False},
        {"data": ""},
        {"data": "AAAA"},
        {"data": None},
    ],
    ids=repr,
)
def test_an_envelope_of_another_sender_time_key_or_kind(counter, envelope, changed):
    assert opened(counter, fields_of(envelope, **changed))["error"] == "decrypt_failed"


def test_every_bit_of_an_envelope_is_turned(counter, envelope):
    errors = set()
    for place in range(len(envelope)):
        for bit in range(8):
            damaged = bytearray(envelope)
            damaged[place] ^= 1 << bit
            answer = opened(counter, bytes(damaged))
            errors.add(answer.get("error"))
            if answer["success"]:
                # Only where JSON or base64 say the same in two ways.
                assert answer["message"] == 4711
                assert (answer["topic"], answer["sender"], answer["timestamp"]) == (TOPIC, "svc", NOW)
    # A topic that became another one is refused for that, and what is no JSON any more for that.
    assert errors <= {"decrypt_failed", "invalid_request", "not_authorized", None}


def test_every_bit_of_the_ciphertext_counts(counter, envelope):
    sealed = bytearray(base64.b64decode(json.loads(envelope)["data"]))
    for place in range(len(sealed)):
        for bit in range(8):
            damaged = bytes(sealed[:place] + bytes([sealed[place] ^ 1 << bit]) + sealed[place + 1 :])
            message = fields_of(envelope, data=base64.b64encode(damaged).decode())
            assert opened(counter, message)["error"] == "decrypt_failed"


def test_an_envelope_is_cut_off_anywhere(counter, envelope):
    for end in range(len(envelope)):
        assert opened(counter, envelope[:end])["error"] in {"invalid_request", "decrypt_failed"}
    sealed = base64.b64decode(json.loads(envelope)["data"])
    for end in range(len(sealed)):
        message = fields_of(envelope, data=base64.b64encode(sealed[:end]).decode())
        assert opened(counter, message)["error"] == "decrypt_failed"


def test_under_a_destroyed_key_nothing_opens(counter, envelope):
    destroyed = replace(counter.keys[0], state=KeyState.DESTROYED, material=b"")
    counter.context.ring.replace([destroyed, Key("k2", b"2" * 32, KeyState.ACTIVE, 0)], {})
    assert opened(counter, envelope)["error"] == "decrypt_failed"
    assert opened(counter, fields_of(envelope, key_id="k2"))["error"] == "decrypt_failed"


def test_nobody_seals_in_anothers_name_or_time(counter):
    for wish in ({"sender": "svc"}, {"timestamp": 1}, {"key_id": "k9"}, {"v": 9}):
        fields = {"message": 1, "topic": "corner/other/x"} | wish
        # Nobody's wish is ignored: what it may not ask for is refused.
        answer = counter.ask("encrypt", who="other", **fields)
        assert (answer["success"], answer["error"]) == (False, "invalid_request")


def test_a_sealed_object_is_sealed_again_and_not_forged(counter, envelope):
    """To have an envelope sealed gives an envelope in an envelope, never one's own words as another's."""
    answer = counter.raw("encrypt", b'{"message":%s,"topic":"corner/other/x"}' % envelope, who="other")
    inner = opened(counter, answer.payload, who="other")
    assert inner["message"] == json.loads(envelope)
    assert inner["sender"] == "other"


def test_oracles_are_refused_before_anything_is_opened(counter, envelope, monkeypatch):
    """Who may not open a message can't use the services to find out whether it is genuine."""
    from gateway.services import request_handler

    def never(*_: object) -> bytes:
        raise AssertionError("opened for somebody who may not")

    monkeypatch.setattr(request_handler, "open_envelope", never)
    assert opened(counter, envelope, who="other")["error"] == "not_authorized"
