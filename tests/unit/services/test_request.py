"""Requests in both shapes, and what is given back of them."""

from __future__ import annotations

import base64
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.engine.service_names import Service
from gateway.services.answers import in_shape, refused
from gateway.services.refusal import Code, Refusal
from gateway.services.request import ECHOED_MAX, GeneralRequest

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "request_id",
    "reply_to",
    "token",
    "message",
    "data",
    "topic",
    "device_id",
    "credentials",
    "ttl",
    "permissions",
    "payload",
    "message_type",
    "message_id",
    "source",
)
TEXTS = ("reply_to", "token", "topic", "device_id")


def request(**fields):
    return GeneralRequest(json.dumps(fields).encode())


def in_common_message(payload, **fields):
    common = {"message_id": "m-1", "source": "svc", "destination": "gateway", "message_type": "encrypt"}
    return request(**common, payload=payload, **fields)


@given(st.text(max_size=9), st.text(max_size=9), JSON, st.binary(max_size=20))
def test_what_is_said_is_read(token, topic, message, data):
    one = request(token=token, topic=topic, message=message, data=base64.b64encode(data).decode())
    assert one.fault is None
    assert (one.token, one.topic, one.data, one.in_common_message) == (token, topic, data, False)
    assert one.message == json.dumps(message).encode()
    assert (one.reply_to, one.device_id, one.secret, one.request_id) == (None, None, None, b"")


@given(st.binary(max_size=80))
def test_any_bytes_are_a_request_or_a_fault(payload):
    read_everything(GeneralRequest(payload))


@given(st.dictionaries(st.sampled_from(FIELDS), JSON | st.just("YQ==") | st.just({"secret": "s"})))
def test_any_fields_are_a_request_or_a_fault(fields):
    one = request(**fields)
    read_everything(one)
    answer = json.loads(in_shape(b'{"success":true}', Service.AUTH, one, prefix="gateway"))
    assert (answer["payload"] if one.in_common_message else answer)["success"] is True


def value_or_refusal(one, name):
    try:
        return getattr(one, name)
    except Refusal as refusal:
        return refusal


def read_everything(one):
    assert one.fault is None or one.fault.code is Code.INVALID_REQUEST
    assert isinstance(one.message, bytes)
    for name in (*TEXTS, "secret", "data"):
        value = value_or_refusal(one, name)
        if isinstance(value, Refusal):
            assert value.code is Code.INVALID_REQUEST
            assert name in str(value) or "credentials" in str(value)
        else:
            assert value is None or isinstance(value, bytes if name == "data" else str)
    json.loads(in_shape(b'{"a":1}', Service.ENCRYPT, one, prefix="gateway"))


HOSTILE = {
    "no JSON": b"{",
    "no object": b"[]",
    "text": b'"x"',
    "deep": b'{"message":' + b"[" * 100_000,
    "deep and whole": b'{"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep where nobody looks": b'{"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "no UTF-8": b'{"topic":"\xff"}',
    "no UTF-8 where nobody looks": b'{"x":"\xff"}',
    "no UTF-8 in a message": b'{"message":"\xc3"}',
    "half a pair of surrogates": b'{"message":"\\ud800"}',
    "a surrogate in UTF-8": b'{"message":"\xed\xa0\x80"}',
    "NaN": b'{"message":NaN}',
    "infinity": b'{"message":-Infinity}',
    "a leading zero": b'{"message":01}',
    "an open end": b'{"message":[1,]}',
    "two values": b"{}{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "NUL behind it": b"{}\0",
    "a line break in text": b'{"message":"a\nb"}',
    "single quotes": b"{'message':1}",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_json_is_told_so(payload):
    one = GeneralRequest(payload)
    assert "JSON object in UTF-8" in str(one.fault)
    assert (one.message, one.token, one.data) == (b"", None, None)


@pytest.mark.parametrize(
    "message",
    [
        b"1e999",
        b"9" * 5_000,
        b"-0",
        b'"\\u0000"',
        b"null",
        b"[]",
        b' { "a" : 1 } '.strip(),
        b'"\xf0\x9f\x94\x91"',
    ],
    ids=range(8),
)
def test_a_message_is_taken_to_the_byte(message):
    assert GeneralRequest(b'{"topic": "t", "message" :  %s , "x":1}' % message).message == message


TWICE = {
    "topics": (b'{"topic":"a","topic":"b"}', "A request"),
    "with blanks": (b' { "message" : 1 , "topic" : "a" , "message" : 2 } ', "A request"),
    "spelt otherwise": (b'{"topic":"a","\\u0074opic":"a"}', "A request"),
    "null and a value": (b'{"token":null,"token":"t"}', "A request"),
    "quotes in a value": (b'{"topic":"\\"","topic":"\\"\\""}', "A request"),
    "in the common message": (b'{"payload":{"topic":"a"},"payload":{"topic":"b"}}', "A request"),
    "beside others' members": (b'{"destination":"x","payload":{},"source":"a","source":"b"}', "A request"),
    "spelt otherwise beside them": (b'{"x":"\\n","payload":{},"sourc\\u0065":"a","source":"b"}', "A request"),
    "in its payload": (b'{"message_id":"1","x":1,"payload":{"topic":"a","topic":"b"}}', '"payload"'),
    "behind a long message": (
        b'{"payload":{"data":"%s"},"x":1,"source":1,"source":2}' % (b"7" * 9_000),
        "A request",
    ),
}


@pytest.mark.parametrize(("payload", "name"), TWICE.values(), ids=TWICE.keys())
def test_a_name_twice_is_refused_as_over_https(payload, name):
    one = GeneralRequest(payload)
    assert one.fault is not None
    assert (one.fault.code, str(one.fault)) == (
        Code.INVALID_REQUEST,
        f"{name} has a member twice: give it once.",
    )


ONCE = {
    "within the message": b'{"topic":"a","message":{"topic":1,"topic":2}}',
    "as a value": b'{"topic":"topic","token":"topic","reply_to":"\\"topic\\":"}',
    "with many blanks": b'{"topic"  :     "a"   ,    "message"   :   {"a":  1}   }',
    "of others' members": b'{"x":1,"x":2,"meta":{"source":1,"source":2},"source":"s","payload":{}}',
    "behind a long message": b'{"x":"\\n","source":"s","payload":{"message":"%s"}}' % (b"7" * 90_000),
}


@pytest.mark.parametrize("payload", ONCE.values(), ids=ONCE.keys())
def test_a_name_that_stands_once_as_a_member_is_taken(payload):
    assert GeneralRequest(payload).fault is None


def test_what_stands_beside_a_common_message_is_bounded_where_it_has_to_be_taken_apart():
    beside = b'{"x":"\\n%s","source":"s","payload":{}}'
    assert GeneralRequest(beside % (b"7" * 4_000)).fault is None
    assert "4,096 bytes of other members" in str(GeneralRequest(beside % (b"7" * 9_000)).fault)


def test_a_name_twice_within_what_is_read_later():
    for payload, read in (
        (b'{"credentials":{"secret":"a","secret":"b"}}', lambda one: one.secret),
        (b'{"permissions":{"publish":["a"],"publish":["#"]}}', lambda one: one.permissions),
        (b'{"permissions":{"publish":["a"],"pub\\u006cish":["#"]}}', lambda one: one.permissions),
    ):
        with pytest.raises(Refusal, match="has a member twice: give it once") as refused:
            read(GeneralRequest(payload))
        assert refused.value.code is Code.INVALID_REQUEST


PAIRS = st.lists(st.tuples(st.sampled_from(("topic", "ttl", "message", "data", "x")), JSON), max_size=6)


@given(PAIRS, st.sampled_from(("", " ", "\n   ")), st.booleans())
def test_a_name_twice_is_found_whatever_its_values_and_blanks(pairs, blank, escaped):
    """Compared with all the members, read one by one."""
    names = [name for name, _ in pairs]
    text = f",{blank}".join(
        f"{blank}{json.dumps(name).replace('t', chr(92) + 'u0074') if escaped else json.dumps(name)}"
        f"{blank}:{blank}{json.dumps(value)}{blank}"
        for name, value in pairs
    )
    given_text = f"{{{blank}{text}}}".encode()
    twice = len(set(names)) != len(names)
    if "x" not in names:
        assert (GeneralRequest(given_text).fault is not None) == twice
    known = [name for name in names if name != "x"]
    whole = f'{{"payload":{{}},{given_text.decode()[1:]}' if names else '{"payload":{}}'
    assert (GeneralRequest(whole.encode()).fault is not None) == (len(set(known)) != len(known))


_READ = {
    Service.AUTH: ("device_id", "credentials", "ttl", "permissions", "request_id", "reply_to"),
    Service.VALIDATE: ("token", "request_id", "reply_to"),
    Service.ENCRYPT: ("token", "topic", "data", "request_id", "reply_to"),
    Service.DECRYPT: ("token", "request_id", "reply_to"),
}


@pytest.mark.parametrize(("service", "name"), [(one, name) for one, names in _READ.items() for name in names])
def test_null_is_no_wish_for_everything(service, name):
    for one in (request(**{name: None}), in_common_message({name: None})):
        with pytest.raises(Refusal, match=f'"{name}" is null: give it a value, or leave it out') as refused:
            one.demand_no_unread(service, over_bus=True)
        assert refused.value.code is Code.INVALID_REQUEST


def test_null_as_a_message_is_a_message_and_as_a_payload_none():
    one = request(message=None, topic="t")
    one.demand_no_unread(Service.ENCRYPT, over_bus=False)
    assert one.message == b"null"
    for service in Service:
        with pytest.raises(Refusal, match='"payload" is null'):
            in_common_message(None).demand_no_unread(service, over_bus=True)
    # What stands round a payload is others' to use.
    in_common_message({"token": "x"}, token=None, topic=None, reply_to=None).demand_no_unread(
        Service.VALIDATE, over_bus=False
    )


def test_nothing_at_all_and_null_are_an_empty_request():
    for payload in (
        b"",
        b"{}",
        b'{"token":null,"data":null,"credentials":null,"request_id":null,"reply_to":null}',
    ):
        one = GeneralRequest(payload)
        assert (one.fault, one.token, one.data, one.secret, one.reply_to) == (None,) * 5
        assert one.request_id == b""


def test_credentials():
    assert request(credentials={"secret": "s"}).secret == "s"
    with pytest.raises(Refusal, match="credentials"):
        _ = request(credentials={"secret": "s", "more": 1}).secret
    assert request(credentials={}).secret is None
    for wrong in ("s", ["secret"], 7):
        with pytest.raises(Refusal, match="credentials"):
            _ = request(credentials=wrong).secret
    with pytest.raises(Refusal, match="secret"):
        _ = request(credentials={"secret": 7}).secret


@pytest.mark.parametrize("given", ["Y Q==", "YQ", "YQ=", "*", "YQ==\n", "_-8=", 7, ["YQ=="]], ids=range(8))
def test_data_is_base64_and_nothing_else(given):
    with pytest.raises(Refusal, match="base64"):
        _ = request(data=given).data


@pytest.mark.parametrize(
    "given", [b'"7f3a"', b"7", b"-7", b"1.50", b"1e30", b'""', b'"\\u00e9\\n"', b'"' + b"x" * 1_022 + b'"']
)
def test_a_request_id_comes_back_as_it_was(given):
    one = GeneralRequest(b'{"request_id": %s}' % given)
    assert one.fault is None
    assert in_shape(b'{"a":1}', Service.ENCRYPT, one, prefix="g") == b'{"a":1,"request_id":%s}' % given


@pytest.mark.parametrize(
    "given",
    [b"true", b"[1]", b'{"a":1}', b'"%s"' % (b"x" * ECHOED_MAX), b"9" * 5_000, b"1e999"],
    ids=range(6),
)
def test_a_request_id_that_nobody_could_give_back_is_a_fault(given):
    one = GeneralRequest(b'{"topic":"t","request_id":%s}' % given)
    assert "request_id" in str(one.fault)
    assert in_shape(b'{"a":1}', Service.ENCRYPT, one, prefix="g") == b'{"a":1}'


def test_a_wrapped_request_is_answered_wrapped():
    one = in_common_message(
        {"topic": "t", "message": {"x": 1}, "request_id": "r-1", "token": "inner"}, token="outer"
    )
    assert (one.topic, one.message, one.token) == ("t", b'{"x": 1}', "inner")
    answer = json.loads(in_shape(b'{"success":true}', Service.ENCRYPT, one, prefix="gateway"))
    assert uuid.UUID(answer.pop("message_id")).version == 4
    assert answer == {
        "source": "gateway",
        "destination": "svc",
        "message_type": "encrypt_response",
        "payload": {"success": True, "request_id": "r-1"},
    }


def test_what_belongs_to_the_call_may_stand_beside_the_payload():
    one = in_common_message({"topic": "t"}, token="tok", reply_to="there", request_id=9)
    assert (one.token, one.reply_to, one.request_id) == ("tok", "there", b"9")
    # What is asked for stands inside.
    outside = in_common_message(
        {}, topic="t", message=1, data="YQ==", device_id="d", credentials={"secret": "s"}
    )
    assert (outside.topic, outside.message, outside.data, outside.device_id) == (None, b"", None, None)
    assert outside.secret is None


def test_a_wrapped_request_without_an_id_is_known_by_its_message():
    assert in_common_message({}).request_id == b'"m-1"'
    assert in_common_message({"request_id": 5}).request_id == b"5"
    # A plain one is not.
    assert request(message_id="m-1", source="svc").request_id == b""


@pytest.mark.parametrize(
    ("payload", "fault"), [(None, None), ([], "payload"), ("x", "payload"), (7, "payload")]
)
def test_a_payload_is_an_object_or_nothing(payload, fault):
    one = in_common_message(payload)
    assert one.in_common_message
    assert (one.fault is None) if fault is None else (fault in str(one.fault))
    assert json.loads(in_shape(b'{"a":1}', Service.AUTH, one, prefix="g"))["payload"] == {
        "a": 1,
        "request_id": "m-1",
    }


def test_a_common_message_may_lack_what_only_its_sender_needs():
    answer = json.loads(in_shape(b'{"a":1}', Service.AUTH, request(message_type="auth"), prefix="g"))
    assert answer["destination"] == ""
    assert answer["payload"] == {"a": 1}


def test_a_refusal_has_the_shape_of_its_service():
    refusal = Refusal(Code.TOKEN_EXPIRED, "words", why="its administrator's words")
    plain = {"error": "token_expired", "message": "words", "timestamp": 7}
    assert json.loads(refused(Service.VALIDATE, refusal, 7)) == {"valid": False} | plain
    for service in (Service.AUTH, Service.ENCRYPT, Service.DECRYPT):
        assert json.loads(refused(service, refusal, 7)) == {"success": False} | plain
    report = refusal.report(Service.VALIDATE)
    assert (report.kind, report.outcome, report.action) == ("service", "refused", "validate")
    assert report.reason == "token_expired: its administrator's words"


def test_no_repr_shows_what_a_request_holds():
    one = request(token="hidden", message="hidden", credentials={"secret": "hidden"})
    assert "hidden" not in repr(one) + repr(one._inner)


@pytest.mark.parametrize("service", Service)
def test_a_member_that_nobody_reads_is_a_fault_and_named(service):
    one = request(request_id=7, ttl_seconds=60)
    with pytest.raises(Refusal, match='"ttl_seconds" is not known here') as refused:
        one.demand_no_unread(service, over_bus=True)
    assert refused.value.code is Code.INVALID_REQUEST
    assert "ttl_seconds" not in refused.value.why, "the log quotes nothing of a request"
    assert one.request_id == b"7", "and it is answered in its own shape"
    inner = in_common_message({"request_id": 8, "permisions": {}}, anything=1)
    assert (inner.in_common_message, inner.request_id) == (True, b"8")
    with pytest.raises(Refusal, match='"permisions" is not known here'):
        inner.demand_no_unread(service, over_bus=True)


@pytest.mark.parametrize(
    ("service", "name"),
    [
        (Service.AUTH, "token"), (Service.AUTH, "topic"), (Service.VALIDATE, "device_id"),
        (Service.VALIDATE, "permissions"), (Service.ENCRYPT, "ttl"), (Service.DECRYPT, "topic"),
        (Service.DECRYPT, "data"), (Service.ENCRYPT, "source"), (Service.ENCRYPT, "message_id"),
    ],
)  # fmt: skip
def test_a_member_of_another_service_is_refused_there(service, name):
    for one in (request(**{name: "x"}), in_common_message({name: "x"})):
        assert one.fault is None
        with pytest.raises(Refusal, match=f'"{name}" is not known here') as refused:
            one.demand_no_unread(service, over_bus=True)
        assert '"reply_to"' in str(refused.value), "what is known is named"
    with pytest.raises(Refusal, match=f'"{name}" is not known here'):
        request(**{name: None}).demand_no_unread(service, over_bus=True)
    in_common_message({}, **{name: "x"} if name in ("token", "topic") else {}).demand_no_unread(
        service, over_bus=True
    )


def test_the_common_message_may_have_more():
    one = in_common_message({"message": 1}, timestamp=5, priority="high", topic="x", headers={"a": 1})
    assert (one.fault, one.in_common_message, one.message) == (None, True, b"1")
    one.demand_no_unread(Service.DECRYPT, over_bus=False)


def test_a_name_that_is_endless_is_told_in_part():
    with pytest.raises(Refusal) as refused:
        request(**{"x" * 60_000: 1}).demand_no_unread(Service.AUTH, over_bus=False)
    assert len(str(refused.value)) < 200
