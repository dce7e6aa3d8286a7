"""What the header of a token may contain (JOSE header: RFC 7515, 4), and what to say of one that is refused.

A header decides nothing: algorithm and keys are given (RFC 8725, 2.1 and 3.1). With a key pair, the gateway's
own headers have exactly one form for each key. With JWT_SECRET, other issuers write headers as their
libraries do, and those are read here. Must not know keys: a header that is read here has been signed by us,
or will be refused.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

HEADER_BYTES = 2_048
"""Longest header that is read, in bytes of base64url: about twenty times what a library writes."""

_ALGORITHMS = frozenset(
    {"none", "EdDSA", "Ed25519", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512"}
    | {"ES256", "ES384", "ES512", "ES256K", "PS256", "PS384", "PS512"}
)
"""Names that our log may quote; any other text is the peer's own."""
_BRINGS_A_KEY = ("jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256")
_TYPES = frozenset({"jwt", "application/jwt"})
"""RFC 7519, 5.1, and RFC 7515, 4.1.9, which leaves out `application/`; media types have no case."""
_OPENS_AN_OBJECT = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"')


class NotHeader(Exception):
    """No header of a token that is accepted. The text is for our log, and quotes nothing of it."""


def base64url(data: bytes) -> bytes:
    """Base64url without padding, as in a token (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def written_header(algorithm: str, key_id: str) -> bytes:
    """The encoded header of the tokens that we sign with this key."""
    return base64url(f'{{"alg":"{algorithm}","kid":"{key_id}","typ":"JWT"}}'.encode())


def begins_like_a_header(text: bytes) -> bool:
    """Whether this base64url text encodes a JSON object: mostly it begins with `eyJ`, if without blanks."""
    if text.startswith(b"eyJ"):
        return True
    head = text[:HEADER_BYTES]
    return _OPENS_AN_OBJECT.match(base64.urlsafe_b64decode(head[: len(head) // 4 * 4])) is not None


def read_header(text: bytes, algorithm: str) -> str | None:
    """The `kid` of a header that is as it has to be for this algorithm. Raises NotHeader.

    Other members are ignored (RFC 7515, 4), except for those that would change how the token has to be read.
    """
    members = _members(text)
    if "crit" in members:
        raise NotHeader('its header has "crit": it asks for what the gateway does not know')
    if "b64" in members:
        raise NotHeader('its header has "b64": its payload would not be the text that was signed')  # RFC 7797
    for name in _BRINGS_A_KEY:
        if name in members:
            raise NotHeader(f'its header has "{name}": no key is taken from a token')
    _demand_algorithm(members, algorithm)
    kind = members.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        # A JWT of a different type must not pass for a token (RFC 8725, 3.11).
        raise NotHeader('"typ" in its header is not "JWT"')
    key_id = members.get("kid")
    if "kid" in members and not isinstance(key_id, str):
        raise NotHeader('"kid" in its header is no text')
    return key_id


def _demand_algorithm(members: dict[str, Any], algorithm: str) -> None:
    if "alg" not in members:
        raise NotHeader('"alg" is missing in its header')
    named = members["alg"]
    if named != algorithm:
        shown = f'is "{named}", not' if isinstance(named, str) and named in _ALGORITHMS else "is not"
        raise NotHeader(f'"alg" in its header {shown} "{algorithm}"')


def _members(text: bytes) -> dict[str, Any]:
    if len(text) > HEADER_BYTES:
        raise NotHeader(f"its header is longer than {HEADER_BYTES:,} bytes")
    try:
        data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        # Decoded first, for with bytes the parser would try other encodings.
        members = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise NotHeader("its header is no JSON object") from None
    if not isinstance(members, dict) or base64url(data) != text:
        raise NotHeader("its header is no JSON object")
    return members


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a repeated member, of which different readers would use different ones (RFC 7515, 4)."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise NotHeader("its header has a member twice")
    return members


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
