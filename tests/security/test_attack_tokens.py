"""What somebody tries who has, or had, a token; and what no fault of ours may make a good one.

Each test is named after what it stops. What is forged from nothing is in test_attack_forged_tokens.py.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from harness.login_gate import HEADER, PERMISSIONS, Gate, decoded, encoded, part, signed
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth.credentials import LoginRefused
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import CHAIN_MAX, TOKEN_BYTES, ChainOver, TokenFault, TokenRefused, Tokens
from gateway.keys.key_files import SIGNING, destroy, rotate_signing
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.identity import Device

CLAIMS = ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "root", "epoch", "roles", "permissions"]

# Whoever could have anything signed: what only a fault of ours would sign is no token either


@pytest.mark.parametrize("claim", CLAIMS)
async def test_a_required_claim_that_is_missing(gate: Gate, claim: str) -> None:
    claims = gate.claims()
    del claims[claim]
    gate.keeps_out(gate.signed(claims))
    gate.keeps_out(gate.signed(claims | {claim: None}))


@pytest.mark.parametrize("claim", ["iat", "nbf", "exp", "epoch"])
@pytest.mark.parametrize(
    "value",
    [
        '"2000000000"',
        "true",
        "false",
        "2000000000.5",
        "2000000000.0",
        "2e9",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1",
        "9" * 40,
        "9" * 5_000,
        "18446744073709551616",
        "null",
        "[2000000000]",
        '{"x":1}',
        "0x77359400",
    ],
    ids=lambda value: value[:24],
)
async def test_a_number_that_is_none(gate: Gate, claim: str, value: str) -> None:
    text = json.dumps(gate.claims() | {claim: "?"}).replace('"?"', value)
    gate.keeps_out(gate.signed(text.encode()))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "another"},
        {"iss": ["mqtt-security-gateway"]},
        {"iss": "mqtt-security-gateway\0"},
        {"aud": ["mqtt"]},
        {"aud": ["mqtt", "http"]},
        {"aud": "MQTT"},
        {"aud": {"mqtt": 1}},
        {"aud": ""},
        {"sub": 1},
        {"sub": ["lamp-1"]},
        {"sub": ""},
        {"sub": "#"},
        {"sub": "lamp-1/#"},
        {"sub": "lamp-1\n"},
        {"sub": "lamp-\u0131"},
        {"sub": "lamp-1\0"},
        {"jti": 1},
        {"jti": ""},
        {"jti": "x" * 65},
        {"root": None},
        {"root": []},
        {"roles": "sensor"},
        {"roles": [1]},
        {"roles": {"sensor": 1}},
        {"permissions": []},
        {"permissions": {}},
        {"permissions": {"publish": ["#"]}},
        {"permissions": PERMISSIONS | {"publish": "#"}},
        {"permissions": PERMISSIONS | {"publish": [None]}},
        {"permissions": PERMISSIONS | {"publish": [["#"]]}},
        {"permissions": PERMISSIONS | {"publish": {"#": 1}}},
        {"permissions": PERMISSIONS | {"publish": ["a/#/b"]}},
        {"permissions": PERMISSIONS | {"publish": ["a+"]}},
        {"permissions": PERMISSIONS | {"publish": [""]}},
        {"permissions": PERMISSIONS | {"publish": ["a\0b"]}},
        {"permissions": PERMISSIONS | {"publish": ["\ud800"]}},
        {"permissions": PERMISSIONS | {"publish": ["$share/g"]}},
        {"permissions": PERMISSIONS | {"admin": ["#"]}},
    ],
    ids=lambda changed: json.dumps(changed)[:60],
)
async def test_a_claim_of_another_kind(gate: Gate, changed: dict[str, Any]) -> None:
    gate.keeps_out(gate.signed(gate.claims() | changed))


@pytest.mark.parametrize("claim", ["iat", "nbf"])
async def test_a_token_from_the_future(gate: Gate, claim: str) -> None:
    claims = gate.claims()
    gate.keeps_out(gate.signed(claims | {claim: gate.now() // 1000 + 60}))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"[" * 20_000,
        b'{"x":' * 3_900 + b"1" + b"}" * 3_900,
        b"{" + b" " * 20_000 + b"}",
    ],
    ids=range(9),
)
async def test_claims_that_no_reader_should_be_given(gate: Gate, payload: bytes) -> None:
    """Even if we had signed them: nested past every stack, and no claims at all."""
    gate.keeps_out(gate.signed(payload))


async def test_deep_nesting_beside_good_claims(gate: Gate) -> None:
    text = json.dumps(gate.claims())[:-1]
    for deep in ("[" * 9_000 + "]" * 9_000, '{"x":' * 2_500 + "1" + "}" * 2_500):
        token = gate.signed(f'{text},"x":{deep}}}'.encode())
        assert len(token) < TOKEN_BYTES
        gate.keeps_out(token)


async def test_a_claim_that_stands_there_twice_is_not_read_two_ways(gate: Gate) -> None:
    """The last one counts (RFC 7519, 4), for the device as for its permissions, whoever reads it here."""
    await gate.add("lamp-2")
    text = json.dumps(gate.claims())[:-1] + f',"sub":"lamp-2","epoch":{gate.get("lamp-2").token_epoch}}}'
    assert gate.enter(gate.signed(text.encode())).device.device_id == "lamp-2"


@pytest.mark.parametrize("size", [TOKEN_BYTES + 1, 65_535, 1_000_000])
async def test_a_huge_token(gate: Gate, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """It is not even looked at."""
    good = gate.good()

    def looked_at(*_: object) -> None:
        raise AssertionError("more than the longest token was digested")

    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "sha256", looked_at)
        gate.keeps_out(good + b"A" * (size - len(good)))
        gate.keeps_out(b"eyJ" + b"A" * (size - 5) + b"..")
        gate.keeps_out(b"." * size)


# Whoever has had a good one


async def test_a_token_of_another_gateway(gate: Gate, tmp_path: Path) -> None:
    """It has the same issuer, key ids, device and epoch; nothing but the key tells them apart."""
    other = Gate(tmp_path / "other", gate.store)
    await other.follow()
    assert other.enter(other.good()).device.device_id == "lamp-1"
    gate.keeps_out(other.good())
    other.keeps_out(gate.good())


async def test_permissions_widened_by_hand(gate: Gate) -> None:
    header, payload, signature = gate.good().split(b".")
    claims = json.loads(decoded(payload))
    for changed in (
        {"permissions": {action: ["#"] for action in PERMISSIONS}},
        {"permissions": PERMISSIONS | {"decrypt": ["#"]}},
        {"roles": ["admin"]},
        {"exp": claims["exp"] + 1},
        {"sub": "lamp-2"},
        {"epoch": claims["epoch"] + 1},
        {"root": "another"},
    ):
        gate.keeps_out(b".".join((header, part(claims | changed), signature)))


async def test_a_token_of_a_disabled_device(gate: Gate) -> None:
    token = gate.good()
    gate.enter(token)
    await gate.store.devices.set_enabled("lamp-1", enabled=False)
    await gate.follow()
    gate.keeps_out(token, TokenFault.NOT_ACCEPTED)
    await gate.store.devices.set_enabled("lamp-1", enabled=True)
    await gate.follow()


async def test_a_token_of_a_device_that_was_removed_and_added_again(gate: Gate) -> None:
    token = gate.good()
    gate.enter(token)
    await gate.store.devices.remove("lamp-1")
    await gate.follow()
    gate.keeps_out(token, TokenFault.NOT_ACCEPTED)
    await gate.add()
    gate.keeps_out(token, TokenFault.REVOKED)


async def test_a_token_from_before_the_secret_was_changed(gate: Gate) -> None:
    token = gate.good()
    gate.enter(token)
    await gate.store.devices.set_credential("lamp-1", "y")
    await gate.follow()
    gate.keeps_out(token, TokenFault.REVOKED)


async def test_a_token_that_was_revoked_and_all_that_came_of_it(gate: Gate) -> None:
    """A stolen token is turned into new ones before anybody notices."""
    stolen = gate.issue()
    child = gate.issue(parent=stolen.grant)
    grandchild = gate.issue(parent=child.grant)
    other = gate.good()
    for one in (stolen, child, grandchild):
        gate.enter(one.token.encode())
    now = gate.now() // 1000
    await gate.store.tokens.revoke(
        device_id="lamp-1", root=stolen.grant.root, since=stolen.grant.issued_at, until=now + 7200
    )
    await gate.follow()
    for one in (stolen, child, grandchild, gate.issue(parent=grandchild.grant)):
        gate.keeps_out(one.token.encode(), TokenFault.REVOKED)
    gate.enter(other)


async def test_a_revoked_token_from_which_another_comes_after_the_clock_was_set_back(gate: Gate) -> None:
    stolen = gate.issue()
    now = gate.now() // 1000
    await gate.store.tokens.revoke(
        device_id="lamp-1", root=stolen.grant.root, since=stolen.grant.issued_at, until=now + 7200
    )
    await gate.follow()
    gate.ahead = -1000
    child = gate.issue(parent=stolen.grant).token.encode()
    gate.ahead = 0
    gate.keeps_out(child, TokenFault.REVOKED)


async def test_a_token_for_a_minute_is_not_turned_into_one_for_a_day(gate: Gate) -> None:
    short = gate.issue(ttl=60)
    for parent in (short, gate.issue(parent=short.grant), gate.issue(parent=short.grant, ttl=3600)):
        child = gate.issue(parent=parent.grant)
        assert child.grant.expires_at - child.grant.issued_at == 60


async def test_all_tokens_of_a_device_after_they_were_revoked(gate: Gate) -> None:
    tokens = [gate.good() for _ in range(3)]
    for token in tokens:
        gate.enter(token)
    await gate.store.devices.revoke_tokens("lamp-1")
    await gate.follow()
    for token in tokens:
        gate.keeps_out(token, TokenFault.REVOKED)
    gate.enter(gate.good())  # within the same second, too


async def test_an_expired_token(gate: Gate) -> None:
    token = gate.issue(ttl=10).token.encode()
    gate.enter(token)
    gate.ahead = 10
    gate.keeps_out(token, TokenFault.EXPIRED)


async def test_a_token_whose_key_was_destroyed_or_is_over(gate: Gate) -> None:
    token = gate.good()
    gate.enter(token)
    rotate_signing(gate.key_file, None, overlap_s=100)
    gate.tokens.use(gate.keys())
    gate.enter(token)
    gate.ahead = 100
    gate.keeps_out(token)
    gate.ahead = 0
    gate.enter(token)
    destroy(gate.key_file, SIGNING, None, "s1")
    gate.tokens.use(gate.keys())
    gate.keeps_out(token)


async def test_a_stolen_key_whose_tokens_were_renewed_before_it_was_destroyed(gate: Gate) -> None:
    """`keys destroy` wants it rotated first: in between the new key signs for whoever has the old one."""
    forged = gate.issue()
    rotate_signing(gate.key_file, None, overlap_s=100)
    gate.tokens.use(gate.keys())
    child = gate.issue(parent=forged.grant)
    grandchild = gate.issue(parent=child.grant)
    honest = gate.good()
    gate.enter(child.token.encode())
    destroy(gate.key_file, SIGNING, None, "s1")
    gate.tokens.use(gate.keys())
    for one in (forged, child, grandchild):
        gate.keeps_out(one.token.encode())
        with pytest.raises(TokenRefused):
            gate.issue(parent=one.grant)
    gate.enter(honest)


async def test_a_token_that_is_renewed_for_ever(gate: Gate) -> None:
    first = token = gate.issue()
    end = first.grant.issued_at + CHAIN_MAX
    for _ in range(CHAIN_MAX // 3_599):
        gate.ahead += 3_599
        token = gate.issue(parent=token.grant)
        assert token.grant.expires_at <= end
    assert token.grant.expires_at == end
    gate.ahead = CHAIN_MAX
    with pytest.raises(ChainOver):
        gate.issue(parent=token.grant)
    gate.keeps_out(token.token.encode(), TokenFault.EXPIRED)


@pytest.mark.parametrize("ahead", [86_400, 40 * 86_400, 20 * 365 * 86_400])
async def test_a_token_that_was_revoked_while_the_clock_ran_ahead(
    gate: Gate, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = gate.issue(), gate.issue()
    for one in (first, second):
        with monkeypatch.context() as patched:
            patched.setattr("gateway.store.wall_clock.now", lambda: gate.now() // 1000 + ahead)
            await gate.store.tokens.revoke(
                device_id="lamp-1", root=one.grant.root, since=one.grant.issued_at, until=one.grant.expires_at
            )
            await gate.follow()
    await gate.follow()
    for one in (first, second):
        gate.keeps_out(one.token.encode(), TokenFault.REVOKED)


async def test_no_token_comes_in_while_nobody_knows_who_was_disabled(gate: Gate) -> None:
    token = gate.good()
    gate.enter(token)
    gate.available = False
    with pytest.raises(LoginRefused) as refused:
        gate.enter(token)
    assert refused.value.reason is Reason.SERVER_UNAVAILABLE
    gate.available = True


async def test_another_devices_name_beside_a_good_token(gate: Gate) -> None:
    await gate.add("lamp-2")
    for name in (b"lamp-2", b"LAMP-1", b"lamp-1 ", b"\xff"):
        with pytest.raises(LoginRefused) as refused:
            gate.enter(gate.good(), username=name)
        assert refused.value.reason is Reason.NOT_AUTHORIZED


# Whoever turns bits


async def test_a_token_has_one_spelling_only(gate: Gate) -> None:
    """Or a request that is replayed would look like another one."""
    good = gate.good()
    spellings = [
        good + b"=",
        good + b"==",
        good + b"\n",
        b" " + good,
        good + b".",
        good.replace(b".", b"..", 1),
    ]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings += [good[:-1] + bytes([last]) for last in alphabet if last != good[-1]]
    spellings += [good.replace(b"-", b"+").replace(b"_", b"/")] if b"-" in good or b"_" in good else []
    for token in spellings:
        gate.keeps_out(token)


async def test_every_bit_counts(gate: Gate) -> None:
    good = gate.good()
    for place in range(0, len(good), 3):
        turned = bytearray(good)
        turned[place] ^= 1 << place % 8
        gate.keeps_out(bytes(turned))


@settings(max_examples=300)
@given(
    token=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=100).map(lambda data: b"eyJ" + data + b"." + data + b"." + data),
        st.lists(st.binary(max_size=60), max_size=5).map(b".".join),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda some: st.lists(some) | st.dictionaries(st.text(), some),
        ).map(lambda value: b".".join((part(HEADER), part(value), encoded(bytes(64))))),
    )
)
def test_no_bytes_whatever_are_taken_or_break_anything(token: bytes) -> None:
    with pytest.raises(TokenRefused):
        BARE.verify(token)


class Nobody:
    available = True

    def get(self, device_id: str) -> Device | None:
        return None


BARE = Tokens(SigningKeys.of_secret(bytes(range(32))), Nobody(), now=lambda: 0, ttl=1)


@settings(max_examples=200)
@given(
    claims=st.dictionaries(
        st.sampled_from(CLAIMS), st.none() | st.integers() | st.text() | st.floats() | st.lists(st.text())
    )
)
def test_no_claims_whatever_break_anything(claims: dict[str, object]) -> None:
    header = {"alg": "HS256", "kid": "hs256", "typ": "JWT"}
    with pytest.raises(TokenRefused):
        BARE.verify(signed(header, claims, bytes(range(32))))
