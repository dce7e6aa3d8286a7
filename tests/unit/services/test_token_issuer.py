"""Tokens are issued as often as they may be, with no more rights than there are, and each is recorded."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from harness.request_handler import NOW, ROLES, Counter, allow, device, policy

from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import CHAIN_MAX
from gateway.keys.key_ring import Key, KeyState
from gateway.policy.engine.policy import Policy, Rights, Role
from gateway.services import token_issuer
from gateway.services.refusal import Code, Refusal


def test_a_token_says_what_the_policy_allows(counter):
    issued = counter.token_issuer.issue(counter.devices.get("other"), source="auth")
    known, grant = counter.tokens.verify(issued.token.encode())
    assert known is counter.devices.get("other")
    # Another client of the device may use it too: `{client}` is any.
    both = ("corner/other/#", "corner/+/its")
    assert grant.permissions == dict.fromkeys(("publish", "subscribe", "encrypt", "decrypt"), both)
    assert (grant.expires_at, grant.root) == (NOW // 1_000 + 3_600, grant.token_id)


def test_with_a_token_one_gets_no_more_than_it_grants(counter):
    svc = counter.devices.get("svc")
    narrow = counter.tokens.issue(svc, {"decrypt": ["a/b"]}).grant
    child = counter.token_issuer.issue(svc, source="auth", parent=narrow).grant
    assert {action: filters for action, filters in child.permissions.items() if filters} == {
        "decrypt": ("a/b",)
    }
    assert (child.root, child.token_id != narrow.token_id) == (narrow.root, True)


def test_a_narrow_token_gets_one_that_is_narrowed_alike(counter):
    svc = counter.devices.get("svc")
    narrow = counter.tokens.issue(svc, {"decrypt": ["a/b"]}, narrowed=True).grant
    child = counter.token_issuer.issue(svc, source="auth", parent=narrow).grant
    assert child.narrowed_digest == narrow.narrowed_digest != ""
    assert counter.token_issuer.issue(svc, source="auth").grant.narrowed_digest == ""


def test_a_chain_that_is_over_is_told_what_to_do(counter):
    svc = counter.devices.get("svc")
    grant = counter.tokens.issue(svc, {}).grant
    counter.now += CHAIN_MAX * 1_000
    with pytest.raises(Refusal, match="log in with the secret or the certificate") as caught:
        counter.token_issuer.issue(svc, source="auth", parent=grant)
    assert caught.value.code is Code.TOKEN_EXPIRED
    assert counter.token_issuer.unsaved() == ()


def test_a_session_whose_key_is_gone_gets_no_token_of_the_new_one(counter):
    """Also in the moment before it is ended."""
    svc = counter.devices.get("svc")
    grant = counter.tokens.issue(svc, {}).grant
    counter.tokens.use(SigningKeys.of_keys([Key("s2", bytes(32), KeyState.ACTIVE, 0)], 0))
    answer = json.loads(counter.raw("auth", b"{}", grant=grant).payload)
    assert (answer["success"], answer["error"]) == (False, "invalid_token")
    assert counter.token_issuer.unsaved() == ()


def test_each_is_recorded_until_it_is_saved(counter):
    svc = counter.devices.get("svc")
    first = counter.token_issuer.issue(svc, source="auth").grant
    second = counter.token_issuer.issue(svc, source="api", parent=first).grant
    records = counter.token_issuer.unsaved()
    assert [(one.token_id, one.root, one.source, one.device_id) for one in records] == [
        (first.token_id, first.token_id, "auth", "svc"),
        (second.token_id, first.token_id, "api", "svc"),
    ]
    third = counter.token_issuer.issue(svc, source="auth").grant
    counter.token_issuer.saved(1)
    assert [one.token_id for one in counter.token_issuer.unsaved()] == [second.token_id, third.token_id]
    assert counter.context.counters.tokens_issued == 3


def test_a_device_gets_so_many_a_minute_and_no_other_device_pays_for_it():
    counter = Counter(tokens_per_minute=3)
    for _ in range(3):
        counter.token("svc")
    with pytest.raises(Refusal) as caught:
        counter.token("svc")
    assert caught.value.code is Code.RATE_LIMITED
    counter.token("other")
    counter.now += 20_000
    counter.token("svc")
    with pytest.raises(Refusal):
        counter.token("svc")


def test_what_nobody_could_revoke_is_not_issued(counter, monkeypatch):
    monkeypatch.setattr(token_issuer, "_UNSAVED_MAX", 2)
    counter.token()
    counter.token()
    with pytest.raises(Refusal) as caught:
        counter.token()
    assert caught.value.code is Code.UNAVAILABLE
    assert "store" in caught.value.why
    counter.token_issuer.unsaved()
    with pytest.raises(Refusal):  # as long as they are being saved, too
        counter.token()
    counter.token_issuer.saved(1)
    counter.token()


def test_rights_that_fit_into_no_token_are_told():
    counter = Counter()
    rules = tuple(allow(f"topic/{number}/of/many", "publish") for number in range(2_000))
    counter.context.policy = Policy(
        [Role("many", "", rules)], sensitive=[], limits=policy().limits, reserved="gateway"
    )
    with pytest.raises(Refusal) as caught:
        counter.token_issuer.issue(device("svc", "many"), source="auth")
    assert caught.value.code is Code.TOO_LARGE
    assert counter.token_issuer.unsaved() == ()


@pytest.fixture
def worked_out(monkeypatch):
    """Whose rights were."""
    devices = []
    plain = Rights.permissions

    def counted(self):
        devices.append(self._identity.device_id)
        return plain(self)

    monkeypatch.setattr(Rights, "permissions", counted)
    return devices


def test_rights_are_worked_out_once_for_all_tokens_of_a_minute(counter, worked_out):
    """The kind: a device with a thousand filters asks for its sixty tokens at once."""
    for _ in range(5):
        first = counter.token_issuer.issue(counter.devices.get("svc"), source="auth").grant
        counter.token("other")
    assert worked_out == ["svc", "other"]
    grant = first
    for _ in range(5):
        grant = counter.token_issuer.issue(counter.devices.get("svc"), source="auth", parent=grant).grant
    assert worked_out == ["svc", "other", "svc"]
    assert grant.permissions == first.permissions


def test_rights_that_change_are_worked_out_anew(counter):
    def ruled_by(*roles):
        counter.context.policy = Policy(roles, sensitive=[], limits=policy().limits, reserved="gateway")

    def gets(**fields):
        known = replace(counter.devices.get("other"), **fields)
        counter.devices.devices["other"] = known
        return counter.token_issuer.issue(known, source="auth").grant.permissions["subscribe"]

    ruled_by(*ROLES, Role("rooms", "", (allow("rooms/{label.room}", "subscribe"),)))
    assert gets() == ("corner/other/#", "corner/+/its")
    assert gets(roles=("hearer",)) == ("open/#",)
    assert gets(roles=("rooms",), labels={"room": ("hall",)}) == ("rooms/hall",)
    assert gets(labels={"room": ("hall", "attic")}) == ("rooms/hall", "rooms/attic")
    ruled_by(Role("rooms", "", ()))
    assert gets() == ()


def test_rights_of_a_token_are_not_those_of_its_device(counter):
    svc = counter.devices.get("svc")
    narrow = counter.tokens.issue(svc, {"decrypt": ["a/b"]}).grant
    assert counter.token_issuer.issue(svc, source="auth").grant.permissions["publish"]
    assert not counter.token_issuer.issue(svc, source="auth", parent=narrow).grant.permissions["publish"]
    assert counter.token_issuer.issue(svc, source="auth").grant.permissions["publish"]


def test_so_many_rights_are_remembered(counter, monkeypatch):
    monkeypatch.setattr(token_issuer, "_RIGHTS_REMEMBERED_MAX", 2)
    for number in range(4):
        counter.token_issuer.issue(device(f"d{number}", "hearer"), source="auth")
    assert len(counter.token_issuer._rights) == 2
