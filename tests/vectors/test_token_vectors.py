"""The vectors of the tokens: the gateway against them, and the verifier of docs/."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import TokenRefused, Tokens, looks_like_token
from gateway.keys.key_ring import Key, KeyState
from gateway.policy.engine.identity import Device

VECTORS = json.loads(Path(__file__).with_name("tokens.json").read_text("utf-8"))
SECRET = VECTORS["secret"].encode()
EDDSA = SigningKeys.of_keys(
    [
        Key("s1", bytes.fromhex(VECTORS["seeds"]["s1"]), KeyState.VERIFY_ONLY, 0, until=2**40),
        Key("s2", bytes.fromhex(VECTORS["seeds"]["s2"]), KeyState.ACTIVE, 0),
    ],
    0,
)
HS256 = SigningKeys.of_secret(SECRET)
VERIFIER = Path(__file__).resolve().parents[2] / "docs" / "verify_token.py"

accepts = pytest.mark.parametrize("vector", VECTORS["accepts"], ids=lambda vector: vector["name"])
refuses = pytest.mark.parametrize("vector", VECTORS["refuses"], ids=lambda vector: vector["name"])


class Devices:
    """A store that knows every device, with this epoch."""

    available = True

    def __init__(self, epoch):
        self.epoch = epoch

    def get(self, device_id):
        return Device(
            device_id, (), {}, enabled=True, credential="", version=1, created_at=0, updated_at=0,
            token_epoch=self.epoch,
        )  # fmt: skip


def tokens(keys, vector) -> Tokens:
    epoch = vector.get("claims", {}).get("epoch", 4)
    return Tokens(keys, Devices(epoch), now=lambda: vector["now"] * 1000, ttl=1)


def keys_of(vector) -> SigningKeys:
    return HS256 if vector["alg"] == "HS256" else EDDSA


@pytest.fixture(scope="module")
def verifier():
    spec = importlib.util.spec_from_file_location("verify_token", VERIFIER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.verify_token


# RFC 7518, 6.4: as whoever shares the secret may hold it.
SHARED = {
    "kty": "oct",
    "kid": "hs256",
    "alg": "HS256",
    "k": base64.urlsafe_b64encode(SECRET).decode().rstrip("="),
}
WITH_SECRET = {"keys": [*VECTORS["jwks"]["keys"], SHARED]}


@accepts
def test_the_gateway_accepts_it(vector):
    device, grant = tokens(keys_of(vector), vector).verify(vector["token"].encode())
    claims = vector["claims"]
    assert device.device_id == claims["sub"]
    assert (grant.token_id, grant.root, grant.epoch) == (claims["jti"], claims["root"], claims["epoch"])
    assert (grant.issued_at, grant.expires_at) == (claims["iat"], claims["exp"])
    assert (grant.key_id, grant.chain_began) == (vector["kid"], claims.get("root_iat", claims["iat"]))
    assert (grant.narrowed_digest, list(grant.prior_keys)) == (
        claims.get("narrowed", ""),
        claims.get("prior_kids", []),
    )
    assert {action: list(filters) for action, filters in grant.permissions.items()} == claims["permissions"]
    assert looks_like_token(vector["token"].encode())


def test_what_narrowed_means():
    """SHA-256 over the permissions as JSON, without blanks and sorted: its first 32 digits."""
    (vector,) = [one for one in VECTORS["accepts"] if one["name"] == "narrowed"]
    actions = ("publish", "subscribe", "encrypt", "decrypt")
    permissions = [[action, sorted(vector["claims"]["permissions"][action])] for action in actions]
    text = json.dumps(permissions, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest()[:32] == vector["claims"]["narrowed"]


@accepts
def test_the_gateway_makes_it(vector):
    keys = keys_of(vector)
    if vector["kid"] == "s1":
        keys = SigningKeys.of_keys([Key("s1", bytes.fromhex(VECTORS["seeds"]["s1"]), KeyState.ACTIVE, 0)], 0)
    assert keys.sign(vector["claims"]) == vector["token"]


def test_the_gateway_publishes_these_keys():
    assert EDDSA.jwks() == VECTORS["jwks"]


@refuses
def test_the_gateway_refuses_it(vector):
    with pytest.raises(TokenRefused) as caught:
        tokens(EDDSA, vector).verify(vector["token"].encode())
    assert caught.value.fault == vector["error"]


@refuses
def test_a_gateway_with_a_shared_secret_refuses_it(vector):
    with pytest.raises(TokenRefused):
        tokens(HS256, vector).verify(vector["token"].encode())


@accepts
def test_the_verifier_accepts_it(vector, verifier):
    assert verifier(vector["token"], WITH_SECRET, vector["now"]) == vector["claims"]


@refuses
def test_the_verifier_refuses_it(vector, verifier):
    for jwks in (VECTORS["jwks"], WITH_SECRET):
        with pytest.raises((ValueError, AttributeError, InvalidSignature)):
            verifier(vector["token"], jwks, vector["now"])


def test_the_verifier_is_a_command(tmp_path):
    claims = VECTORS["accepts"][0]["claims"] | {"exp": int(time.time()) + 3600}
    (tmp_path / "jwks.json").write_text(json.dumps(EDDSA.jwks()))
    done = subprocess.run(
        [sys.executable, VERIFIER, tmp_path / "jwks.json"],
        input=EDDSA.sign(claims) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == claims


def test_the_verifier_needs_nothing_of_the_gateway():
    imports = [line for line in VERIFIER.read_text().splitlines() if "import" in line]
    words = {word for line in imports for word in line.replace(".", " ").split()}
    assert not words & {"gateway", "jwt"}
