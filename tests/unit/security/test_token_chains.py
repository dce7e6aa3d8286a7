"""Tokens that renew one another: for how long, under which keys, and whose sessions they open."""

from __future__ import annotations

from dataclasses import replace

import jwt
import pytest

from gateway.core.identity import Device, Grant
from gateway.core.keyring import Key, KeyState
from gateway.security.claims import PRIOR_KIDS_MAX
from gateway.security.tokens import ChainOver, SigningKeys, TokenFault, TokenRefused, Tokens

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


class Desk:
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
def desk(request):
    return Desk(request.param)


# How long


def test_a_chain_has_a_greatest_age(desk):
    """A token of four seconds was renewed for as long as somebody asked."""
    token = first = desk.issue(ttl=4)
    for _ in range(CHAIN // 3):
        desk.now += 3
        token = desk.issue(token)
        assert desk.verified(token).expires_at <= NOW + CHAIN
        assert desk.verified(token).chain_began == NOW
    assert token.grant.expires_at == NOW + CHAIN
    assert token.grant.root == first.grant.token_id
    desk.now = NOW + CHAIN
    with pytest.raises(ChainOver, match="log in with the secret"):
        desk.issue(token)


def test_the_last_of_a_chain_ends_with_it(desk):
    token = desk.issue()
    for _ in range(12):
        desk.now += 8
        token = desk.issue(token)
    assert (desk.now, token.grant.expires_at) == (NOW + 96, NOW + CHAIN)


def test_who_logs_in_begins_another_chain(desk):
    desk.now += 10 * CHAIN
    assert desk.issue().grant.chain_began == desk.now


def test_a_clock_that_was_set_back_makes_no_chain_younger(desk):
    token = desk.issue()
    desk.now -= 50
    child = desk.issue(token)
    assert (child.grant.issued_at, child.grant.chain_began) == (NOW, NOW)
    desk.now = NOW + CHAIN
    with pytest.raises(ChainOver):
        desk.issue(child)


def test_a_token_of_an_older_version_begins_its_chain():
    """It says nothing of where its chain began, and nothing of being narrowed: it is taken as it was."""
    desk = Desk()
    claims = jwt.decode(desk.issue().token, options={"verify_signature": False})
    del claims["root_iat"]
    old = desk.tokens.verify(desk.tokens.keys.sign(claims).encode())[1]
    assert (old.chain_began, old.narrowed) == (NOW, "")
    desk.now += 5
    child = desk.tokens.issue(LAMP, NARROW, parent=old).grant
    assert child.chain_began == NOW


@pytest.mark.parametrize("claimed", [NOW + 1, 2**53])
def test_no_chain_begins_after_its_tokens(claimed):
    """Whoever shares JWT_SECRET may write anything: the chain is no younger than the token."""
    desk = Desk(SigningKeys.of_secret(b"s" * 32))
    claims = jwt.decode(desk.issue().token, options={"verify_signature": False}) | {"root_iat": claimed}
    grant = desk.tokens.verify(desk.tokens.keys.sign(claims).encode())[1]
    assert grant.chain_began == NOW


# Under which keys


def test_what_was_renewed_ends_with_the_key_of_what_it_was_renewed_from():
    """Whoever has a stolen key makes a token up, and has it renewed between `rotate` and `destroy`."""
    desk = Desk()
    forged = desk.issue()
    desk.tokens.use(signing(2, 1))
    child = desk.issue(forged)
    grandchild = desk.issue(child)
    honest = desk.issue()
    assert desk.verified(child).prior_keys == ("s1",) == desk.verified(grandchild).prior_keys
    desk.tokens.use(signing(2, -1))
    for token in (child, grandchild):
        with pytest.raises(TokenRefused, match="key was destroyed") as refused:
            desk.verified(token)
        assert (refused.value.fault, refused.value.device_id) == (TokenFault.INVALID, "lamp-1")
        with pytest.raises(TokenRefused):
            desk.issue(token)
    assert desk.verified(honest).prior_keys == ()


def test_what_was_renewed_outlives_a_key_whose_time_is_over():
    """That is how keys are rotated: nobody has to log in again for it."""
    desk = Desk()
    token = desk.issue()
    desk.tokens.use(signing(2, 1))
    child = desk.issue(token)
    desk.tokens.use(signing(2))
    assert desk.verified(child).key_id == "s2"
    desk.issue(child)


@pytest.mark.parametrize("keys", [signing(2), signing(2, -1), SigningKeys.of_secret(b"s" * 32)])
def test_nothing_is_issued_from_a_token_whose_key_is_gone(keys):
    """A session that it opened asks for a new one, which the new key would sign."""
    desk = Desk()
    token = desk.issue()
    desk.tokens.use(keys)
    with pytest.raises(TokenRefused) as refused:
        desk.issue(token)
    assert refused.value.fault is TokenFault.INVALID


def test_nothing_is_issued_from_a_token_whose_keys_time_is_over():
    keys = [
        Key("s1", b"1" * 32, KeyState.VERIFY_ONLY, 0, until=NOW + 5),
        Key("s2", b"2" * 32, KeyState.ACTIVE, 0),
    ]
    desk = Desk(SigningKeys.of_keys([replace(keys[0], state=KeyState.ACTIVE, until=None)], NOW))
    token = desk.issue()
    desk.tokens.use(SigningKeys.of_keys(keys, NOW))
    desk.issue(token)
    desk.now += 5
    with pytest.raises(TokenRefused, match="time is over"):
        desk.issue(token)


def test_a_chain_over_many_keys_is_over():
    """Its tokens would grow with each rotation."""
    desk = Desk()
    token = desk.issue()
    for number in range(2, PRIOR_KIDS_MAX + 2):
        desk.tokens.use(signing(number, number - 1))
        token = desk.issue(token)
        assert len(desk.verified(token).prior_keys) == number - 1
    desk.tokens.use(signing(number + 1, number))
    with pytest.raises(ChainOver, match="log in with the secret"):
        desk.issue(token)


# Whose sessions


def test_a_narrowed_token_says_so_and_so_does_what_is_renewed_from_it(desk):
    narrow = desk.verified(desk.issue(narrowed=True))
    assert len(narrow.narrowed) == 32
    # The policy may take something away meanwhile: its sessions stay its own, and the same.
    child = desk.tokens.issue(LAMP, {"publish": ["a"]}, parent=narrow)
    assert desk.verified(child).narrowed == narrow.narrowed
    again = desk.tokens.issue(LAMP, {}, parent=child.grant)
    assert desk.verified(again).narrowed == narrow.narrowed


def test_a_token_that_was_not_narrowed_is_not_though_the_policy_gives_more_later(desk):
    assert desk.verified(desk.issue()).narrowed == ""
    assert desk.verified(desk.issue(desk.issue())).narrowed == ""


def test_the_same_narrowing_has_the_same_sessions_and_another_has_others(desk):
    def narrowed(**permissions):
        return desk.issue(permissions=permissions, narrowed=True).grant.narrowed

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


def test_what_is_narrowed_again_has_other_sessions(desk):
    narrow = desk.issue(narrowed=True)
    narrower = desk.issue(narrow, permissions={"publish": ["a"]}, narrowed=True)
    assert narrower.grant.narrowed not in {"", narrow.grant.narrowed}


THEIRS = {
    "iss": "mqtt-security-gateway", "sub": "lamp-1", "aud": "mqtt", "iat": NOW, "nbf": NOW, "exp": NOW + 60,
    "jti": "theirs", "roles": [],
    "permissions": {"publish": ["a"], "subscribe": ["b", "c"], "encrypt": [], "decrypt": []},
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"root": "r"}, {"epoch": 0}, {"narrowed": None}])
def test_a_token_of_another_issuer_counts_as_narrowed(more):
    desk = Desk(SigningKeys.of_secret(b"s" * 32))
    theirs = jwt.encode(THEIRS | more, b"s" * 32, algorithm="HS256").encode()
    grant = desk.tokens.verify(theirs)[1]
    assert grant.narrowed == desk.issue(narrowed=True).grant.narrowed, "by its permissions"
    # Renewed, it keeps its sessions; its chain began with it.
    desk.now += 5
    child = desk.tokens.issue(LAMP, {}, parent=grant).grant
    assert (child.narrowed, child.chain_began) == (grant.narrowed, NOW)
    desk.now = NOW + CHAIN
    with pytest.raises(ChainOver):
        desk.tokens.issue(LAMP, {}, parent=grant)


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
def test_claims_of_our_own_that_are_none(desk, changed):
    claims = jwt.decode(desk.issue().token, options={"verify_signature": False})
    with pytest.raises(TokenRefused, match="claims that are not"):
        desk.tokens.verify(desk.tokens.keys.sign(claims | changed).encode())
