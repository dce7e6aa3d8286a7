"""The sealed payload: made as the encoder would, opened or dropped, and nothing in between.

The vectors in tests/vectors fix its bytes; the playbooks show it at work.
"""

from __future__ import annotations

import base64
import contextlib
import json

import msgspec
import pytest
from harness.playbook import KEY, KEY_ID, NOW, ring, seal
from harness.playbook import open_payload as open_by_hand
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.key_ring import Key, KeyRing, KeyState, Nonces
from gateway.keys.payload_envelope import (
    Envelope,
    OpenFailed,
    Sealer,
    canonical,
    open_envelope,
    open_payload,
    read_envelope,
    reseal,
)

TOPIC = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20
)
SENDER = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
GOOD = seal(b"4711", "t")


def sealer(topic="t", sender="lamp-1", keys=None, now=NOW):
    return Sealer(keys or ring(), lambda: now, topic=topic, sender=sender)


@given(TOPIC, SENDER, st.binary(max_size=100), st.integers(0, 2**53))
def test_what_is_sealed_opens_and_is_as_the_encoder_writes_it(topic, sender, payload, now):
    made = sealer(topic, sender, now=now).seal(payload)
    assert open_payload(ring(), made, topic=topic) == payload
    assert open_by_hand(made, topic) == (payload, sender)
    # Written by hand for speed: the same bytes as the encoder's.
    assert msgspec.json.encode(msgspec.json.decode(made, type=Envelope)) == made


@given(st.text("ab/", min_size=1, max_size=6), st.binary(max_size=10))
def test_it_opens_on_its_own_topic_only(topic, payload):
    made = sealer(topic).seal(payload)
    with pytest.raises(OpenFailed, match="another topic"):
        open_payload(ring(), made, topic=topic + "x")
    with pytest.raises(OpenFailed):
        open_payload(ring(), made, topic="")


@given(st.binary(max_size=60))
def test_arbitrary_bytes_do_not_open(data):
    with pytest.raises(OpenFailed):
        open_payload(ring(), data, topic="t")


@given(st.integers(0, len(GOOD)), st.integers(0, 3), st.binary(max_size=3))
def test_a_damaged_envelope_gives_its_payload_or_nothing(place, count, instead):
    damaged = GOOD[:place] + instead + GOOD[place + count :]
    # What JSON and base64 leave open may differ: a space, the bits behind the last byte.
    with contextlib.suppress(OpenFailed):
        assert open_payload(ring(), damaged, topic="t") == b"4711"


FIELDS = {
    "encrypted": st.sampled_from([True, False, None, 1, "true"]),
    "algorithm": st.sampled_from(["AES-256-GCM", "aes-256-gcm", "none", "", None]),
    "key_id": st.sampled_from([KEY_ID, "k2", "", 1, "\ud800"]),
    "data": st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()) | st.text(max_size=5),
    "timestamp": st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3) | st.booleans(),
    "v": st.sampled_from([1, 2, 0, -1, True, "1", 1.0]),
    "topic": st.sampled_from(["t", "u", "", "\0", "\udfff"]),
    "sender": st.sampled_from(["lamp-2", "lamp-1", "", "\0", "\ud800", 1, None]),
}


@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_no_choice_of_fields_opens_what_was_not_sealed(changed):
    fields = json.loads(GOOD) | changed
    # Equal is not the same: True == 1.
    if repr(list(fields.items())) == repr(list(json.loads(GOOD).items())):
        return
    with pytest.raises(OpenFailed):
        open_payload(ring(), json.dumps(fields).encode(), topic="t")


@given(st.one_of(st.text(max_size=50), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_the_answer_of_encrypt_may_be_published_as_it_is(request_id):
    message = json.dumps(json.loads(GOOD) | {"request_id": request_id}).encode()
    assert open_payload(ring(), message, topic="t") == b"4711"


@given(st.dictionaries(st.text(max_size=9), JSON, min_size=1, max_size=3))
def test_a_field_that_nobody_sealed_is_for_nobody_to_read(more):
    fields = more | json.loads(GOOD)
    if fields == json.loads(GOOD) or set(fields) - set(json.loads(GOOD)) <= {"request_id", "rewrapped"}:
        return
    with pytest.raises(OpenFailed):
        open_payload(ring(), json.dumps(fields).encode(), topic="t")


@pytest.mark.parametrize("request_id", ["x" * 1_025, ["x"], {"a": "x"}, True])
def test_a_request_id_is_short_and_plain(request_id):
    message = json.dumps(json.loads(GOOD) | {"request_id": request_id}).encode()
    with pytest.raises(OpenFailed):
        open_payload(ring(), message, topic="t")


def test_an_envelope_tells_what_it_opens_to():
    envelope = read_envelope(GOOD)
    assert (envelope.topic, envelope.sender, envelope.timestamp) == ("t", "lamp-2", NOW)
    assert open_envelope(ring(), envelope) == b"4711"


@given(SENDER, TOPIC)
def test_an_envelope_opens_only_as_what_it_says_of_itself(sender, topic):
    for field, value in (("sender", sender), ("topic", topic), ("timestamp", NOW + 1)):
        fields = json.loads(GOOD)
        if fields[field] == value:
            continue
        with pytest.raises(OpenFailed, match="authenticate"):
            open_envelope(ring(), read_envelope(json.dumps(fields | {field: value}).encode()))


@given(TOPIC, SENDER, st.binary(max_size=100), st.integers(0, 2**53))
def test_what_is_sealed_again_is_the_same_message_under_the_new_key(topic, sender, payload, then):
    after = KeyRing(
        [Key(KEY_ID, KEY, KeyState.DECRYPT_ONLY, 0), Key("k2", b"2" * 32, KeyState.ACTIVE, 0)],
        Nonces(bytes),
        {},
    )
    old = read_envelope(sealer(topic, sender, now=then).seal(payload))
    made = reseal(after, old)
    new = read_envelope(made)
    assert (new.key_id, new.topic, new.sender, new.timestamp) == ("k2", topic, sender, then)
    assert (old.rewrapped, new.rewrapped) == (False, True)
    assert open_envelope(after, new) == payload
    assert list(json.loads(made)) == [*json.loads(GOOD), "rewrapped"]


def test_what_does_not_open_is_not_sealed_again():
    with pytest.raises(OpenFailed):
        reseal(ring(), read_envelope(GOOD.replace(b"lamp-2", b"lamp-3")))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"null",
        b"[]",
        b"4711",
        b'{"encrypted":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000,
        GOOD[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        GOOD[:-1] + b',"rewrapped":1}',
        b'{"data":' + b'{"a":' * 100_000,
        GOOD.replace(b"1764000000000", b"9" * 10_000),
        GOOD.replace(b"1764000000000", b"9" * 4_300),
        GOOD.replace(b"1764000000000", b"-" + b"9" * 4_300),
        GOOD.replace(b"1764000000000", b"1.764e12"),
        GOOD[:-1] + b',"sender":"lamp-1"}',
        GOOD.replace(b'"lamp-2"', b'"\xff"'),
        GOOD.replace(b'"sender"', b'"\xc0\x80"'),
        GOOD.replace(b'"lamp-2"', b'"\\ud800"'),
        GOOD + b"x",
        b"\xef\xbb\xbf" + GOOD,
    ],
    ids=range(19),
)
def test_what_is_made_to_break_the_parser(message):
    with pytest.raises(OpenFailed):
        open_payload(ring(), message, topic="t")


def test_old_keys_open_and_destroyed_ones_do_not():
    def keys(state):
        return KeyRing(
            [Key(KEY_ID, KEY, state, 0), Key("k2", b"2" * 32, KeyState.ACTIVE, 0)], Nonces(bytes), {}
        )

    assert open_payload(keys(KeyState.DECRYPT_ONLY), GOOD, topic="t") == b"4711"
    with pytest.raises(OpenFailed, match="a key that was destroyed"):
        open_payload(keys(KeyState.DESTROYED), GOOD, topic="t")
    with pytest.raises(OpenFailed, match="a key that is not here"):
        open_payload(ring(), GOOD.replace(b'"k1"', b'"k7"'), topic="t")
    assert json.loads(sealer(keys=keys(KeyState.DECRYPT_ONLY)).seal(b""))["key_id"] == "k2"


def test_time_and_nonce_are_new_each_time():
    times = iter((1, 22))
    one = Sealer(ring(), lambda: next(times), topic="t", sender="lamp-1")
    first, second = json.loads(one.seal(b"x")), json.loads(one.seal(b"x"))
    assert (first["timestamp"], second["timestamp"]) == (1, 22)
    assert first["data"] != second["data"]


def members(fields: dict[str, object], *, gap: str = "") -> bytes:
    """The fields as one object, with `gap` wherever JSON allows a space."""
    inner = f"{gap},{gap}".join(
        f"{json.dumps(name)}{gap}:{gap}{json.dumps(value)}" for name, value in fields.items()
    )
    return f"{gap}{{{gap}{inner}{gap}}}{gap}".encode()


def spare_bits(encoded: str) -> str:
    """The same bytes in base64, with a bit set behind the last of them."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = encoded.rstrip("=")
    assert last != encoded, "without padding there are no spare bits"
    changed = last[:-1] + alphabet[alphabet.index(last[-1]) + 1] + encoded[len(last) :]
    assert base64.b64decode(changed) == base64.b64decode(encoded)
    return changed


FIELDS_OF_GOOD = json.loads(GOOD)
HIDING = {
    "spaces": members(FIELDS_OF_GOOD, gap=" \t"),
    "a kilobyte of spaces": GOOD + b" " * 1_024,
    "another order": members(dict(reversed(FIELDS_OF_GOOD.items()))),
    "a member twice": b'{"sender":"I say it in plain",' + GOOD[1:],
    "a member many times": b"{" + b'"sender":"in plain",' * 99 + GOOD[1:],
    "a request id": members(FIELDS_OF_GOOD | {"request_id": "I say it in plain"}),
    "a request id twice": members(FIELDS_OF_GOOD | {"request_id": 1})[:-1] + b',"request_id":"in plain"}',
    "a mark that marks nothing": members(FIELDS_OF_GOOD | {"rewrapped": False}),
    "escapes": GOOD.replace(b'"lamp-2"', b'"\\u006camp-2"').replace(b'"topic"', b'"\\u0074opic"'),
    "spare bits of base64": members(FIELDS_OF_GOOD | {"data": spare_bits(FIELDS_OF_GOOD["data"])}),
}


@pytest.mark.parametrize("message", HIDING.values(), ids=HIDING)
def test_what_is_written_beside_an_envelope_is_not_written_again(message):
    assert message != GOOD
    assert canonical(read_envelope(message, topic="t")) == GOOD


@given(TOPIC, SENDER, st.binary(max_size=100), st.integers(0, 2**53))
def test_what_we_seal_is_canonical_already(topic, sender, payload, now):
    made = sealer(topic, sender, now=now).seal(payload)
    assert canonical(read_envelope(made)) == made
    again = reseal(ring(), read_envelope(made))
    assert canonical(read_envelope(again)) == again


@given(
    st.permutations(list(FIELDS_OF_GOOD)),
    st.text(" \t\r\n", max_size=3),
    st.none() | st.text(max_size=9) | st.integers(),
    st.none() | st.booleans(),
)
def test_however_an_envelope_is_written_it_is_delivered_in_one_way(order, gap, request_id, rewrapped):
    fields = {name: FIELDS_OF_GOOD[name] for name in order}
    fields |= {"request_id": request_id} if request_id is not None else {}
    fields |= {"rewrapped": rewrapped} if rewrapped is not None else {}
    written = canonical(read_envelope(members(fields, gap=gap), topic="t"))
    assert written == (GOOD[:-1] + b',"rewrapped":true}' if rewrapped else GOOD)
