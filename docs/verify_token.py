"""Verifies a token of the gateway without it: Python and `cryptography` alone.

    curl -s --cacert ca.crt https://gateway:8443/.well-known/jwks.json > jwks.json
    python verify_token.py jwks.json < token

It tells what the gateway has signed. Whether the token was revoked since, or its device disabled, the
gateway alone knows: ask its topic `validate`.

For other languages: tests/vectors/tokens.json says what has to be accepted, and what must not.
"""

from __future__ import annotations

import base64
import hmac
import json
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CLAIMS = {"iss", "sub", "aud", "iat", "nbf", "exp", "jti", "root", "epoch", "roles", "permissions"}


def decoded(text: str) -> bytes:
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise ValueError("another spelling of the same token")
    return data


def verify_token(token: str, jwks: dict, now: float) -> dict:
    """The claims of a token that is good at `now` (Unix seconds). Raises ValueError or InvalidSignature."""
    header, payload, signature = token.split(".")
    named = json.loads(decoded(header))
    key = next((key for key in jwks["keys"] if key["kid"] == named.get("kid")), None)
    # The algorithm is our key's. What the header says of it is compared, and never followed.
    if key is None or named != {"alg": key["alg"], "kid": key["kid"], "typ": "JWT"}:
        raise ValueError("signed with another key")
    signed = f"{header}.{payload}".encode()
    if key["alg"] == "EdDSA":
        Ed25519PublicKey.from_public_bytes(decoded(key["x"])).verify(decoded(signature), signed)
    elif key["alg"] != "HS256":
        raise ValueError("another algorithm")
    elif not hmac.compare_digest(hmac.digest(decoded(key["k"]), signed, "sha256"), decoded(signature)):
        raise ValueError("signed with another secret")
    claims = json.loads(decoded(payload))
    if not claims.keys() >= CLAIMS or (claims["iss"], claims["aud"]) != ("mqtt-security-gateway", "mqtt"):
        raise ValueError("a token for something else")
    if any(type(claims[name]) is not int for name in ("iat", "nbf", "exp")):
        raise ValueError("a time that is no whole number")
    if not max(claims["iat"], claims["nbf"]) <= now < claims["exp"]:
        raise ValueError("expired, or not valid yet")
    return claims


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(
            "usage: python verify_token.py JWKS_FILE < TOKEN\nIt prints the claims of a token that is good."
        )
    published = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    print(json.dumps(verify_token(sys.stdin.read().strip(), published, time.time()), indent=1))
