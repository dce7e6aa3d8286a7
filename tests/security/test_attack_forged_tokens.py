"""What somebody tries who has no good token and makes one. Each test is named after what it stops.

They come through the gate that every connection takes, and leave as somebody who is not known: one answer
for all, and no Argon2 run for it.
"""

from __future__ import annotations

import builtins
import json
import os
import socket

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from harness.login_gate import HEADER, Gate, encoded, part, signed

from gateway.auth.signing_keys import SigningKeys

# Whoever knows the public key signs with it


def forms(gate: Gate) -> dict[str, bytes]:
    """All that anybody may take the public key for, as the secret of HMAC."""
    public = gate.private().public_key()
    spki = PublicFormat.SubjectPublicKeyInfo
    pem = public.public_bytes(Encoding.PEM, spki)
    (jwk,) = gate.keys().jwks()["keys"]
    return {
        "raw": public.public_bytes_raw(),
        "der": public.public_bytes(Encoding.DER, spki),
        "pem": pem,
        "pem without line end": pem.strip(),
        "openssh": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "jwk": json.dumps(jwk).encode(),
        "jwk, compact": json.dumps(jwk, separators=(",", ":")).encode(),
        "jwks": json.dumps(gate.keys().jwks()).encode(),
        "x": jwk["x"].encode(),
        "kid": b"s1",
        "nothing": b"",
    }


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("kid", ["s1", "hs256", None])
async def test_algorithm_confusion(gate: Gate, algorithm: str, kid: str | None) -> None:
    """The public key is taken for the secret of HMAC (CVE-2015-9235 and its many successors)."""
    header = {"alg": algorithm, "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    for secret in forms(gate).values():
        gate.keeps_out(signed(header, gate.claims(), secret, f"sha{algorithm[2:]}"))
        # What the header says is not followed in the other direction either.
        gate.keeps_out(signed(HEADER, gate.claims(), secret, f"sha{algorithm[2:]}"))


async def test_a_private_key_of_the_attackers_where_there_is_a_shared_secret(gate: Gate) -> None:
    gate.tokens.use(SigningKeys.of_secret(b"s" * 32))
    mine = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(mine.public_key().public_bytes_raw()).decode()}
    for header in ({"alg": "EdDSA", "kid": "hs256", "typ": "JWT"}, HEADER | {"jwk": jwk}, HEADER):
        gate.keeps_out(signed(header, gate.claims(), mine))
    gate.keeps_out(signed(HEADER, gate.claims(), gate.private()))
    for algorithm in ("HS384", "HS512"):
        header = {"alg": algorithm, "kid": "hs256", "typ": "JWT"}
        gate.keeps_out(signed(header, gate.claims(), b"s" * 32, f"sha{algorithm[2:]}"))
    for secret in (b"", b"s" * 31, b"S" * 32, b"s" * 33, b"s" * 32 + b"\0"):
        if secret != b"s" * 32 + b"\0":  # RFC 2104, 3: zeros behind a short key are no part of it
            gate.keeps_out(signed({"alg": "HS256", "kid": "hs256", "typ": "JWT"}, gate.claims(), secret))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "nOnE", "", None, 0, False, [], "EdDSA ", "eddsa"]
)
async def test_alg_none_in_every_spelling(gate: Gate, algorithm: object) -> None:
    for header in (HEADER | {"alg": algorithm}, {"alg": algorithm, "typ": "JWT"}, {"alg": algorithm}):
        unsigned = signed(header, gate.claims(), None)
        gate.keeps_out(unsigned)
        gate.keeps_out(unsigned + encoded(bytes(64)))
        gate.keeps_out(unsigned + gate.good().split(b".")[2])
        gate.keeps_out(unsigned[:-1])


async def test_a_signature_that_is_missing_or_zero(gate: Gate) -> None:
    header, payload, signature = gate.good().split(b".")
    for made in (b"", encoded(bytes(64)), encoded(bytes(32)), signature[:43], signature + signature, b"A"):
        gate.keeps_out(b".".join((header, payload, made)))


# Whoever has a key signs with that


@pytest.mark.parametrize(
    "kid",
    [
        "s2",
        "s0",
        "S1",
        "s01",
        "s1 ",
        " s1",
        "s1\0",
        "s1/../s1",
        "./s1",
        "k1",
        "hs256",
        "",
        "*",
        "%73%31",
        "\u04551",
    ],
)
async def test_foreign_kid(gate: Gate, kid: str) -> None:
    mine = Ed25519PrivateKey.generate()
    for key in (mine, gate.private()):
        gate.keeps_out(signed(HEADER | {"kid": kid}, gate.claims(), key))


@pytest.mark.parametrize("kid", [None, 1, True, 1.5, [], ["s1"], {}, {"kid": "s1"}])
async def test_a_kid_that_is_no_text(gate: Gate, kid: object) -> None:
    gate.keeps_out(gate.signed(gate.claims(), HEADER | {"kid": kid}))


async def test_no_kid(gate: Gate) -> None:
    gate.keeps_out(gate.signed(gate.claims(), {"alg": "EdDSA", "typ": "JWT"}))


@pytest.mark.parametrize(
    "kid",
    [
        "../../../../dev/null",
        "/dev/null",
        "file:///dev/null",
        "signing.key",
        "' UNION SELECT 'x",
        "|cat signing.key",
    ],
)
async def test_a_kid_that_names_a_file_reads_none(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, kid: str
) -> None:
    """With an empty file for a key, HMAC has an empty secret."""
    claims = gate.claims()
    attempts = [signed({"alg": "HS256", "kid": kid, "typ": "JWT"}, claims, b"")]
    attempts += [gate.signed(claims, HEADER | {"kid": kid})]

    def touched(*what: object, **_: object) -> None:
        raise AssertionError(f"{what} was opened for a token")

    with monkeypatch.context() as patched:
        for module, name in ((builtins, "open"), (os, "open"), (os, "stat")):
            patched.setattr(module, name, touched)
        for token in attempts:
            gate.keeps_out(token)


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t", "x5t#S256"])
async def test_a_key_that_the_token_brings_along(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No key comes from a token's header, and nobody is asked for one (RFC 8725, 3.10)."""
    mine = Ed25519PrivateKey.generate()
    x = encoded(mine.public_key().public_bytes_raw()).decode()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "s1", "alg": "EdDSA", "use": "sig"}
    value: object = jwk if name == "jwk" else [x] if name == "x5c" else "http://127.0.0.1:9/jwks.json"
    claims = gate.claims()
    attempts = [
        signed(header, claims, key)
        for key in (mine, gate.private())
        for header in (HEADER | {name: value}, {name: value, "alg": "EdDSA", "typ": "JWT"})
    ]

    def asked(*_: object) -> None:
        raise AssertionError("a token made us ask somebody")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "connect", asked)
        patched.setattr(socket, "getaddrinfo", asked)
        for token in attempts:
            gate.keeps_out(token)


@pytest.mark.parametrize("critical", [["exp"], [], ["b64"], "exp", None, ["x"], [1]])
async def test_crit(gate: Gate, critical: object) -> None:
    """What must be understood and is not must not be ignored (RFC 7515, 4.1.11)."""
    for more in ({}, {"x": 1}, {"b64": False}, {"b64": True}):
        gate.keeps_out(gate.signed(gate.claims(), HEADER | {"crit": critical} | more))


async def test_a_payload_that_is_not_the_one_that_was_signed(gate: Gate) -> None:
    """`b64: false` (RFC 7797) has another text signed than the one that stands there."""
    header = part(HEADER | {"b64": False, "crit": ["b64"]})
    payload = json.dumps(gate.claims()).encode()
    made = encoded(gate.private().sign(header + b"." + payload))
    for shown in (b"", encoded(payload), payload):
        gate.keeps_out(header + b"." + shown + b"." + made)


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"EdDSA","kid":"s1","typ":"JWT","alg":"none"}',
        b'{"alg":"none","alg":"EdDSA","kid":"s1","typ":"JWT"}',
        b'{"alg":"EdDSA","kid":"s9","kid":"s1","typ":"JWT"}',
        b'{"alg":"EdDSA","kid":"s1","typ":"JWT","typ":"JWT"}',
        b'{"\\u0061lg":"EdDSA","kid":"s1","typ":"JWT"}',
        b'{"alg": "EdDSA", "kid": "s1", "typ": "JWT"}',
        b'{"typ":"JWT","kid":"s1","alg":"EdDSA"}',
        b'{"alg":"EdDSA","kid":"s1","typ":"at+jwt"}',
        b'{"alg":"EdDSA","kid":"s1"}',
        b'{"alg":"EdDSA","kid":"s1","typ":"JWT","cty":"JWT"}',
        b'{"alg":"EdDSA","kid":"s1","typ":"JWT","zip":"DEF"}',
        b'\xef\xbb\xbf{"alg":"EdDSA","kid":"s1","typ":"JWT"}',
        b'{"alg":"EdDSA","kid":"s1","typ":"JWT"} ',
        b'[{"alg":"EdDSA","kid":"s1","typ":"JWT"}]',
        b"",
        b"null",
        b"{}",
        b"[" * 20_000,
        b'{"a":' * 4_000 + b"1" + b"}" * 4_000,
        b'{"alg":' + b"9" * 20_000 + b"}",
    ],
    ids=range(20),
)
async def test_a_header_that_two_readers_read_differently(gate: Gate, header: bytes) -> None:
    """Duplicated parameters, other spellings, other kinds of tokens: even under our own key."""
    gate.keeps_out(gate.signed(gate.claims(), header))
