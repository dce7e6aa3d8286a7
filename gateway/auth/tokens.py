"""The gateway's own tokens (JWT, RFC 7519): they say who a device is, the most it may do, and until when.

Owns every reason why a token is not good. `gateway.auth.signing_keys` signs tokens and finds the key that
signed one; `gateway.auth.token_claims` owns the content of a token; `gateway.auth.token_header` owns its
header, which decides nothing (against algorithm confusion, `none`, `jku`: RFC 8725, 2.1 and 3.1). It must not
know files, sockets or the policy.
"""

from __future__ import annotations

import hashlib
import string
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.auth.device_lookup_protocol import Lookup
from gateway.auth.signing_keys import NotSigned, SigningKeys
from gateway.auth.token_claims import ACTIONS, PRIOR_KIDS_MAX, NotClaims, claims_of, narrowed_to, read_claims
from gateway.auth.token_header import begins_like_a_header
from gateway.policy.engine.identity import Device, Grant

TOKEN_BYTES = 32_768
"""Longest token that is issued or accepted, in bytes."""
CHAIN_MAX = 30 * 86_400
"""Default of JWT_CHAIN_MAX, in seconds."""
_GENUINE_MAX = 4_096
"""Genuine tokens (signed by us) that are remembered."""
_GENUINE_BYTES_MAX = 4_194_304
"""Their length in all, in bytes; what is remembered of them takes a few times as much memory."""
_BASE64URL = string.ascii_letters.encode() + string.digits.encode() + b"-_"
"""Characters of base64url (RFC 4648, 5), in which the three parts of a JWT are written (RFC 7515, 3.1)."""


class TokenFault(StrEnum):
    """Why a token is not good, as callers of a service learn it."""

    INVALID = "invalid_token"
    EXPIRED = "token_expired"
    REVOKED = "token_revoked"
    NOT_ACCEPTED = "not_accepted"
    """The device is unknown or disabled."""


class TokenRefused(Exception):
    """`why` is for our log and quotes nothing of the token. `device_id`: None unless we signed it."""

    def __init__(self, fault: TokenFault, why: str, device_id: str | None = None) -> None:
        super().__init__(why)
        self.fault = fault
        self.why = why
        self.device_id = device_id


class PermissionsTooLong(Exception):
    """The permissions do not fit into a token. The text says what to do."""


class ChainOver(Exception):
    """Tokens of this chain may not be renewed any longer. The text says what to do."""


def looks_like_token(password: bytes) -> bool:
    """Whether this has the form of a JWT. If so, it is only ever taken for a token, and never hashed."""
    # A stranger's password may have 64 KiB, which would keep a regular expression busy for milliseconds.
    header, dot, _ = password.partition(b".")
    if not dot or not header or password.translate(None, _BASE64URL) != b"..":
        return False
    return begins_like_a_header(header)


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token. It is given out once; only its device keeps it."""

    token: str = field(repr=False)
    grant: Grant


@dataclass(frozen=True, slots=True)
class _GenuineToken:
    """What a token that we signed says."""

    device_id: str
    grant: Grant
    begins: int
    """Unix seconds (`nbf`): it is not valid before."""
    size: int
    """Its length in bytes."""


class Tokens:
    """Issues tokens, and says whether one is good now."""

    def __init__(
        self,
        keys: SigningKeys,
        lookup: Lookup,
        *,
        now: Callable[[], int],
        ttl: int,
        chain_max: int = CHAIN_MAX,
    ) -> None:
        """`now` returns Unix milliseconds. `ttl` is the longest life of a token, in seconds (JWT_TTL).

        `chain_max` is how long a chain may last, in seconds (JWT_CHAIN_MAX).
        """
        self._keys = keys
        self._lookup = lookup
        self._now = now
        self._ttl = ttl
        self._chain_max = chain_max
        self._genuine: OrderedDict[bytes, _GenuineToken] = OrderedDict()
        self._genuine_bytes = 0

    @property
    def keys(self) -> SigningKeys:
        """The keys in force."""
        return self._keys

    def use(self, keys: SigningKeys) -> None:
        """Put new keys in force. Tokens signed with a key that is not among them are no longer valid."""
        self._keys = keys
        self._genuine.clear()
        self._genuine_bytes = 0

    def issue(
        self,
        device: Device,
        permissions: Mapping[str, Sequence[str]],
        *,
        ttl: int | None = None,
        parent: Grant | None = None,
        narrowed: bool = False,
    ) -> Issued:
        """A token for the device, for `ttl` seconds and never for longer than JWT_TTL.

        `permissions` are topic filters by action; they are not checked here. `narrowed`: they are fewer than
        those of the device, so the token opens sessions of its own on the bus. `parent` is the token with
        which this one was requested, if any: the new one then gets no longer life than the parent had,
        belongs to its chain, is revoked with it, is narrowed as it is, and ends with its chain. Raises
        PermissionsTooLong, ChainOver, and TokenRefused for a parent whose key is gone.
        """
        now = self._now() // 1000
        life = self._ttl if ttl is None else min(ttl, self._ttl)
        if parent is not None:
            # Revoking the parent revokes what was issued since, even if the clock was set back meanwhile.
            now = max(now, parent.issued_at)
            life = min(life, self._life_after(parent, device, now))
        filters = {action: tuple(permissions.get(action, ())) for action in ACTIONS}
        token_id = str(uuid.uuid4())
        grant = Grant(
            token_id=token_id,
            root=token_id if parent is None else parent.root,
            epoch=device.token_epoch,
            issued_at=now,
            expires_at=now + life,
            permissions=filters,
            key_id=self._keys.active_id,
            prior_keys=() if parent is None else self._keys_before(parent),
            narrowed_digest=narrowed_to(filters)
            if narrowed
            else ""
            if parent is None
            else parent.narrowed_digest,
            root_issued_at=now if parent is None else parent.chain_began,
        )
        token = self._keys.sign(claims_of(device, grant))
        if len(token) > TOKEN_BYTES:
            raise PermissionsTooLong(
                f"what {device.device_id} may do does not fit into a token of {TOKEN_BYTES:,} bytes: "
                "give its roles fewer rules, with wildcards"
            )
        return Issued(token, grant)

    def _life_after(self, parent: Grant, device: Device, now: int) -> int:
        """For how many seconds a token that is renewed from this one may be valid."""
        if why := self._keys.distrust(parent, now):
            raise TokenRefused(TokenFault.INVALID, why, device.device_id)
        chain_seconds_left = parent.chain_began + self._chain_max - now
        if chain_seconds_left <= 0:
            raise ChainOver(
                "Tokens were renewed from one another for as long as JWT_CHAIN_MAX allows: log in with the "
                "secret or the certificate."
            )
        # No longer than the parent's life, or a token for a minute could be renewed to one for a day.
        return min(chain_seconds_left, parent.expires_at - parent.issued_at)

    def _keys_before(self, parent: Grant) -> tuple[str, ...]:
        key_ids = dict.fromkeys((*parent.prior_keys, parent.key_id))
        key_ids.pop(self._keys.active_id, None)
        if len(key_ids) > PRIOR_KIDS_MAX:
            raise ChainOver(
                f"Tokens were renewed from one another over {PRIOR_KIDS_MAX} rotations of the signing key: "
                "log in with the secret or the certificate."
            )
        return tuple(key_ids)

    def verify(self, token: bytes, digest: bytes | None = None) -> tuple[Device, Grant]:
        """The device of a token that is valid now, and what the token grants. Raises TokenRefused.

        The signature of a token seen before is not verified again; time, device and revocations are checked
        each time. `digest` is the token's SHA-256, if the caller has it already.
        """
        genuine = self._read(token, digest)
        device_id, grant = genuine.device_id, genuine.grant
        now = self._now() // 1000
        if why := self._keys.distrust(grant, now):
            raise TokenRefused(TokenFault.INVALID, why, device_id)
        if now < genuine.begins:
            raise TokenRefused(TokenFault.INVALID, "not valid yet", device_id)
        if now >= grant.expires_at:
            raise TokenRefused(TokenFault.EXPIRED, "expired token", device_id)
        if not self._lookup.available:
            raise TokenRefused(TokenFault.NOT_ACCEPTED, "store unavailable", device_id)
        device = self._lookup.get(device_id)
        if device is None:
            raise TokenRefused(TokenFault.NOT_ACCEPTED, "unknown device", device_id)
        if not device.enabled:
            raise TokenRefused(TokenFault.NOT_ACCEPTED, "disabled device", device_id)
        if device.has_revoked(grant):
            raise TokenRefused(TokenFault.REVOKED, "revoked token", device_id)
        return device, grant

    def _read(self, token: bytes, digest: bytes | None) -> _GenuineToken:
        if len(token) > TOKEN_BYTES:
            raise TokenRefused(TokenFault.INVALID, f"a token of more than {TOKEN_BYTES:,} bytes")
        # Keyed by digest, so that no token that could still be used stays in memory.
        digest = digest or hashlib.sha256(token).digest()
        genuine = self._genuine.get(digest)
        if genuine is not None:
            self._genuine.move_to_end(digest)
            return genuine
        genuine = self._check(token)
        self._genuine[digest] = genuine
        self._genuine_bytes += genuine.size
        while len(self._genuine) > _GENUINE_MAX or self._genuine_bytes > _GENUINE_BYTES_MAX:
            self._genuine_bytes -= self._genuine.popitem(last=False)[1].size
        return genuine

    def _check(self, token: bytes) -> _GenuineToken:
        """What the token says, if we signed it. Raises TokenRefused.

        `jwt.decode` is not used: it spends 2 ms on 32 KiB before it verifies the signature, and anybody could
        make it do that. Here nothing is decoded that is not signed by us, except for a short header for the
        log.
        """
        signed, _, signature = token.rpartition(b".")
        header, _, payload = signed.partition(b".")
        try:
            key = self._keys.signer(header, signed, signature)
            device_id, grant, begins = read_claims(
                payload, key_id=key.key_id, shared=self._keys.algorithm == "HS256"
            )
        except (NotSigned, NotClaims) as error:
            raise TokenRefused(TokenFault.INVALID, str(error)) from None
        return _GenuineToken(device_id, grant, begins, len(token))
