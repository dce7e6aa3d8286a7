"""PyJWT, CVE-2026-102266 to -102275: other spellings of keys, of signatures and of tokens."""

from __future__ import annotations

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from harness.login_gate import HEADER, Gate, encoded, signed

from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import TokenFault

PRIVATE = {"Ed25519": ed25519.Ed25519PrivateKey.generate(), "P-256": ec.generate_private_key(ec.SECP256R1())}
BOM = b"\xef\xbb\xbf"


def files(name: str) -> dict[str, bytes]:
    """A key as it stands in files."""
    private = PRIVATE[name]
    public = private.public_key()
    return {
        "public PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "private PEM": private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "OpenSSH": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "JWK": json.dumps({"kty": "EC", "crv": "P-256", "x": "x" * 43, "y": "y" * 43}).encode(),
    }


SPELLINGS = {
    "as it is": lambda key: key,
    "CRLF": lambda key: key.replace(b"\n", b"\r\n"),
    "CR": lambda key: key.replace(b"\n", b"\r"),
    "blanks before": lambda key: b"  \t" + key,
    "blank lines before": lambda key: b"\n\r\n \n" + key,
    "a byte order mark": lambda key: BOM + key,
    "a byte order mark and blanks": lambda key: BOM + b" \n" + key,
    "blanks behind": lambda key: key + b" \n\n",
    "blanks at each line's end": lambda key: key.replace(b"\n", b"  \n"),
    "lines moved in": lambda key: key.replace(b"\n", b"\n    "),
    "in one line": lambda key: key.replace(b"\n", b""),
    "in one line with blanks": lambda key: key.replace(b"\n", b" "),
}


@pytest.mark.parametrize("algorithm", PRIVATE)
@pytest.mark.parametrize("form", ["public PEM", "private PEM", "OpenSSH", "JWK"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_key_of_another_kind_is_no_secret_in_any_spelling(algorithm: str, form: str, spelling: str) -> None:
    """Or everybody who has the public half could sign (algorithm confusion)."""
    secret = SPELLINGS[spelling](files(algorithm)[form])
    with pytest.raises(ValueError, match="JWT_SECRET is a key for another algorithm"):
        SigningKeys.of_secret(secret)


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_nor_is_a_public_key_without_its_first_and_last_line(algorithm: str) -> None:
    lines = files(algorithm)["public PEM"].split(b"\n")[1:-2]
    for secret in (b"\n".join(lines), b"".join(lines), b"\r\n".join(lines), b" " + b" ".join(lines) + b"\n"):
        with pytest.raises(ValueError, match="JWT_SECRET is a key for another algorithm"):
            SigningKeys.of_secret(secret)
        der = base64.b64decode(b"".join(lines))
        with pytest.raises(ValueError, match="JWT_SECRET is a key for another algorithm"):
            SigningKeys.of_secret(der)


@pytest.mark.parametrize(
    "secret", [b"", b" ", b"\n" * 31, b'{"kty":"oct","k":""}', b'{"kty":"oct","k":""}' + b" " * 40]
)
def test_an_empty_key_also_in_a_jwk(secret: bytes) -> None:
    with pytest.raises(ValueError, match="JWT_SECRET"):
        SigningKeys.of_secret(secret)


@pytest.mark.parametrize(
    "secret",
    [
        bytes(range(32)),
        base64.b64encode(bytes(range(32))) + b"\n",
        b"0123456789abcdef" * 4,
        b"correct horse " * 3,
    ],
)
def test_what_is_a_secret_stays_one_byte_for_byte(secret: bytes) -> None:
    """What was looked at otherwise is not what signs: others have the same bytes."""
    token = SigningKeys.of_secret(secret).sign({"sub": "lamp-1"})
    assert jwt.decode(token, secret, algorithms=["HS256"], options={"enforce_minimum_key_length": False})


ADDED = (
    b"=",
    b"==",
    b"====",
    b"\n",
    b"\r\n",
    b" ",
    b"\0",
    b".",
    b"A",
    b"AA",
    b"AAAA",
    b"%3D",
    b"-",
    b"~",
    b"\xff",
)


async def test_padding_and_other_bytes_behind_before_and_inside_a_signature(gate: Gate) -> None:
    """One signature has one spelling: also where the decoder of Base64 would skip what it does not know."""
    good = gate.good()
    head, _, signature = good.rpartition(b".")
    for added in ADDED:
        for other in (
            signature + added,
            added + signature,
            signature[:40] + added + signature[40:],
            signature[:-1] + added + signature[-1:],
        ):
            gate.keeps_out(head + b"." + other)
    gate.keeps_out(head + b"." + base64.b64encode(base64.urlsafe_b64decode(signature + b"==")))


async def test_a_revoked_token_in_another_spelling(gate: Gate) -> None:
    """It is revoked by the id in it. The same claims signed once more, in other words, are the same token."""
    issued = gate.issue()
    claims = json.loads(base64.urlsafe_b64decode(issued.token.split(".")[1] + "=="))
    shuffled = dict(sorted(claims.items(), reverse=True))
    spellings = [
        issued.token.encode(),
        gate.signed(shuffled),
        gate.signed(json.dumps(claims, indent=2).encode()),
        gate.signed(json.dumps(claims | {"more": "than there was"}).encode()),
        signed(
            HEADER, json.dumps(claims, ensure_ascii=True).replace("l", "\\u006c").encode(), gate.private()
        ),
    ]
    for token in spellings:
        assert gate.enter(token).device.device_id == "lamp-1"
    now = gate.now() // 1000
    await gate.store.tokens.revoke(
        device_id="lamp-1", root=issued.grant.root, since=issued.grant.issued_at, until=now + 7200
    )
    await gate.follow()
    for token in spellings:
        gate.keeps_out(token, TokenFault.REVOKED)
    assert encoded(b"\xfb\xff") == b"-_8"
