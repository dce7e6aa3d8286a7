"""Whose token it is, at a bounded price, and never for longer than it is good."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.request_handler import Counter
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.signing_keys import SigningKeys
from gateway.keys.key_ring import Key, KeyState
from gateway.services import bearer_cache
from gateway.services.refusal import Code, Refusal


def code(counter, token, peer="p"):
    with pytest.raises(Refusal) as caught:
        counter.bearer_cache.identity(token, peer=peer)
    return caught.value.code


def test_a_token_speaks_for_its_device_with_what_it_grants(counter):
    token = counter.token("other")
    identity, grant = counter.bearer_cache.identity(token, peer="p")
    assert (identity.device_id, identity.roles, identity.client_id) == ("other", ("corner",), "")
    assert identity.grant == grant
    assert counter.bearer_cache.identity(token, peer="q")[0] is identity


def test_another_version_of_the_device_is_another_identity(counter):
    token = counter.token("other")
    before, _ = counter.bearer_cache.identity(token, peer="p")
    counter.devices.devices["other"] = replace(counter.devices.get("other"), roles=("full",))
    after, _ = counter.bearer_cache.identity(token, peer="p")
    assert (before.roles, after.roles) == (("corner",), ("full",))


def test_what_was_good_once_is_judged_again_each_time(counter):
    token = counter.token("svc")
    counter.bearer_cache.identity(token, peer="p")
    counter.devices.available = False
    assert code(counter, token) is Code.NOT_ACCEPTED
    counter.devices.available = True
    counter.devices.devices["svc"] = replace(counter.devices.get("svc"), enabled=False)
    assert code(counter, token) is Code.NOT_ACCEPTED
    counter.devices.devices["svc"] = replace(counter.devices.get("svc"), enabled=True)
    counter.bearer_cache.identity(token, peer="p")
    counter.now += 3_600_000
    assert code(counter, token) is Code.TOKEN_EXPIRED
    counter.now -= 3_600_000
    counter.revoke_everything("svc")
    assert code(counter, token) is Code.TOKEN_REVOKED


@given(st.text(max_size=60))
def test_any_text_is_no_token(text):
    assert code(Counter(), text) is Code.INVALID_TOKEN


def test_the_words_quote_nothing_of_the_token(counter):
    with pytest.raises(Refusal) as caught:
        counter.bearer_cache.identity("planted-words", peer="p")
    assert "planted" not in str(caught.value) + caught.value.why


def test_tokens_that_were_never_seen_cost_who_shows_them(counter):
    good = counter.token("svc")
    counter.bearer_cache.identity(good, peer="p")
    codes = [code(counter, f"wrong {number}") for number in range(300)]
    assert codes.count(Code.INVALID_TOKEN) == 199
    assert set(codes[199:]) == {Code.RATE_LIMITED}
    # One that is known passes, and others pay nothing.
    counter.bearer_cache.identity(good, peer="p")
    counter.bearer_cache.identity(counter.token("other"), peer="q")
    assert code(counter, counter.token("other")) is Code.RATE_LIMITED
    counter.now += 1_000
    counter.bearer_cache.identity(counter.token("other"), peer="p")


def test_what_is_remembered_is_bounded(counter, monkeypatch):
    monkeypatch.setattr(bearer_cache, "_TOKENS_MAX", 3)
    tokens = [counter.token("svc") for _ in range(5)]
    for token in tokens:
        counter.bearer_cache.identity(token, peer="p")
    assert len(counter.bearer_cache._seen) == 3
    for token in tokens:
        assert counter.bearer_cache.identity(token, peer="p")[0].device_id == "svc"


def test_a_token_whose_key_is_gone_speaks_for_nobody(counter):
    """Known or not, and neither does what was renewed from it."""
    svc = counter.devices.get("svc")
    issued = counter.token_issuer.issue(svc, source="auth")
    seed = Key("s1", counter.signing_seed, KeyState.VERIFY_ONLY, 0, until=2**40)
    new = Key("s2", bytes(32), KeyState.ACTIVE, 0)
    counter.tokens.use(SigningKeys.of_keys([seed, new], 0))
    child = counter.token_issuer.issue(svc, source="auth", parent=issued.grant)
    for token in (issued.token, child.token):
        counter.bearer_cache.identity(token, peer="p")
    counter.tokens.use(SigningKeys.of_keys([Key("s1", b"", KeyState.DESTROYED, 0), new], 0))
    for token in (issued.token, child.token):
        assert code(counter, token) is Code.INVALID_TOKEN
