"""What wraps keys where they lie: ENCRYPTION_KEY for the key files, a passphrase for their backup.

Owns how 32 bytes come from what somebody gave. It must not know what is wrapped with them.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.keys.secret_values import Secret

KEY_BYTES = 32
SALT_BYTES = 16
PASSPHRASE_MIN = 16
"""Characters: whoever has the file can guess as long as they like."""
_NONCE_BYTES = 12
# RFC 9106, 4, the second recommended set: some 150 ms and 64 MiB for each guess.
MEMORY_KIB = 65_536
PASSES = 3
LANES = 4


@dataclass(frozen=True, slots=True)
class Wrapping:
    """What somebody gave to wrap keys with: a key of 32 bytes, used as it is, or a passphrase."""

    secret: Secret
    is_passphrase: bool

    @classmethod
    def of_text(cls, text: str) -> Wrapping:
        """ENCRYPTION_KEY: 32 bytes as hex or base64, else a passphrase. Raises ValueError."""
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
        # surrogateescape: what the environment held, byte for byte, also where it is not UTF-8.
        return cls(Secret(text.encode("utf-8", "surrogateescape")), is_passphrase=True)

    def cipher(self, salt: bytes) -> AESGCM:
        """The cipher under this key; a passphrase takes a salt of 16 bytes, and time. Raises MemoryError."""
        if not self.is_passphrase:
            return AESGCM(self.secret.reveal())
        return passphrase_cipher(self.secret.reveal(), salt)

    def new_salt(self) -> bytes:
        """What to make a new file's cipher with: nothing for a key."""
        return os.urandom(SALT_BYTES) if self.is_passphrase else b""


def passphrase_cipher(passphrase: bytes, salt: bytes) -> AESGCM:
    """The cipher under a passphrase, by Argon2id: 150 ms and 64 MiB. Raises ValueError, MemoryError."""
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
    return AESGCM(key)


def wrap(cipher: AESGCM, plaintext: bytes, associated_data: bytes) -> bytes:
    """Nonce, ciphertext and tag. The nonce is random: one of these ciphers wraps but a few times."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plaintext, associated_data)


def unwrap(cipher: AESGCM, wrapped: bytes, associated_data: bytes) -> bytes:
    """What `wrap` was given. Raises InvalidTag, or ValueError: bytes of it are missing."""
    return cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], associated_data)


def _base64(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
