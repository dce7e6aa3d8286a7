"""Tokens: what stands in them, how long they are good, and that knowing one does not make it good.

What attackers try is in tests/security/test_attack_tokens.py.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from dataclasses import replace

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import tokens as module
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.token_header import base64url, begins_like_a_header
from gateway.auth.tokens import (
    TOKEN_BYTES,
    Issued,
    PermissionsTooLong,
    TokenFault,
    TokenRefused,
    Tokens,
    looks_like_token,
)
from gateway.keys.key_ring import Key, KeyState
from gateway.policy.engine.identity import Device, Grant, Revocation

NOW = 1_800_000_000
LAMP = Device(
    device_id="lamp-1",
    roles=("sensor", "actuator"),
    labels={},
    enabled=True,
    credential="x",
    version=1,
    created_at=0,
    updated_at=0,
    token_epoch=7,
)
PERMISSIONS = {
    "publish": ["devices/lamp-1/telemetry", "devices/+/x"],
    "subscribe": ["devices/lamp-1/#"],
    "encrypt": [],
    "decrypt": ("a",),
}
SEEDS = [bytes([number]) * 32 for number in range(4)]


def key(number, state=KeyState.ACTIVE, until=None):
    return Key(f"s{number}", SEEDS[number], state, 0, until=until)


KEYS = SigningKeys.of_keys([key(1)], NOW)
SECRET = SigningKeys.of_secret(b"s" * 32)


class RequestHandler:
    """Tokens with a store and a clock in the test's hands."""

    def __init__(self, keys=KEYS, ttl=3600) -> None:
        self.available = True
        self.devices = {"lamp-1": LAMP}
        self.now = NOW
        self.tokens = Tokens(keys, self, now=lambda: self.now * 1000 + 999, ttl=ttl)

    def get(self, device_id):
        return self.devices.get(device_id)

    def issue(self, **named) -> Issued:
        return self.tokens.issue(LAMP, PERMISSIONS, **named)

    def token(self, **named) -> bytes:
        return self.issue(**named).token.encode()

    def fault(self, token) -> TokenFault:
        return self.refused(token).fault

    def refused(self, token) -> TokenRefused:
        with pytest.raises(TokenRefused) as caught:
            self.tokens.verify(token)
        return caught.value


@pytest.fixture(params=[KEYS, SECRET], ids=["EdDSA", "HS256"])
def request_handler(request):
    return RequestHandler(request.param)


def test_what_is_issued_is_verified(request_handler):
    issued = request_handler.issue()
    device, grant = request_handler.tokens.verify(issued.token.encode())
    assert device is LAMP
    assert grant == issued.grant
    assert grant == Grant(
        token_id=grant.token_id,
        root=grant.token_id,
        epoch=7,
        issued_at=NOW,
        expires_at=NOW + 3600,
        permissions={action: tuple(filters) for action, filters in PERMISSIONS.items()},
        key_id=request_handler.tokens.keys.active_id,
        root_issued_at=NOW,
    )


def test_the_claims_are_those_of_the_contract(request_handler):
    token = request_handler.issue().token
    header = jwt.get_unverified_header(token)
    algorithm, key_id = ("EdDSA", "s1") if request_handler.tokens.keys is KEYS else ("HS256", "hs256")
    assert header == {"alg": algorithm, "kid": key_id, "typ": "JWT"}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims == {
        "iss": "mqtt-security-gateway",
        "sub": "lamp-1",
        "aud": "mqtt",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 3600,
        "jti": claims["jti"],
        "root": claims["jti"],
        "root_iat": NOW,
        "epoch": 7,
        "roles": ["sensor", "actuator"],
        "permissions": {action: list(filters) for action, filters in PERMISSIONS.items()},
    }
    assert len(claims["jti"]) == 36


def test_every_action_is_named_and_no_other(request_handler):
    issued = request_handler.tokens.issue(LAMP, {"publish": ["a"], "admin": ["#"]})
    assert issued.grant.permissions == {"publish": ("a",), "subscribe": (), "encrypt": (), "decrypt": ()}
    assert request_handler.tokens.verify(issued.token.encode())[1] == issued.grant


@pytest.mark.parametrize(("ttl", "lives"), [(None, 3600), (1, 1), (3600, 3600), (10**9, 3600)])
def test_no_token_lives_longer_than_the_settings_say(request_handler, ttl, lives):
    assert request_handler.issue(ttl=ttl).grant.expires_at == NOW + lives


def test_no_two_tokens_are_the_same_one(request_handler):
    assert len({request_handler.issue().grant.token_id for _ in range(50)}) == 50


def test_a_token_is_of_the_chain_it_was_asked_for_with(request_handler):
    first = request_handler.issue().grant
    second = request_handler.issue(parent=first).grant
    third = request_handler.issue(parent=second).grant
    assert {first.root, second.root, third.root} == {first.token_id}
    assert len({first.token_id, second.token_id, third.token_id}) == 3


def test_a_token_is_never_issued_before_the_one_it_was_asked_for_with(request_handler):
    """A clock that was set back must not take it out of the reach of a revocation."""
    parent = request_handler.issue().grant
    request_handler.now -= 100
    assert request_handler.issue(parent=parent).grant.issued_at == parent.issued_at


def test_a_token_is_good_from_its_first_second_to_its_last(request_handler):
    token = request_handler.token(ttl=10)
    request_handler.tokens.verify(token)
    request_handler.now += 9
    request_handler.tokens.verify(token)
    request_handler.now += 1
    assert request_handler.fault(token) is TokenFault.EXPIRED
    assert request_handler.refused(token).device_id == "lamp-1"
    request_handler.now = NOW - 1
    assert request_handler.fault(token) is TokenFault.INVALID


def test_a_device_that_is_not_there_or_disabled(request_handler):
    token = request_handler.token()
    for known in (False, True):  # once before it was verified, and then from what is known
        request_handler.devices = {}
        refused = request_handler.refused(token)
        assert (refused.fault, refused.why) == (TokenFault.NOT_ACCEPTED, "unknown device")
        request_handler.devices = {"lamp-1": replace(LAMP, enabled=False)}
        refused = request_handler.refused(token)
        assert (refused.fault, refused.why) == (TokenFault.NOT_ACCEPTED, "disabled device")
        request_handler.devices = {"lamp-1": LAMP}
        request_handler.available = False
        assert request_handler.refused(token).why == "store unavailable"
        request_handler.available = True
        if not known:
            request_handler.tokens.verify(token)


def test_the_device_is_the_one_of_now(request_handler):
    token = request_handler.token()
    request_handler.tokens.verify(token)
    request_handler.devices["lamp-1"] = other = replace(LAMP, roles=("sensor",))
    assert request_handler.tokens.verify(token)[0] is other


def test_revocations(request_handler):
    before, token, sibling = request_handler.token(), request_handler.issue(), request_handler.token()
    chain = token.grant.root
    request_handler.tokens.verify(token.token.encode())
    request_handler.devices["lamp-1"] = replace(LAMP, revocations=(Revocation(chain, NOW, NOW + 9999),))
    assert request_handler.fault(token.token.encode()) is TokenFault.REVOKED
    assert request_handler.fault(request_handler.token(parent=token.grant)) is TokenFault.REVOKED
    for other in (before, sibling, request_handler.token()):
        request_handler.tokens.verify(other)
    request_handler.devices["lamp-1"] = replace(LAMP, token_epoch=8)
    for one in (before, sibling, token.token.encode()):
        assert request_handler.fault(one) is TokenFault.REVOKED


def test_a_key_that_was_replaced_verifies_until_its_time_is_over():
    request_handler = RequestHandler()
    token = request_handler.token()
    request_handler.tokens.use(SigningKeys.of_keys([key(1, KeyState.VERIFY_ONLY, NOW + 50), key(2)], NOW))
    newer = request_handler.token()
    assert jwt.get_unverified_header(newer)["kid"] == "s2"
    request_handler.tokens.verify(token)
    request_handler.now += 49
    request_handler.tokens.verify(token)
    request_handler.now += 1
    assert request_handler.fault(token) is TokenFault.INVALID, "it is known, and yet its key's time is over"
    request_handler.tokens.verify(newer)
    keys = SigningKeys.of_keys([key(1, KeyState.VERIFY_ONLY, NOW + 50), key(2)], request_handler.now)
    assert [each["kid"] for each in keys.jwks()["keys"]] == ["s2"]


@pytest.mark.parametrize("rest", [[], [Key("s1", b"", KeyState.DESTROYED, 0)]])
def test_what_was_verified_before_ends_with_its_key(rest):
    request_handler = RequestHandler()
    token = request_handler.token()
    request_handler.tokens.verify(token)
    request_handler.tokens.use(SigningKeys.of_keys([key(2), *rest], NOW))
    assert request_handler.fault(token) is TokenFault.INVALID
    request_handler.tokens.use(SECRET)
    assert request_handler.fault(token) is TokenFault.INVALID


@pytest.mark.parametrize(
    "keys", [[], [key(1), key(2)], [key(1, KeyState.VERIFY_ONLY, NOW + 1)], [key(1, KeyState.DECRYPT_ONLY)]]
)
def test_one_key_signs(keys):
    with pytest.raises(ValueError, match="exactly one"):
        SigningKeys.of_keys(keys, NOW)


@pytest.mark.parametrize(
    "secret",
    [
        b"",
        b"x" * 31,
        b"-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n" % (b"x" * 40),
        b'{"kty":"OKP","crv":"Ed25519","x":"%s"}' % (b"x" * 43),
        b"ssh-ed25519 " + b"x" * 40,
    ],
)
def test_a_secret_that_is_none(secret):
    with pytest.raises(ValueError, match="JWT_SECRET") as caught:
        SigningKeys.of_secret(secret)
    assert caught.value.__cause__ is None


def test_the_public_keys_for_others():
    keys = SigningKeys.of_keys([key(1, KeyState.VERIFY_ONLY, NOW + 50), key(2)], NOW)
    published = keys.jwks()
    assert [each["kid"] for each in published["keys"]] == ["s2", "s1"]
    for each in published["keys"]:
        assert each.keys() == {"kty", "crv", "x", "kid", "use", "alg"}
    text = json.dumps(published)
    for private in SEEDS:
        assert private.hex() not in text
        assert base64url(private).decode() not in text
    # Others need no more than that, and a library that was written without us.
    request_handler = RequestHandler(keys)
    public = jwt.PyJWKSet.from_dict(published)["s2"]
    claims = jwt.decode(
        request_handler.token(),
        public,
        algorithms=["EdDSA"],
        audience="mqtt",
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert claims["sub"] == "lamp-1"
    assert SECRET.jwks() == {"keys": []}


def test_permissions_that_do_not_fit(request_handler):
    with pytest.raises(PermissionsTooLong, match="fewer rules"):
        request_handler.tokens.issue(
            LAMP, {"publish": [f"devices/lamp-1/{number}" for number in range(2_000)]}
        )
    # What fits is verified too: nobody gets a token that can't be used.
    size = 0
    for count in range(100, 2_000, 100):
        try:
            issued = request_handler.tokens.issue(
                LAMP, {"publish": [f"devices/lamp-1/{n}" for n in range(count)]}
            )
        except PermissionsTooLong:
            break
        size = len(issued.token)
        assert request_handler.tokens.verify(issued.token.encode())[1] == issued.grant
    assert TOKEN_BYTES - 4_000 < size <= TOKEN_BYTES


class Counting:
    """The algorithm, counting the signatures it is asked to check."""

    def __init__(self, checker) -> None:
        self.checker = checker
        self.asked = 0

    def verify(self, *given) -> bool:
        self.asked += 1
        return self.checker.verify(*given)


@pytest.fixture
def counted(monkeypatch):
    request_handler = RequestHandler(SigningKeys.of_keys([key(1)], NOW))
    counting = Counting(request_handler.tokens.keys._checker)
    monkeypatch.setattr(request_handler.tokens.keys, "_checker", counting)
    return request_handler, counting


def test_a_token_that_is_known_costs_no_second_signature(counted):
    request_handler, counting = counted
    token = request_handler.token()
    for _ in range(5):
        request_handler.tokens.verify(token)
    assert counting.asked == 1
    for _ in range(2):
        # Another signature: its last characters are "AA" in one token of sixteen anyway.
        request_handler.fault(token[:-40] + (b"B" if token[-40:-39] == b"A" else b"A") + token[-39:])
    assert counting.asked == 3
    assert len(request_handler.tokens._genuine) == 1, "a wrong one takes no room"


@pytest.mark.parametrize(("name", "value"), [("_GENUINE_MAX", 3), ("_GENUINE_BYTES_MAX", 2_000)])
def test_what_is_known_is_bounded_and_the_oldest_goes_first(counted, monkeypatch, name, value):
    request_handler, counting = counted
    monkeypatch.setattr(module, name, value)
    issued = [request_handler.token() for _ in range(4)]
    assert 500 < len(issued[0]) < 666, "three of them are kept"
    for token in issued[:3]:
        request_handler.tokens.verify(token)
    request_handler.tokens.verify(issued[0])  # it is the newest now
    request_handler.tokens.verify(issued[3])
    assert counting.asked == 4
    assert len(request_handler.tokens._genuine) == 3
    request_handler.tokens.verify(issued[0])
    assert counting.asked == 4
    request_handler.tokens.verify(issued[1])
    assert counting.asked == 5


def test_no_token_lies_about_in_memory_or_shows():
    request_handler = RequestHandler()
    issued = request_handler.issue()
    request_handler.tokens.verify(issued.token.encode())
    assert issued.token.encode() not in request_handler.tokens._genuine
    assert issued.token not in repr(issued)
    assert SEEDS[1].hex() not in repr(vars(KEYS))
    assert "ssss" not in repr(vars(SECRET))


@pytest.mark.parametrize(
    "password",
    [
        b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
        b"eyJhbGciOiJub25lIn0.e30.",
        b"eyJ..",
        b"eyJ-_09azAZ.A.B",
        b"eyJ" + b"A" * 65_000 + b".A.B",
        *(
            base64.urlsafe_b64encode(header).rstrip(b"=") + b".A.B"
            for header in (
                b'{ "alg":"HS256"}',
                b'{\n  "alg": "HS256"\n}',
                b'{\r\n\t"alg":1}',
                b' {"alg":1}',
                b'\n{"a":1}',
            )
        ),
    ],
    ids=range(10),
)
def test_what_looks_like_a_token(password):
    assert looks_like_token(password)


@pytest.mark.parametrize(
    "password",
    [
        b"",
        b"secret",
        b"eyJ",
        b"eyJ.A",
        b"eyJ.A.B.C",
        b"EYJ.A.B",
        b" eyJ.A.B",
        b"eyJ.A.B\n",
        b"eyJ.A B.C",
        b"eyJ.A.B=",
        b"eyJ.A.\xff",
        "eyJ.ä.B".encode(),
        b"ewok.at.home",
        b"e.A.B",
        b"e30.A.B",
        base64.urlsafe_b64encode(b"[{}]") + b".A.B",
        b"70aa15b39f5f2826a6fd7731d9455e2fa0069678529c040571667b8cd33c7fae",
    ],
)
def test_what_does_not(password):
    assert not looks_like_token(password)


@given(
    st.lists(st.sampled_from(list(b"eyJ.A-_= \n\xff")), max_size=12).map(bytes),
    st.sampled_from([b"", b"eyJ"]),
)
def test_it_is_told_as_by_the_form_of_a_jwt(rest, beginning):
    """Three parts of base64url (RFC 7515, 3.1), as an expression says: that takes milliseconds for 64 KiB."""
    password = beginning + rest
    form = re.fullmatch(rb"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", password)
    assert looks_like_token(password) is (form is not None and begins_like_a_header(form[1]))


def test_our_tokens_look_like_tokens(request_handler):
    assert looks_like_token(request_handler.token())


# Whoever else has JWT_SECRET may issue tokens, as the contract describes them.

CLAIMS = {
    "iss": "mqtt-security-gateway",
    "sub": "lamp-1",
    "aud": "mqtt",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 60,
    "jti": "theirs",
    "roles": [],
    "permissions": {name: list(filters) for name, filters in PERMISSIONS.items()},
}


def theirs(headers=None, **claims):
    return jwt.encode(CLAIMS | claims, b"s" * 32, algorithm="HS256", headers=headers).encode()


def with_header(header: bytes, secret: bytes = b"s" * 32, digest: str = "sha256") -> bytes:
    """Their token with this text as its header, as no library of ours would write it."""
    body = b".".join(
        base64.urlsafe_b64encode(text).rstrip(b"=") for text in (header, json.dumps(CLAIMS).encode())
    )
    made = base64.urlsafe_b64encode(hmac.digest(secret, body, digest)).rstrip(b"=")
    return body + b"." + made


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"HS256"}',
        b'{"typ":"JWT","alg":"HS256"}',
        b'{"alg": "HS256", "typ": "JWT"}',
        b'{\n  "alg": "HS256",\n  "typ": "JWT"\n}\n',
        b' { "typ":"jwt" , "alg":"HS256" }',
        b'{"alg":"HS256","typ":"application/jwt"}',
        b'{"alg":"HS256","kid":"2026-09"}',
        b'{"kid":"s1","typ":"JWT","alg":"HS256"}',
        b'{"alg":"HS256","typ":"JWT","cty":"json"}',
        b'{"alg":"HS256","typ":"JWT","zip":"DEF","x-mine":{"a":[1]}}',
        b'{"\\u0061lg":"HS256"}',
        '{"alg":"HS256","kid":"schlüssel"}'.encode(),
    ],
    ids=range(12),
)
def test_another_issuers_header_in_the_words_of_its_library(header):
    """RFC 7515, 4: what is not known is ignored, and a `kid` is a hint. JSON has many spellings."""
    token = with_header(header)
    assert looks_like_token(token)
    device, grant = RequestHandler(SECRET).tokens.verify(token)
    assert (device, grant.root, grant.epoch, grant.key_id) == (LAMP, "theirs", None, "hs256")


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        (b'{"alg":"HS256","crit":["exp"],"exp":1}', '"crit"'),
        (b'{"alg":"HS256","crit":[]}', '"crit"'),
        (b'{"alg":"HS256","b64":true}', '"b64"'),
        (b'{"alg":"HS256","b64":false,"crit":["b64"]}', '"crit"'),
        (b'{"alg":"HS256","jku":"https://planted.example"}', '"jku"'),
        (b'{"alg":"HS256","jwk":{"kty":"oct","k":"planted0"}}', '"jwk"'),
        (b'{"alg":"HS256","x5c":["planted0"]}', '"x5c"'),
        (b'{"alg":"HS256","typ":"at+jwt"}', '"typ"'),
        (b'{"alg":"HS256","typ":null}', '"typ"'),
        (b'{"alg":"HS256","typ":["JWT"]}', '"typ"'),
        (b'{"alg":"HS256","kid":1}', '"kid"'),
        (b'{"alg":"HS256","kid":null}', '"kid"'),
        (b'{"typ":"JWT"}', '"alg" is missing'),
        (b'{"alg":"none"}', '"alg" in its header is "none", not "HS256"'),
        (b'{"alg":"RS256"}', '"alg" in its header is "RS256", not "HS256"'),
        (b'{"alg":"hs256"}', '"alg" in its header is not "HS256"'),
        (b'{"alg":"planted0"}', '"alg" in its header is not "HS256"'),
        (b'{"alg":["HS256"]}', '"alg" in its header is not "HS256"'),
        (b'{"alg":"HS256","alg":"HS256"}', "a member twice"),
        (b'{"alg":"none","alg":"HS256"}', "a member twice"),
        (b'{"alg":"HS256","\\u0061lg":"none"}', "a member twice"),
        (b'{"alg":"HS256","kid":"a","kid":"b"}', "a member twice"),
        (b'{"alg":"HS256","x":NaN}', "no JSON object"),
        (b'{"alg":"HS256",}', "no JSON object"),
        (b'{"alg":"HS256"}x', "no JSON object"),
        (b'\xef\xbb\xbf{"alg":"HS256"}', "no JSON object"),
        ('{"alg":"HS256"}'.encode("utf-16-le"), "no JSON object"),
        (b'{"alg":"HS256","kid":"\xff"}', "no JSON object"),
        (b'["HS256"]', "no JSON object"),
        (b"", "no JSON object"),
        (b'{"alg":"HS256","x":"' + b"y" * 1_600 + b'"}', "longer than 2,048 bytes"),
    ],
    ids=range(31),
)
@pytest.mark.parametrize("secret", [b"s" * 32, b"another"], ids=["signed", "not signed"])
def test_a_header_that_is_refused_is_the_cause_that_is_told(header, cause, secret):
    """Whoever looks for a wrong secret, with the right one in his hand, looks in the wrong place."""
    with pytest.raises(TokenRefused) as refused:
        RequestHandler(SECRET).tokens.verify(with_header(header, secret))
    assert cause in refused.value.why
    assert "planted" not in refused.value.why
    assert (refused.value.fault, refused.value.device_id) == (TokenFault.INVALID, None)


@pytest.mark.parametrize("digest", ["sha384", "sha512"])
def test_an_algorithm_that_the_secret_also_knows_is_named(digest):
    token = with_header(f'{{"alg":"HS{digest[3:]}"}}'.encode(), digest=digest)
    with pytest.raises(TokenRefused, match=f'"HS{digest[3:]}", not "HS256"'):
        RequestHandler(SECRET).tokens.verify(token)


def test_a_header_is_read_as_the_one_text_that_it_has():
    """Base64 that decodes to the same bytes is another text, and was not signed as such."""
    header, payload, signature = with_header(b'{"alg":"HS256" }').split(b".")
    assert RequestHandler(SECRET).tokens.verify(b".".join((header, payload, signature)))[0] == LAMP
    for text in (header + b"=", header + b"==", header[:4] + b"\n" + header[4:]):
        body = text + b"." + payload
        made = base64.urlsafe_b64encode(hmac.digest(b"s" * 32, body, "sha256")).rstrip(b"=")
        with pytest.raises(TokenRefused, match="its header is no JSON object"):
            RequestHandler(SECRET).tokens.verify(body + b"." + made)


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        ({"alg": "HS256"}, '"alg" in its header is "HS256", not "EdDSA"'),
        ({"alg": "EdDSA", "kid": "s1", "crit": ["b64"]}, '"crit"'),
        ({"alg": "EdDSA", "kid": "s1", "typ": "JWT", "cty": "x"}, "not written as the gateway writes it"),
        ({"alg": "EdDSA", "kid": "s9", "typ": "JWT"}, "not signed with a key of ours"),
    ],
    ids=range(4),
)
def test_the_cause_is_told_also_where_a_key_pair_signs(header, cause):
    private = jwt.get_algorithm_by_name("EdDSA").prepare_key(KEYS._active.private)
    body = b".".join(
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, CLAIMS)
    )
    token = body + b"." + base64.urlsafe_b64encode(private.sign(body)).rstrip(b"=")
    with pytest.raises(TokenRefused) as refused:
        RequestHandler(KEYS).tokens.verify(token)
    assert cause in refused.value.why


def test_a_key_pair_has_no_other_issuer():
    private = jwt.get_algorithm_by_name("EdDSA").prepare_key(KEYS._active.private)
    token = jwt.encode(CLAIMS, private, algorithm="EdDSA", headers={"kid": "s1"}).encode()
    with pytest.raises(TokenRefused):
        RequestHandler(KEYS).tokens.verify(token)


def test_what_revokes_a_token_of_another_issuer():
    request_handler = RequestHandler(SECRET)
    request_handler.tokens.verify(theirs())
    for device in (
        replace(LAMP, updated_at=NOW + 1),
        replace(LAMP, revocations=(Revocation("theirs", 0, NOW + 60),)),
        replace(LAMP, enabled=False),
    ):
        request_handler.devices["lamp-1"] = device
        with pytest.raises(TokenRefused):
            request_handler.tokens.verify(theirs())


@pytest.mark.parametrize(("claim", "wanted"), [("iss", "mqtt-security-gateway"), ("aud", "mqtt")])
def test_what_a_claim_has_to_be_that_can_be_one_thing_only_is_said(claim, wanted):
    token = jwt.encode({**CLAIMS, claim: "planted"}, b"s" * 32, algorithm="HS256").encode()
    with pytest.raises(TokenRefused, match=f'"{claim}" is not "{wanted}"'):
        RequestHandler(SECRET).tokens.verify(token)


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "roles", "permissions"])
def test_the_claim_that_another_issuer_left_out_is_named(claim):
    claims = {name: value for name, value in CLAIMS.items() if name != claim}
    token = jwt.encode(claims, b"s" * 32, algorithm="HS256").encode()
    with pytest.raises(TokenRefused, match=f'"{claim}" is missing'):
        RequestHandler(SECRET).tokens.verify(token)


@pytest.mark.parametrize(
    ("claims", "named"),
    [
        ({"exp": "soon-planted"}, "exp"),
        ({"iss": "planted"}, "iss"),
        ({"aud": "planted"}, "aud"),
        ({"aud": ["planted"]}, "aud"),
        ({"aud": []}, "aud"),
        ({"roles": "planted"}, "roles"),
        ({"permissions": {"publish": []}}, "permissions.subscribe"),
        ({"permissions": {**CLAIMS["permissions"], "planted": []}}, "permissions"),
        ({"nbf": -1}, "nbf"),
        ({"iat": float(2**60)}, "iat"),
    ],
)
def test_the_claim_that_can_not_be_is_named_and_not_quoted(claims, named):
    with pytest.raises(TokenRefused, match=f'"{named}"') as refused:
        RequestHandler(SECRET).tokens.verify(raw_token(CLAIMS | claims))
    assert "planted" not in refused.value.why


def raw_token(claims):
    """PyJWT itself would not write these."""
    return jwt.api_jws.encode(json.dumps(claims).encode(), b"s" * 32, algorithm="HS256").encode()


def test_a_date_of_another_issuer_may_be_a_fraction():
    request_handler = RequestHandler(SECRET)
    token = raw_token(CLAIMS | {"iat": NOW - 0.5, "nbf": NOW - 0.25, "exp": NOW + 9.75})
    _, grant = request_handler.tokens.verify(token)
    assert (grant.issued_at, grant.expires_at) == (NOW - 1, NOW + 9)


@pytest.mark.parametrize("audience", [["mqtt"], ["http", "mqtt"]])
def test_the_audience_of_another_issuer_may_be_a_list(audience):
    assert RequestHandler(SECRET).tokens.verify(raw_token(CLAIMS | {"aud": audience}))[0] == LAMP


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_clock_of_another_issuer_may_be_thirty_seconds_ahead_and_no_more(claim):
    assert RequestHandler(SECRET).tokens.verify(raw_token(CLAIMS | {claim: NOW + 30}))[0] == LAMP
    with pytest.raises(TokenRefused, match="not valid yet"):
        RequestHandler(SECRET).tokens.verify(raw_token(CLAIMS | {claim: NOW + 31}))


def test_a_token_that_is_renewed_from_one_of_a_clock_ahead_is_good_at_once():
    request_handler = RequestHandler(SECRET)
    _, grant = request_handler.tokens.verify(raw_token(CLAIMS | {"iat": NOW + 20}))
    assert request_handler.tokens.verify(request_handler.issue(parent=grant).token.encode())[0] == LAMP


@pytest.mark.parametrize("kind", ["PUBLIC KEY", "RSA PRIVATE KEY", "CERTIFICATE", "OPENSSH PRIVATE KEY"])
@pytest.mark.parametrize("form", ["-----BEGIN %s-----\n%s\n-----END %s-----", "\n-----BEGIN %s-----\n%s%.0s"])
def test_a_pem_given_as_a_secret_is_refused(kind, form):
    with pytest.raises(ValueError, match="JWT_SECRET is a key for another algorithm"):
        SigningKeys.of_secret((form % (kind, "QUJD" * 20, kind)).encode())


@pytest.mark.parametrize("keys", [KEYS, SECRET], ids=["EdDSA", "HS256"])
@pytest.mark.parametrize("behind", [b"==", b"=", b"A", b"AAAA", b".", b".x", b"\n", b" ", b"%3D%3D", b"\0"])
def test_padding_and_other_bytes_behind_a_signature_are_refused(keys, behind):
    request_handler = RequestHandler(keys)
    token = request_handler.issue().token.encode()
    assert request_handler.tokens.verify(token)[0] == LAMP
    with pytest.raises(TokenRefused):
        request_handler.tokens.verify(token + behind)
