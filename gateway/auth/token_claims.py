"""The claims of a token (RFC 7519, 4): what each is called and may be, and the grant that they say.

Must not know keys, signatures or the clock: whoever reads claims here has found them to be signed by us.
docs/adr/0007 says what those of our own are for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from gateway.mqtt.topics import filter_fault
from gateway.policy.engine.identity import Device, Grant, is_device_id

ISSUER = "mqtt-security-gateway"
AUDIENCE = "mqtt"
PRIOR_KIDS_MAX = 8
"""Keys that may have signed the tokens before one of a chain: each rotation adds one."""
_NARROWED_DIGITS = 32
"""Hexadecimal, 128 bits: nobody finds permissions with the same digest."""


class NotClaims(Exception):
    """These are not the claims of a token. The text quotes nothing of them."""


class _Permissions(msgspec.Struct, forbid_unknown_fields=True):
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    encrypt: tuple[str, ...]
    decrypt: tuple[str, ...]


ACTIONS = _Permissions.__struct_fields__

CLOCK_AHEAD = 30
"""Seconds that the clock of whoever shares JWT_SECRET may be ahead of ours."""

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Date = _Seconds | Annotated[float, msgspec.Meta(ge=0, le=2**53)]
"""NumericDate (RFC 7519, 2), which may be a fraction."""
_Audience = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Digest = Annotated[str, msgspec.Meta(pattern=rf"\A[0-9a-f]{{{_NARROWED_DIGITS}}}\Z")]


class _Common(msgspec.Struct, kw_only=True):
    """What is required of every token, and what may be there."""

    iss: Literal["mqtt-security-gateway"]
    sub: str
    jti: _Id
    roles: tuple[str, ...]
    permissions: _Permissions
    root: _Id | None = None
    """`jti` of the first token of the chain; else it is this one."""
    root_iat: _Seconds | None = None
    """`iat` of the first token of the chain. Tokens of older versions have none: theirs begins with them."""
    epoch: _Seconds | None = None
    """The device's `token_epoch`."""
    narrowed: _Digest | None = None
    """Digest of the permissions that it, or one before it in its chain, was narrowed to."""
    prior_kids: Annotated[tuple[_Id, ...], msgspec.Meta(max_length=PRIOR_KIDS_MAX)] | None = None
    """`kid` of those before it in its chain, where a different key signed them."""


class _Claims(_Common, kw_only=True):
    """As we write them; a claim that is not here is ignored (RFC 7519, 4)."""

    aud: Literal["mqtt"]
    iat: _Seconds
    nbf: _Seconds
    exp: _Seconds


class _CommonClaims(_Common, kw_only=True):
    """As others write them, who share JWT_SECRET (HS256) and may issue tokens too, by their own libraries."""

    aud: Literal["mqtt"] | _Audience
    iat: _Date
    nbf: _Date
    exp: _Date


_ours = msgspec.json.Decoder(_Claims)
_shared = msgspec.json.Decoder(_CommonClaims)
_MISSING = re.compile(r"missing required field `(\w+)`(?: - at `\$\.(\w+))?")
_FIXED = {"iss": ISSUER, "aud": AUDIENCE}
_WRONG = re.compile(r" - at `\$\.(\w+)")


def narrowed_to(permissions: Mapping[str, tuple[str, ...]]) -> str:
    """The digest of permissions, whatever their order."""
    canonical = json.dumps(
        [[action, sorted(set(permissions.get(action, ())))] for action in ACTIONS], separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:_NARROWED_DIGITS]


def claims_of(device: Device, grant: Grant) -> dict[str, Any]:
    """The claims of a token that grants this to its device, in the order they are written."""
    return {
        "iss": ISSUER,
        "sub": device.device_id,
        "aud": AUDIENCE,
        "iat": grant.issued_at,
        "nbf": grant.issued_at,
        "exp": grant.expires_at,
        "jti": grant.token_id,
        "root": grant.root,
        "root_iat": grant.chain_began,
        "epoch": grant.epoch,
        **({"narrowed": grant.narrowed_digest} if grant.narrowed_digest else {}),
        **({"prior_kids": list(grant.prior_keys)} if grant.prior_keys else {}),
        "roles": list(device.roles),
        "permissions": {action: list(filters) for action, filters in grant.permissions.items()},
    }


def read_claims(payload: bytes, *, key_id: str, shared: bool) -> tuple[str, Grant, int]:
    """The device of a token, what it grants, and since when (Unix seconds). Raises NotClaims.

    `payload` is the token's middle part, `key_id` the key that signed it; `shared`: others have it too.
    """
    claims: _Claims | _CommonClaims
    try:
        text = base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))
        claims = _shared.decode(text) if shared else _ours.decode(text)
    except msgspec.ValidationError as error:
        raise NotClaims(_fault(str(error))) from None
    except (ValueError, RecursionError):
        raise NotClaims("claims that are not those of a token") from None
    theirs = None in {claims.root, claims.epoch}
    if theirs and not shared:
        name = "root" if claims.root is None else "epoch"
        raise NotClaims(f'claims that are not those of a token: "{name}" is missing')
    if AUDIENCE not in ((claims.aud,) if isinstance(claims.aud, str) else claims.aud):
        raise NotClaims('claims that are not those of a token: "aud" is for somebody else')
    # A second that has begun is over for the end of a token, and not yet there for its beginning.
    issued_at, expires_at = math.floor(claims.iat), math.floor(claims.exp)
    # What was renewed from such a token is never issued before it, so that it has its clock.
    by_their_clock = shared and (theirs or claims.root != claims.jti)
    begins = math.ceil(max(claims.nbf, claims.iat)) - (CLOCK_AHEAD if by_their_clock else 0)
    some = claims.permissions
    filters = (some.publish, some.subscribe, some.encrypt, some.decrypt)
    if not is_device_id(claims.sub) or any(filter_fault(one) for each in filters for one in each):
        raise NotClaims("a subject or a permission that can't be")
    permissions = dict(zip(ACTIONS, filters, strict=True))
    narrowed = claims.narrowed or ""
    if theirs and not narrowed:
        # Other issuers don't say whether they give all that the device may do: they are taken to give less.
        narrowed = narrowed_to(permissions)
    grant = Grant(
        token_id=claims.jti,
        root=claims.root or claims.jti,
        epoch=claims.epoch,
        issued_at=issued_at,
        expires_at=expires_at,
        permissions=permissions,
        key_id=key_id,
        prior_keys=claims.prior_kids or (),
        narrowed_digest=narrowed,
        root_issued_at=issued_at if claims.root_iat is None else min(claims.root_iat, issued_at),
    )
    return claims.sub, grant, begins


def _fault(words: str) -> str:
    """Which claim is missing or can't be. The decoder's own words would quote its value."""
    if found := _MISSING.search(words):
        name = f"{found[2]}.{found[1]}" if found[2] else found[1]
        return f'claims that are not those of a token: "{name}" is missing'
    if found := _WRONG.search(words):
        one = _FIXED.get(found[1])
        wanted = "is not what it has to be" if one is None else f'is not "{one}"'
        return f'claims that are not those of a token: "{found[1]}" {wanted}'
    return "claims that are not those of a token"
