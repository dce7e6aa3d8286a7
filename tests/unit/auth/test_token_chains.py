"""Tokens that renew one another: for how long, under which keys, and whose sessions they open."""

from __future__ import annotations

from dataclasses import replace

import jwt
import pytest

from gateway.auth.signing_keys import SigningKeys
from gateway.auth.token_claims import PRIOR_KIDS_MAX
from gateway.auth.tokens import ChainOver, TokenFault, TokenRefused, Tokens
from gateway.keys.key_ring import Key, KeyState
from gateway.policy.engine.identity import Device, Grant

NOW = 1_800_000_000
CHAIN = 100
LAMP = Device("lamp-1", (), {}, enabled=True, credential="x", version=1, created_at=0, updated_at=0)
NARROW = {"publish": ["a"], "subscribe": ["b", "c"]}


def signing(active, *rest):
    """Keys by their number: the active one, those that verify, and with a minus those destroyed."""
    keys = [Key(f"s{active}", bytes([active]) * 32, KeyState.ACTIVE, 0)]
    for number in rest:
        if number < 0:
            keys.append(Key(f"s{-number}", b"", KeyState.DESTROYED, 0))
        else:
            keys.append(Key(f"s{number}", bytes([number]) * 32, KeyState.VERIFY_ONLY, 0, until=2**40))
    return SigningKeys.of_keys(keys, NOW)


class RequestHandler:
    """Tokens with a clock in the test's hands."""

    available = True

    def __init__(self, keys=None) -> None:
        self.now = NOW
        self.tokens = Tokens(keys or signing(1), self, now=lambda: self.now * 1000, ttl=10, chain_max=CHAIN)

    def get(self, device_id):
        return LAMP

    def issue(self, parent=None, permissions=NARROW, **named):
        return self.tokens.issue(LAMP, permissions, parent=parent and parent.grant, **named)

    def verified(self, issued) -> Grant:
        return self.tokens.verify(issued.token.encode())[1]


@pytest.fixture(params=[None, SigningKeys.of_secret(b"s" * 32)], ids=["EdDSA", "HS256"])
def request_handler(request):
    return RequestHandler(request.param)


# How long


def test_a_chain_has_a_greatest_age(request_handler):
    """A token of four seconds was renewed for as long as somebody asked."""
    token = first = request_handler.issue(ttl=4)
    for _ in range(CHAIN // 3):
        request_handler.now += 3
        token = request_handler.issue(token)
        assert request_handler.verified(token).expires_at <= NOW + CHAIN
        assert request_handler.verified(token).chain_began == NOW
    assert token.grant.expires_at == NOW + CHAIN
    assert token.grant.root == first.grant.token_id
    request_handler.now = NOW + CHAIN
    with pytest.raises(ChainOver, match="log in with the secret"):
        request_handler.issue(token)


def test_the_last_of_a_chain_ends_with_it(request_handler):
    token = request_handler.issue()
    for _ in range(12):
        request_handler.now += 8
        token = request_handler.issue(token)
    assert (request_handler.now, token.grant.expires_at) == (NOW + 96, NOW + CHAIN)


def test_who_logs_in_begins_another_chain(request_handler):
    request_handler.now += 10 * CHAIN
    assert request_handler.issue().grant.chain_began == request_handler.now


def test_a_clock_that_was_set_back_makes_no_chain_younger(request_handler):
    token = request_handler.issue()
    request_handler.now -= 50
    child = request_handler.issue(token)
    assert (child.grant.issued_at, child.grant.chain_began) == (NOW, NOW)
    request_handler.now = NOW + CHAIN
    with pytest.raises(ChainOver):
        request_handler.issue(child)


def test_a_token_of_an_older_version_begins_its_chain():
    """It says nothing of where its chain began, and nothing of being narrowed: it is taken as it was."""
    request_handler = RequestHandler()
    claims = jwt.decode(request_handler.issue().token, options={"verify_signature": False})
    del claims["root_iat"]
    old = request_handler.tokens.verify(request_handler.tokens.keys.sign(claims).encode())[1]
    assert (old.chain_began, old.narrowed_digest) == (NOW, "")
    request_handler.now += 5
    child = request_handler.tokens.issue(LAMP, NARROW, parent=old).grant
    assert child.chain_began == NOW


@pytest.mark.parametrize("claimed", [NOW + 1, 2**53])
def test_no_chain_begins_after_its_tokens(claimed):
    """Whoever shares JWT_SECRET may write anything: the chain is no younger than the token."""
    request_handler = RequestHandler(SigningKeys.of_secret(b"s" * 32))
    claims = jwt.decode(request_handler.issue().token, options={"verify_signature": False}) | {
        "root_iat": claimed
    }
    grant = request_handler.tokens.verify(request_handler.tokens.keys.sign(claims).encode())[1]
    assert grant.chain_began == NOW


# Under which keys


def test_what_was_renewed_ends_with_the_key_of_what_it_was_renewed_from():
    """Whoever has a stolen key makes a token up, and has it renewed between `rotate` and `destroy`."""
    request_handler = RequestHandler()
    forged = request_handler.issue()
    request_handler.tokens.use(signing(2, 1))
    child = request_handler.issue(forged)
    grandchild = request_handler.issue(child)
    honest = request_handler.issue()
    assert (
        request_handler.verified(child).prior_keys
        == ("s1",)
        == request_handler.verified(grandchild).prior_keys
    )
    request_handler.tokens.use(signing(2, -1))
    for token in (child, grandchild):
        with pytest.raises(TokenRefused, match="key was destroyed") as refused:
            request_handler.verified(token)
        assert (refused.value.fault, refused.value.device_id) == (TokenFault.INVALID, "lamp-1")
        with pytest.raises(TokenRefused):
            request_handler.issue(token)
    assert request_handler.verified(honest).prior_keys == ()


def test_what_was_renewed_outlives_a_key_whose_time_is_over():
    """That is how keys are rotated: nobody has to log in again for it."""
    request_handler = RequestHandler()
    token = request_handler.issue()
    request_handler.tokens.use(signing(2, 1))
    child = request_handler.issue(token)
    request_handler.tokens.use(signing(2))
    assert request_handler.verified(child).key_id == "s2"
    request_handler.issue(child)


@pytest.mark.parametrize("keys", [signing(2), signing(2, -1), SigningKeys.of_secret(b"s" * 32)])
def test_nothing_is_issued_from_a_token_whose_key_is_gone(keys):
    """A session that it opened asks for a new one, which the new key would sign."""
    request_handler = RequestHandler()
    token = request_handler.issue()
    request_handler.tokens.use(keys)
    with pytest.raises(TokenRefused) as refused:
        request_handler.issue(token)
    assert refused.value.fault is TokenFault.INVALID


def test_nothing_is_issued_from_a_token_whose_keys_time_is_over():
    keys = [
        Key("s1", b"1" * 32, KeyState.VERIFY_ONLY, 0, until=NOW + 5),
        Key("s2", b"2" * 32, KeyState.ACTIVE, 0),
    ]
    request_handler = RequestHandler(
        SigningKeys.of_keys([replace(keys[0], state=KeyState.ACTIVE, until=None)], NOW)
    )
    token = request_handler.issue()
    request_handler.tokens.use(SigningKeys.of_keys(keys, NOW))
    request_handler.issue(token)
    request_handler.now += 5
    with pytest.raises(TokenRefused, match="time is over"):
        request_handler.issue(token)


def test_a_chain_over_many_keys_is_over():
    """Its tokens would grow with each rotation."""
    request_handler = RequestHandler()
    token = request_handler.issue()
    for number in range(2, PRIOR_KIDS_MAX + 2):
        request_handler.tokens.use(signing(number, number - 1))
        token = request_handler.issue(token)
        assert len(request_handler.verified(token).prior_keys) == number - 1
    request_handler.tokens.use(signing(number + 1, number))
    with pytest.raises(ChainOver, match="log in with the secret"):
        request_handler.issue(token)


# Whose sessions


def test_a_narrowed_token_says_so_and_so_does_what_is_renewed_from_it(request_handler):
    narrow = request_handler.verified(request_handler.issue(narrowed=True))
    assert len(narrow.narrowed_digest) == 32
    # The policy may take something away meanwhile: its sessions stay its own, and the same.
    child = request_handler.tokens.issue(LAMP, {"publish": ["a"]}, parent=narrow)
    assert request_handler.verified(child).narrowed_digest == narrow.narrowed_digest
    again = request_handler.tokens.issue(LAMP, {}, parent=child.grant)
    assert request_handler.verified(again).narrowed_digest == narrow.narrowed_digest


def test_a_token_that_was_not_narrowed_is_not_though_the_policy_gives_more_later(request_handler):
    assert request_handler.verified(request_handler.issue()).narrowed_digest == ""
    assert request_handler.verified(request_handler.issue(request_handler.issue())).narrowed_digest == ""


def test_the_same_narrowing_has_the_same_sessions_and_another_has_others(request_handler):
    def narrowed(**permissions):
        return request_handler.issue(permissions=permissions, narrowed=True).grant.narrowed_digest

    one = narrowed(publish=["a", "b"])
    assert one == narrowed(publish=["b", "a", "a"], subscribe=[])
    others = [
        narrowed(publish=["a"]),
        narrowed(subscribe=["a", "b"]),
        narrowed(publish=["a"], subscribe=["b"]),
        narrowed(publish=["ab"]),
        narrowed(publish=["a,b"]),
        narrowed(publish=['a","b']),
        narrowed(),
    ]
    assert len({one, *others}) == len(others) + 1


def test_what_is_narrowed_again_has_other_sessions(request_handler):
    narrow = request_handler.issue(narrowed=True)
    narrower = request_handler.issue(narrow, permissions={"publish": ["a"]}, narrowed=True)
    assert narrower.grant.narrowed_digest not in {"", narrow.grant.narrowed_digest}


THEIRS = {
    "iss": "mqtt-security-gateway", "sub": "lamp-1", "aud": "mqtt", "iat": NOW, "nbf": NOW, "exp": NOW + 60,
    "jti": "theirs", "roles": [],
    "permissions": {"publish": ["a"], "subscribe": ["b", "c"], "encrypt": [], "decrypt": []},
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"root": "r"}, {"epoch": 0}, {"narrowed": None}])
def test_a_token_of_another_issuer_counts_as_narrowed(more):
    request_handler = RequestHandler(SigningKeys.of_secret(b"s" * 32))
    theirs = jwt.encode(THEIRS | more, b"s" * 32, algorithm="HS256").encode()
    grant = request_handler.tokens.verify(theirs)[1]
    assert grant.narrowed_digest == request_handler.issue(narrowed=True).grant.narrowed_digest, (
        "by its permissions"
    )
    # Renewed, it keeps its sessions; its chain began with it.
    request_handler.now += 5
    child = request_handler.tokens.issue(LAMP, {}, parent=grant).grant
    assert (child.narrowed_digest, child.chain_began) == (grant.narrowed_digest, NOW)
    request_handler.now = NOW + CHAIN
    with pytest.raises(ChainOver):
        request_handler.tokens.issue(LAMP, {}, parent=grant)


@pytest.mark.parametrize(
    "changed",
    [
        {"narrowed": "x"},
        {"narrowed": ""},
        {"narrowed": "0" * 31},
        {"narrowed": "0" * 32 + "\n"},
        {"narrowed": "0" * 31 + "\n"},
        {"narrowed": "0" * 33},
        {"narrowed": "A" * 32},
        {"narrowed": "/" * 32},
        {"narrowed": 1},
        {"narrowed": ["0" * 32]},
        {"root_iat": -1},
        {"root_iat": "1"},
        {"root_iat": 1.5},
        {"prior_kids": "s1"},
        {"prior_kids": [1]},
        {"prior_kids": [""]},
        {"prior_kids": ["s1"] * 9},
    ],
    ids=str,
)
def test_claims_of_our_own_that_are_none(request_handler, changed):
    claims = jwt.decode(request_handler.issue().token, options={"verify_signature": False})
    with pytest.raises(TokenRefused, match="claims that are not"):
        request_handler.tokens.verify(request_handler.tokens.keys.sign(claims | changed).encode())
