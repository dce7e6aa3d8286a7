"""What is read in one go is what `GeneralRequest` would take, and reads alike."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.key_ring import Key, KeyRing, KeyState, Nonces
from gateway.keys.payload_envelope import Sealer, read_envelope, reseal
from gateway.policy.engine.service_names import Service
from gateway.services.request import GeneralRequest
from gateway.services.request_fast_path import DecryptRequest, EncryptRequest, read_request

RING = KeyRing([Key("k1", os.urandom(32), KeyState.ACTIVE, 0)], Nonces(os.urandom), {})
SEALED = Sealer(RING, lambda: 1_764_000_000_000, topic="private/ö", sender="svc").seal(b'"hello"')
RESEALED = reseal(RING, read_envelope(SEALED))
TEXTS = ('""', '"a"', '"\\u0061"', '"\\""', '"ö"')
VALUES = {
    "topic": TEXTS,
    "message": ("0", '""', "null", '{"topic":1,"topic":2,"x":[null]}'),
    "data": ('""', '"YQ=="', '"YWJj"'),
    "token": TEXTS,
    "reply_to": TEXTS,
    "request_id": ("1", "1.0", '""', '"\\""', '"%s"' % ("x" * 1_023)),
    "payload": ("{}",),
    "credentials": ('{"secret":"s"}',),
    "x": ("1",),
}
ENCRYPT = {"topic", "message", "data", "token", "reply_to", "request_id"}
DECRYPT = {"message", "token", "reply_to", "request_id"}
WRONG = ("null", "true", "[]")
EXTRA = ("rewrapped", "request_id", "v", "data", "x")


def member(name):
    values = st.sampled_from(VALUES[name]) | st.sampled_from(VALUES[name] + WRONG)
    return st.tuples(st.just(name), values)


MEMBERS = st.sampled_from(tuple(VALUES)).flatmap(member)
BLANKS = st.sampled_from(("", "", " ", "\n     "))


def joined(pairs, blank, *, escaped=False):
    def key(name):
        return f'"\\u{ord(name[0]):04x}{name[1:]}"' if escaped else f'"{name}"'

    return f"{{{f',{blank}'.join(f'{key(name)}:{blank}{value}' for name, value in pairs)}}}"


def alike(one, whole, service):
    """Whether `GeneralRequest` finds nothing wrong with the same bytes, and reads them so."""
    assert whole.fault is None
    whole.demand_no_unread(service, over_bus=False)
    assert (one.token, one.reply_to) == (whole.token, whole.reply_to)
    assert (one.request_id, one.decoded_request_id) == (whole.request_id, whole.decoded_request_id)
    assert (one.fault, one.in_common_message, one.source) == (
        whole.fault,
        whole.in_common_message,
        whole.source,
    )
    return True


@given(st.lists(MEMBERS, max_size=7), BLANKS, st.booleans())
def test_a_request_to_encrypt(pairs, blank, escaped):
    text = joined(pairs, blank, escaped=escaped).encode()
    names = [name for name, _ in pairs]
    one = read_request(Service.ENCRYPT, text)
    if isinstance(one, EncryptRequest):
        assert len(names) == len(set(names))
        assert ENCRYPT.issuperset(names)
        whole = GeneralRequest(text)
        assert alike(one, whole, Service.ENCRYPT)
        assert (one.topic, bytes(one.message), one.data) == (whole.topic, whole.message, whole.data)
    else:
        # Nothing is left to the long way without a reason.
        strange = len(names) > len(set(names)) or not ENCRYPT.issuperset(names) or "topic" not in names
        spelt = escaped or "\\" in text.decode() or "ö" in text.decode() or len(blank) > 1
        wrong = any(value in WRONG for name, value in pairs if name != "message")
        assert strange or spelt or wrong or any(len(value) > 1_024 for _, value in pairs)


@given(
    st.lists(
        st.tuples(st.sampled_from(EXTRA), st.sampled_from(("1", "true", "false", '"a"', "null"))), max_size=2
    ),
    st.lists(MEMBERS.filter(lambda pair: pair[0] != "message"), max_size=3),
    st.sampled_from((SEALED, RESEALED)),
    BLANKS,
    st.booleans(),
)
def test_a_request_to_decrypt(more, pairs, sealed, blank, escaped):
    inside = [(name, json.dumps(value)) for name, value in json.loads(sealed).items()] + more
    text = joined([*pairs, ("message", joined(inside, blank))], blank, escaped=escaped).encode()
    one = read_request(Service.DECRYPT, text)
    names, within = [name for name, _ in pairs], [name for name, _ in inside]
    if isinstance(one, DecryptRequest):
        assert len(names) == len(set(names))
        assert DECRYPT.issuperset(names)
        assert len(within) == len(set(within))
        whole = GeneralRequest(text)
        assert alike(one, whole, Service.DECRYPT)
        whole.demand_no_member_twice()
        assert one.message == read_envelope(whole.message)


USUAL = {
    "least": {"topic": "a", "message": None},
    "bytes": {"topic": "a", "data": "YWJj"},
    "all": {"token": "t", "topic": "a", "message": {"topic": [1]}, "reply_to": "r", "request_id": "i"},
}


@pytest.mark.parametrize("request_", USUAL.values(), ids=USUAL.keys())
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_what_libraries_write_takes_the_fast_path(request_, separators):
    text = json.dumps(request_, separators=separators).encode()
    assert isinstance(read_request(Service.ENCRYPT, text), EncryptRequest)
    answer = json.loads(SEALED) | {"request_id": request_.get("request_id", 7)}
    sealed = {
        **{name: request_[name] for name in ("token", "reply_to") if name in request_},
        "message": answer,
    }
    for more in ({}, {"request_id": 1}, {"request_id": "x"}):
        text = json.dumps(sealed | more, separators=separators).encode()
        assert isinstance(read_request(Service.DECRYPT, text), DecryptRequest)


TEXT = SEALED.decode()


def around(sealed, more=""):
    return f'{{"message":{sealed[:-1]}{more}}}}}'


LEFT = {
    "twice, as short as can be": (Service.ENCRYPT, '{"topic":"a","data":"","data":""}'),
    "twice, the first of them null": (Service.ENCRYPT, '{"topic":"a","message":1,"token":null,"token":"t"}'),
    "twice, after long bytes": (
        Service.ENCRYPT,
        '{"topic":"a","data":"%s","token":"t","token":"t"}' % ("YWJj" * 9),
    ),
    "twice, spelt otherwise": (Service.ENCRYPT, '{"topic":"a","t\\u006fpic":"b","message":1}'),
    "null": (Service.ENCRYPT, '{"topic":"a","message":1,"data":null}'),
    "no text in UTF-8": (Service.ENCRYPT, b'{"topic":"a","message":"\xff"}'),
    "nested too deep": (Service.ENCRYPT, '{"topic":"a","message":%s}' % ("[" * 100_000)),
    "more behind it": (Service.ENCRYPT, '{"topic":"a","message":1}1'),
    "an id that is neither text nor number": (Service.ENCRYPT, '{"topic":"a","message":1,"request_id":[]}'),
    "an id too long": (Service.ENCRYPT, '{"topic":"a","message":1,"request_id":"%s"}' % ("x" * 1_023)),
    "sealed with a name twice": (Service.DECRYPT, around(TEXT, ',"v":1')),
    "sealed with a mark for nothing": (Service.DECRYPT, around(TEXT, ',"rewrapped":false')),
    "sealed with a null": (Service.DECRYPT, around(TEXT, ',"request_id":null')),
    "sealed, twice": (Service.DECRYPT, f'{{"message":{TEXT},"message":{TEXT}}}'),
    "sealed, as text": (Service.DECRYPT, json.dumps({"message": TEXT})),
    "sealed by an algorithm not ours": (Service.DECRYPT, around(TEXT.replace("256", "128"))),
    "of a version not ours": (Service.DECRYPT, around(TEXT.replace('"v":1', '"v":2'))),
    "said not to be sealed": (Service.DECRYPT, around(TEXT.replace("true", "false"))),
    "another service": (Service.VALIDATE, '{"token":"t"}'),
}


@pytest.mark.parametrize(("service", "text"), LEFT.values(), ids=LEFT.keys())
def test_all_else_goes_the_long_way(service, text):
    assert isinstance(
        read_request(service, text if isinstance(text, bytes) else text.encode()), GeneralRequest
    )


def test_it_shows_nothing_of_what_it_holds():
    one = read_request(Service.ENCRYPT, b'{"topic":"a","message":"secret","token":"secret"}')
    assert isinstance(one, EncryptRequest)
    assert "secret" not in repr(one)
