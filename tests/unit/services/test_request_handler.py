"""The request handler: what each service answers, to whom, where, and that there is always an answer."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from harness.request_handler import ALL, NOW, ROLES, Counter, allow, deny, policy
from hypothesis import given
from hypothesis import strategies as st

from gateway.connection.commands import Call
from gateway.keys.key_ring import USES_MAX, Key, KeyRing, KeyState, Nonces
from gateway.keys.payload_envelope import Sealer, open_envelope, read_envelope
from gateway.policy.engine.policy import Policy, Role
from gateway.policy.engine.service_names import Service

services = pytest.mark.parametrize("service", [*Service])


def sealed(counter, payload, topic, sender="lamp-1"):
    return Sealer(counter.context.ring, lambda: NOW - 5, topic=topic, sender=sender).seal(payload)


def decrypt(counter, envelope, **options):
    return json.loads(counter.raw("decrypt", b'{"message":%s}' % envelope, **options).payload)


def denied(code, words, **more):
    return {"success": False, "error": code, "message": words, "timestamp": NOW} | more


# encrypt


@given(st.binary(max_size=200))
def test_data_is_sealed_as_the_bytes_it_is(data):
    counter = Counter()
    answer = counter.raw(
        "encrypt", json.dumps({"topic": "a/b", "data": base64.b64encode(data).decode()}).encode()
    )
    envelope = read_envelope(answer.payload)
    assert open_envelope(counter.context.ring, envelope) == data
    assert (envelope.topic, envelope.sender, envelope.timestamp) == ("a/b", "svc", NOW)
    assert (answer.topic, answer.correlation, answer.report) == ("gateway/encrypt_response", None, None)


@pytest.mark.parametrize(
    "message", [b'{ "b" : 1 , "a":"\\u00e9" }', b"21.50", b'"x"', b"null", b"false", b"[ ]", b"1e999"]
)
def test_a_message_is_sealed_to_the_byte(counter, message):
    answer = counter.raw("encrypt", b'{"message":%s,"topic":"a/b"}' % message)
    assert open_envelope(counter.context.ring, read_envelope(answer.payload)) == message


def test_the_answer_of_encrypt_is_the_sealed_object_with_its_request_id(counter):
    answer = counter.ask("encrypt", message=1, topic="a/b", request_id="r")
    assert list(answer) == [
        "encrypted",
        "algorithm",
        "key_id",
        "data",
        "timestamp",
        "v",
        "topic",
        "sender",
        "request_id",
    ]
    assert (answer["encrypted"], answer["algorithm"], answer["request_id"]) == (True, "AES-256-GCM", "r")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"message": 1},
        {"topic": "a"},
        {"message": 1, "data": "", "topic": "a"},
        {"message": 1, "topic": None},
        {"message": 1, "topic": 7},
        {"data": 7, "topic": "a"},
    ],
    ids=range(7),
)
def test_encrypt_takes_one_thing_and_a_topic(counter, fields):
    assert counter.ask("encrypt", **fields)["error"] == "invalid_request"


@pytest.mark.parametrize(
    "topic", ["", "a/+", "#", "a\0b", "a" * 65_536], ids=["empty", "+", "#", "NUL", "long"]
)
def test_nothing_is_sealed_for_what_is_no_topic(counter, topic):
    answer = counter.ask("encrypt", message=1, topic=topic)
    assert answer["error"] == "invalid_request"
    assert answer["message"].startswith('"topic" ')


def test_encrypt_needs_that_right_for_the_topic(counter):
    assert "error" not in counter.ask("encrypt", who="other", message=1, topic="corner/other/x")
    for who, topic in (("other", "corner/svc/x"), ("svc", "closed/x"), ("mute", "a"), ("svc", "gateway/x")):
        answer = counter.raw("encrypt", json.dumps({"message": 1, "topic": topic}).encode(), who=who)
        assert json.loads(answer.payload)["error"] == "not_authorized"
        assert (answer.report.outcome, answer.report.action, answer.report.topic) == (
            "refused",
            "encrypt",
            topic,
        )


def test_a_topic_that_was_allowed_once_is_judged_by_the_policy_in_force(counter):
    for _ in range(2):
        assert "error" not in counter.ask("encrypt", message=1, topic="a/b")
    counter.context.policy = replace_policy(closed="a/#")
    assert counter.ask("encrypt", message=1, topic="a/b")["error"] == "not_authorized"


def replace_policy(closed):
    roles = [
        Role("full", "", (allow("#", *ALL), deny(closed, *ALL))),
        *(r for r in ROLES if r.name != "full"),
    ]
    return Policy(roles, sensitive=["private/#"], limits=policy().limits, reserved="gateway")


def test_a_key_that_is_used_up_seals_nothing(counter):
    counter.context.ring = KeyRing(counter.keys, Nonces(bytes), {"k1": USES_MAX})
    answer = counter.raw("encrypt", b'{"message":1,"topic":"a"}')
    assert json.loads(answer.payload)["error"] == "unavailable"
    assert "rotated" in answer.report.reason


def test_what_is_sealed_after_a_rotation_is_sealed_under_the_new_key(counter):
    assert counter.ask("encrypt", message=1, topic="a/b")["key_id"] == "k1"
    old = replace(counter.keys[0], state=KeyState.DECRYPT_ONLY)
    counter.context.ring.replace([old, Key("k2", b"2" * 32, KeyState.ACTIVE, 0)], {})
    assert counter.ask("encrypt", message=1, topic="a/b")["key_id"] == "k2"


# decrypt


@pytest.mark.parametrize("payload", [b'{"a": [1, 2]}', b"4711", b'"text"', b"null", b"1e999"])
def test_what_is_json_comes_back_as_it_stands(counter, payload):
    answer = counter.raw("decrypt", b'{"message":%s}' % sealed(counter, payload, "a/b"))
    assert answer.payload == (
        b'{"success":true,"message":%s,"topic":"a/b","sender":"lamp-1","timestamp":%d}' % (payload, NOW - 5)
    )


@given(st.binary(max_size=100))
def test_anything_else_comes_back_as_base64(payload):
    counter = Counter()
    answer = decrypt(counter, sealed(counter, payload, "a/b"))
    try:
        value = json.loads(payload)
    except ValueError:
        assert base64.b64decode(answer["data"]) == payload
        assert "message" not in answer
    else:
        assert ("message" in answer and answer["message"] == value) or "data" in answer


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        b'"\xc3"',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"NaN",
        b'"\\ud800"',
        b"1 2",
        b"{}x",
    ],
    ids=range(9),
)
def test_what_would_break_the_answer_is_base64(counter, payload):
    answer = decrypt(counter, sealed(counter, payload, "a/b"))
    assert (base64.b64decode(answer["data"]), answer["success"]) == (payload, True)


@given(st.text(max_size=20) | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_the_answer_of_encrypt_is_what_decrypt_takes(request_id):
    counter = Counter()
    request = {"message": {"x": 1}, "topic": "a/b", "request_id": request_id}
    made = counter.raw("encrypt", json.dumps(request).encode()).payload
    assert decrypt(counter, made)["message"] == {"x": 1}


def test_decrypt_needs_that_right_for_the_topic_and_says_nothing_else(counter):
    genuine = sealed(counter, b"4711", "corner/svc/x")
    forged = genuine.replace(b"lamp-1", b"lamp-2")
    answers = [counter.raw("decrypt", b'{"message":%s}' % one, who="other") for one in (genuine, forged)]
    assert json.loads(answers[0].payload)["error"] == "not_authorized"
    # Not even whether it is genuine.
    assert answers[0].payload == answers[1].payload
    assert answers[0].report == answers[1].report
    assert decrypt(counter, sealed(counter, b"4711", "corner/other/x"), who="other")["message"] == 4711


def test_what_does_not_open_does_not_say_why_but_to_the_administrator(counter):
    good = sealed(counter, b"4711", "a/b")
    old = replace(counter.keys[0], state=KeyState.DESTROYED, material=b"")
    wrong = {
        "not a sealed message": b"{}",
        "does not authenticate": good.replace(b"lamp-1", b"lamp-2"),
        "a key that is not here": good.replace(b'"k1"', b'"k9"'),
        "cut off": good.replace(good.split(b'"data":"')[1].split(b'"')[0], b"AAAA"),
    }
    words = set()
    for why, message in wrong.items():
        answer = counter.raw("decrypt", b'{"message":%s}' % message)
        words.add(answer.payload)
        assert why in answer.report.reason
        assert answer.report.outcome == "failed"
    counter.context.ring.replace([old, Key("k2", b"2" * 32, KeyState.ACTIVE, 0)], {})
    answer = counter.raw("decrypt", b'{"message":%s}' % good)
    assert "destroyed" in answer.report.reason
    assert {*words, answer.payload} == {answer.payload}
    assert json.loads(answer.payload)["error"] == "decrypt_failed"


@pytest.mark.parametrize("request_", [{"data": "YQ=="}, {"message": '{"encrypted":true}'}, {"message": 1}])
def test_decrypt_without_a_sealed_object_says_what_to_give(counter, request_):
    answer = counter.ask("decrypt", **request_)
    assert (answer["error"], '"message"' in answer["message"]) == ("invalid_request", True)


# validate and auth


def test_a_good_token_is_said_to_be_good(counter):
    token = counter.token("other")
    _, grant = counter.tokens.verify(token.encode())
    assert counter.ask("validate", token=token) == {
        "valid": True,
        "device_id": "other",
        "permissions": {action: list(filters) for action, filters in grant.permissions.items()},
        "expires_at": grant.expires_at * 1_000,
        "timestamp": NOW,
    }


def test_a_token_that_is_not_good_is_said_why(counter):
    token = counter.token("other")
    changes = {
        "invalid_token": lambda: None,
        "token_revoked": lambda: counter.revoke_everything("other"),
        "not_accepted": lambda: counter.devices.devices.pop("other"),
        "token_expired": lambda: setattr(counter, "now", NOW + 3_600_000),
    }
    for code, change in changes.items():
        change()
        answer = counter.ask("validate", token="x" if code == "invalid_token" else token, request_id=1)
        assert (answer["valid"], answer["error"], answer["request_id"]) == (False, code, 1)
    assert counter.ask("validate")["error"] == "invalid_request"


def test_auth_gives_the_connection_a_token_of_its_own(counter):
    answer = counter.raw("auth", b"")
    body = json.loads(answer.payload)
    _, grant = counter.tokens.verify(body["token"].encode())
    assert list(body) == ["success", "token", "permissions", "expires_at", "timestamp"]
    assert (body["success"], body["expires_at"], body["timestamp"]) == (True, grant.expires_at * 1_000, NOW)
    assert body["permissions"]["encrypt"] == ["#", "$SYS/#"]
    assert (answer.report.kind, answer.report.outcome) == ("token", "done")
    assert grant.token_id in answer.report.reason
    assert [one.token_id for one in counter.token_issuer.unsaved()] == [grant.token_id]


def test_auth_gives_nobody_elses_token_whatever_is_asked_for(counter):
    answer = counter.ask("auth", device_id="svc", who="other")
    assert (answer["success"], answer["error"], "token" in answer) == (False, "not_authorized", False)
    answer = counter.ask("auth", device_id="other", who="other")
    assert counter.tokens.verify(answer["token"].encode())[0].device_id == "other"


@pytest.mark.parametrize("shown", [{"secret": "x"}, {}, None, "x"], ids=str)
def test_auth_reads_no_credentials_of_a_connection_and_says_so(counter, shown):
    answer = counter.ask("auth", device_id="svc", credentials=shown)
    assert (answer["success"], answer["error"], "token" in answer) == (False, "invalid_request", False)
    assert "leave them out, the connection says who asks" in answer["message"]


def test_auth_through_a_token_session_narrows_and_belongs_to_its_chain(counter):
    svc = counter.devices.get("svc")
    grant = counter.tokens.issue(svc, {"publish": ["a/#"]}).grant
    body = json.loads(counter.raw("auth", b"{}", grant=grant).payload)
    assert counter.tokens.verify(body["token"].encode())[1].root == grant.token_id
    assert body["permissions"] == {"publish": ["a/#"], "subscribe": [], "encrypt": [], "decrypt": []}


def disable(counter):
    counter.devices.devices["svc"] = replace(counter.devices.get("svc"), enabled=False)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda counter: setattr(counter.devices, "available", False), "unavailable"),
        (lambda counter: counter.devices.devices.pop("svc"), "not_accepted"),
        (disable, "not_accepted"),
        (lambda counter: counter.revoke_everything("svc"), "not_accepted"),
        (lambda counter: setattr(counter, "now", NOW + 3_600_000), "token_expired"),
    ],
    ids=["store", "removed", "disabled", "revoked", "expired"],
)
def test_a_session_that_is_about_to_end_gets_no_token(counter, change, code):
    identity = counter.identity("svc", grant=counter.tokens.issue(counter.devices.get("svc"), {}).grant)
    change(counter)
    answer = counter.request_handler.answer(Call(Service.AUTH, b"{}"), identity)
    assert json.loads(answer.payload)["error"] == code
    assert counter.token_issuer.unsaved() == ()


def test_over_the_rate_of_tokens_auth_refuses():
    counter = Counter(tokens_per_minute=1)
    assert counter.ask("auth")["success"]
    assert counter.ask("auth")["error"] == "rate_limited"


# what is asked for


def test_auth_gives_less_when_less_is_asked_for(counter):
    answer = counter.ask("auth", ttl="1m", permissions={"publish": ["a/b"]})
    _, grant = counter.tokens.verify(answer["token"].encode())
    assert (answer["expires_at"], grant.permissions["publish"]) == (NOW + 60_000, ("a/b",))
    assert (grant.permissions["subscribe"], bool(grant.narrowed_digest)) == ((), True)


@pytest.mark.parametrize(
    "asked", [{"ttl": "x"}, {"ttl": 10**9}, {"permissions": []}, {"ttl_s": 1}, {"topic": "a"}]
)
def test_auth_gives_no_token_when_it_can_not_do_what_is_asked(counter, asked):
    answer = counter.ask("auth", **asked)
    assert (answer["success"], "token" in answer) == (False, False)
    assert not counter.token_issuer.unsaved()


def test_a_token_in_a_request_of_a_connection_counts(counter):
    """Nobody is judged by more than the token that is shown, and another device's is refused."""
    narrow = counter.tokens.issue(counter.devices.get("svc"), {"encrypt": ["a/b"]}).token
    assert counter.ask("encrypt", token=narrow, topic="a/b", message=1)["encrypted"] is True
    assert counter.ask("encrypt", token=narrow, topic="a/c", message=1)["error"] == "not_authorized"
    assert (
        counter.ask("encrypt", token=narrow, topic="a/b", message=1, who="other")["error"] == "not_authorized"
    )
    assert counter.ask("encrypt", token="x", topic="a/b", message=1)["error"] == "invalid_token"
    assert counter.ask("encrypt", topic="a/c", message=1)["encrypted"] is True
