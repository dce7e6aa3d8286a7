"""The claims of a token (RFC 7519, 4): their names, their valid values, and the grant that they express.

Must not know keys, signatures or the clock: the caller has verified that the claims are signed.
docs/adr/0007 explains the claims that are our own.
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
"""How many other keys may have signed the earlier tokens of a chain: each rotation adds one."""
_NARROWED_DIGITS = 32
"""Hexadecimal digits of the digest of a narrowed token's permissions: 128 bits, against collisions."""


class NotClaims(Exception):
    """These are not the claims of a token. The text quotes nothing of them."""


class _Permissions(msgspec.Struct, forbid_unknown_fields=True):
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    encrypt: tuple[str, ...]
    decrypt: tuple[str, ...]


ACTIONS = _Permissions.__struct_fields__

CLOCK_AHEAD = 30
"""Seconds that the clock of another issuer, which shares JWT_SECRET, may be ahead of ours."""

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Date = _Seconds | Annotated[float, msgspec.Meta(ge=0, le=2**53)]
"""NumericDate (RFC 7519, 2), which may be a fraction."""
_Audience = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=16)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Digest = Annotated[str, msgspec.Meta(pattern=rf"\A[0-9a-f]{{{_NARROWED_DIGITS}}}\Z")]


class _RequiredClaims(msgspec.Struct, kw_only=True):
    """The claims that every token needs, and those that it may have; the others depend on the issuer."""

    iss: Literal["mqtt-security-gateway"]
    sub: str
    jti: _Id
    roles: tuple[str, ...]
    permissions: _Permissions
    root: _Id | None = None
    """`jti` of the first token of the chain. None: this is the first."""
    root_iat: _Seconds | None = None
    """`iat` of the first token of the chain. Tokens of older versions lack it: their chain begins with
    them."""
    epoch: _Seconds | None = None
    """The device's `token_epoch`."""
    narrowed: _Digest | None = None
    """Digest of the permissions to which it, or an earlier token of its chain, was narrowed."""
    prior_kids: Annotated[tuple[_Id, ...], msgspec.Meta(max_length=PRIOR_KIDS_MAX)] | None = None
    """`kid` of the earlier tokens of its chain that were signed by a different key."""


class _OwnClaims(_RequiredClaims, kw_only=True):
    """The claims as we write them; unknown ones are ignored (RFC 7519, 4)."""

    aud: Literal["mqtt"]
    iat: _Seconds
    nbf: _Seconds
    exp: _Seconds


class _OtherIssuerClaims(_RequiredClaims, kw_only=True):
    """The claims as other issuers may write them, who share JWT_SECRET (HS256), with their own libraries."""

    aud: Literal["mqtt"] | _Audience
    iat: _Date
    nbf: _Date
    exp: _Date


_ours = msgspec.json.Decoder(_OwnClaims)
_shared = msgspec.json.Decoder(_OtherIssuerClaims)
_MISSING = re.compile(r"missing required field `(\w+)`(?: - at `\$\.(\w+))?")
_FIXED = {"iss": ISSUER, "aud": AUDIENCE}
_WRONG = re.compile(r" - at `\$\.(\w+)")


def narrowed_to(permissions: Mapping[str, tuple[str, ...]]) -> str:
    """The digest of permissions, which does not depend on their order."""
    canonical = json.dumps(
        [[action, sorted(set(permissions.get(action, ())))] for action in ACTIONS], separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:_NARROWED_DIGITS]


def claims_of(device: Device, grant: Grant) -> dict[str, Any]:
    """The claims of a token that grants this to the device, in the order in which they are written."""
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
    """The device id of a token, what it grants, and from when on (Unix seconds). Raises NotClaims.

    `payload` is the token's middle part, `key_id` the key that signed it; `shared`: other issuers have it,
    too.
    """
    claims: _OwnClaims | _OtherIssuerClaims
    try:
        text = base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))
        claims = _shared.decode(text) if shared else _ours.decode(text)
    except msgspec.ValidationError as error:
        raise NotClaims(_fault(str(error))) from None
    except (ValueError, RecursionError):
        raise NotClaims("claims that are not those of a token") from None
    by_other_issuer = None in {claims.root, claims.epoch}
    if by_other_issuer and not shared:
        name = "root" if claims.root is None else "epoch"
        raise NotClaims(f'claims that are not those of a token: "{name}" is missing')
    if AUDIENCE not in ((claims.aud,) if isinstance(claims.aud, str) else claims.aud):
        raise NotClaims('claims that are not those of a token: "aud" is for somebody else')
    # Fractions are rounded so that the token is valid for less time, not more.
    issued_at, expires_at = math.floor(claims.iat), math.floor(claims.exp)
    # A token renewed from another issuer's is never issued before it, so it follows that clock, too.
    by_their_clock = shared and (by_other_issuer or claims.root != claims.jti)
    begins = math.ceil(max(claims.nbf, claims.iat)) - (CLOCK_AHEAD if by_their_clock else 0)
    some = claims.permissions
    filters = (some.publish, some.subscribe, some.encrypt, some.decrypt)
    if not is_device_id(claims.sub) or any(filter_fault(one) for each in filters for one in each):
        raise NotClaims("a subject or a permission that can't be")
    permissions = dict(zip(ACTIONS, filters, strict=True))
    narrowed = claims.narrowed or ""
    if by_other_issuer and not narrowed:
        # Other issuers don't say whether they grant all that the device may do: assume that it is less.
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
    """Which claim is missing or invalid. The decoder's own text would quote its value."""
    if found := _MISSING.search(words):
        name = f"{found[2]}.{found[1]}" if found[2] else found[1]
        return f'claims that are not those of a token: "{name}" is missing'
    if found := _WRONG.search(words):
        one = _FIXED.get(found[1])
        wanted = "is not what it has to be" if one is None else f'is not "{one}"'
        return f'claims that are not those of a token: "{found[1]}" {wanted}'
    return "claims that are not those of a token"
