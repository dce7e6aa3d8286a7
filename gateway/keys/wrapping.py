"""Wraps (encrypts) stored keys: with ENCRYPTION_KEY in the key files, with a passphrase in their backup.

Owns how a key of 32 bytes is derived from either. It must not know what is wrapped with it.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.keys.secret_values import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
SALT_BYTES = 16
PASSPHRASE_MIN = 16
"""Characters of the shortest passphrase: whoever has the file can guess for as long as they like."""
_NONCE_BYTES = 12
# Parameters of Argon2id, the second recommended set of RFC 9106, 4: about 150 ms and 64 MiB for each guess.
MEMORY_KIB = 65_536
PASSES = 3
LANES = 4


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The secret to wrap keys with: a key of 32 bytes, which is used as it is, or a passphrase."""

    secret: Secret
    is_passphrase: bool

    @classmethod
    def of_text(cls, text: str) -> Wrapping:
        """Parse ENCRYPTION_KEY: 32 bytes in hex or base64, else a passphrase. Raises ValueError."""
        for decode in (bytes.fromhex, _base64):
            try:
                key = decode(text)
            except ValueError:
                continue
            if len(key) == KEY_BYTES:
                return cls(Secret(key), is_passphrase=False)
        if len(text) < PASSPHRASE_MIN:
            raise ValueError(
                f"this is neither a key of {KEY_BYTES} bytes nor a passphrase of {PASSPHRASE_MIN} characters"
            )
        # surrogateescape: byte for byte as in the environment, even if it is not UTF-8.
        return cls(Secret(text.encode("utf-8", "surrogateescape")), is_passphrase=True)

    def cipher(self, salt: bytes) -> AESGCM:
        """The cipher for this key. A passphrase needs a salt of 16 bytes, and 150 ms. Raises MemoryError."""
        if not self.is_passphrase:
            return _aes_gcm(self.secret.reveal())
        return passphrase_cipher(self.secret.reveal(), salt)

    def new_salt(self) -> bytes:
        """A new salt for a passphrase; empty for a key."""
        return os.urandom(SALT_BYTES) if self.is_passphrase else b""


def passphrase_cipher(passphrase: bytes, salt: bytes) -> AESGCM:
    """The cipher for a passphrase, by Argon2id: takes 150 ms and 64 MiB. Raises ValueError, MemoryError."""
    from argon2.exceptions import HashingError
    from argon2.low_level import Type, hash_secret_raw

    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    try:
        key = hash_secret_raw(
            passphrase,
            salt,
            time_cost=PASSES,
            memory_cost=MEMORY_KIB,
            parallelism=LANES,
            hash_len=KEY_BYTES,
            type=Type.ID,
        )
    except HashingError as error:
        raise MemoryError(str(error)) from error
    return _aes_gcm(key)


def _aes_gcm(key: bytes) -> AESGCM:
    # Imported here: every command reads the settings, few have a key to wrap.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def wrap(cipher: AESGCM, plaintext: bytes, associated_data: bytes) -> bytes:
    """Nonce, ciphertext and tag. A random nonce will do, for such a cipher is used only a few times."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plaintext, associated_data)


def unwrap(cipher: AESGCM, wrapped: bytes, associated_data: bytes) -> bytes:
    """The inverse of `wrap`. Raises InvalidTag, or ValueError if bytes are missing."""
    return cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], associated_data)


def _base64(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
