"""The keys that sign tokens, or still verify them, in memory.

Owns which key made a signature. Must not know the claims of a token, nor files: `gateway.keys.key_files`
reads and writes those.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.auth.token_header import NotHeader, base64url, read_header, written_header
from gateway.keys.key_ring import Key, KeyState
from gateway.keys.secret_values import spellings
from gateway.policy.engine.identity import Grant

_SECRET_KEY_ID = "hs256"  # noqa: S105 - its name in the header, no secret
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class NotSigned(Exception):
    """No key of ours made this signature under such a header. The text says why, and quotes nothing."""


@dataclass(frozen=True, slots=True)
class _SigningKey:
    key_id: str
    private: Ed25519PrivateKey | bytes = field(repr=False)
    public: Any = field(repr=False)
    """Ed25519PublicKey; for HS256 the secret itself."""
    until: int | None
    """Unix seconds: from then on it verifies nothing. None: it is the active key."""


class SigningKeys:
    """The keys that sign tokens or still verify them: all for one algorithm, so that none can be confused."""

    def __init__(
        self,
        algorithm: str,
        active: _SigningKey,
        retired: Sequence[_SigningKey],
        destroyed: frozenset[str] = frozenset(),
    ) -> None:
        self.algorithm = algorithm
        """`alg` (RFC 7518, 3.1; RFC 8037, 3.1)."""
        self._checker = jwt.get_algorithm_by_name(algorithm)
        self._active = active
        self._keys = (active, *retired)
        self._by_id = {key.key_id: key for key in self._keys}
        self._destroyed = destroyed
        self._by_header = {written_header(algorithm, key.key_id): key for key in self._keys}
        self._shared = active if algorithm == "HS256" else None
        """The key that other issuers share, whose headers may differ from ours; None for Ed25519."""

    @classmethod
    def of_keys(cls, keys: Sequence[Key], now_s: int) -> SigningKeys:
        """From the Ed25519 keys of the file, without those that have expired at `now_s` (Unix seconds)."""
        active = [_ed25519(key) for key in keys if key.state is KeyState.ACTIVE]
        if len(active) != 1:
            raise ValueError("there is exactly one active signing key")
        retired = [_ed25519(key) for key in keys if key.state is KeyState.VERIFY_ONLY]
        in_time = [key for key in retired if key.until is None or key.until > now_s]
        destroyed = frozenset(key.key_id for key in keys if key.state is KeyState.DESTROYED)
        return cls("EdDSA", active[0], in_time, destroyed)

    @classmethod
    def of_secret(cls, secret: bytes) -> SigningKeys:
        """HS256 with JWT_SECRET of at least 32 bytes; no other algorithm is accepted. Raises ValueError."""
        if b"-----BEGIN " in secret:  # PyJWT recognises whole keys only, not pieces of one
            raise ValueError("JWT_SECRET is a key for another algorithm: give 32 random bytes")
        if len(secret) < 32:
            raise ValueError("JWT_SECRET has at least 32 bytes")  # RFC 7518, 3.2
        try:
            # What looks like a key for another algorithm is not used: its public half may be known to
            # anybody.
            for spelling in spellings(secret):
                jwt.get_algorithm_by_name("HS256").prepare_key(spelling)
        except jwt.InvalidKeyError:
            raise ValueError("JWT_SECRET is a key for another algorithm: give 32 random bytes") from None
        return cls("HS256", _SigningKey(_SECRET_KEY_ID, secret, secret, None), [])

    @property
    def active_id(self) -> str:
        """`kid` of new tokens."""
        return self._active.key_id

    def distrust(self, grant: Grant, now_s: int) -> str:
        """Why a token is no longer valid at `now_s` (Unix seconds) because of its keys; empty if it is.

        Its own key has to be present and not expired. The keys of the tokens from which it was renewed may
        have expired, but must not have been destroyed: whoever stole such a key may have forged a token and
        renewed it.
        """
        key = self._by_id.get(grant.key_id)
        if key is None or (key.until is not None and now_s >= key.until):
            return "signed with a key whose time is over"
        if not self._destroyed.isdisjoint(grant.prior_keys):
            return "renewed from a token whose key was destroyed"
        return ""

    def jwks(self) -> dict[str, Any]:
        """The public keys for others to verify with (RFC 7517, 5; RFC 8037, 2). A shared secret has none."""
        if self.algorithm != "EdDSA":
            return {"keys": []}
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": base64url(key.public.public_bytes_raw()).decode(),
                    "kid": key.key_id,
                    "use": "sig",
                    "alg": self.algorithm,
                }
                for key in self._keys
            ]
        }

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims, signed with the active key."""
        return jwt.encode(
            dict(claims), self._active.private, algorithm=self.algorithm, headers={"kid": self.active_id}
        )

    def signer(self, header: bytes, signed: bytes, signature: bytes) -> _SigningKey:
        """The key that this header names and that made the signature over `signed`. Raises NotSigned.

        A header that was not signed by us is read only to say in the log what is wrong with it.
        """
        key = self._by_header.get(header, self._shared)
        if key is None or not self._made(key, signed, signature):
            raise NotSigned(self._why_not(header))
        if header not in self._by_header:
            try:
                read_header(header, self.algorithm)
            except NotHeader as error:
                raise NotSigned(str(error)) from None
        return key

    def _made(self, key: _SigningKey, signed: bytes, signature: bytes) -> bool:
        try:
            made = binascii.a2b_base64(signature.translate(_FROM_URL) + b"=" * (-len(signature) % 4))
        except binascii.Error:
            return False
        # The last character may have unused bits. A token must have only one spelling, or a repeated request
        # would pass for a new one.
        return base64url(made) == signature and self._checker.verify(signed, key.public, made)

    def _why_not(self, header: bytes) -> str:
        try:
            key_id = read_header(header, self.algorithm)
        except NotHeader as error:
            return str(error)
        if self._shared is None and header not in self._by_header and key_id in self._by_id:
            return "its header is not written as the gateway writes it"
        return "not signed with a key of ours"


def _ed25519(key: Key) -> _SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(key.material)
    return _SigningKey(key.key_id, private, private.public_key(), key.until)
