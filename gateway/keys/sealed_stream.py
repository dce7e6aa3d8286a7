"""A stream of any length, encrypted under a passphrase in pieces that are authenticated as they are read.

Owns the format on disk. Must not know the content. The first line is JSON: what this is, and how the key is
derived from the passphrase, as in `gateway.keys.key_backup`. It is followed by pieces of 1 MiB and a last,
shorter one, each AES-256-GCM:

    nonce = 7 random bytes, the same in the whole file | number of the piece, 4 bytes | 1 for the last, else 0

So pieces can't be swapped, left out, or cut off at the end (the STREAM construction of Hoang, Reyhanitabar,
Rogaway and Vizár, as in age and Tink). The first line is associated data of each piece. Nothing of a piece is
returned before it is authenticated, and a reader that reaches the end knows that nothing is missing.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.keys.wrapping import LANES, MEMORY_KIB, PASSES, SALT_BYTES, passphrase_cipher

PIECE = 1_048_576
"""Bytes of plaintext in each piece but the last."""
_TAG = 16
"""Bytes of the tag of a piece."""
_PREFIX = 7
"""Random bytes at the beginning of each nonce."""
_PIECES_MAX = 2**32 - 1
_HEAD_MAX = 4_096
"""Longest first line, in bytes."""
_FORMAT = 1
# As in a backup of keys, different parameters are not followed, for then the author of a file could choose
# how much work we do.
_KDF = {"name": "argon2id", "version": 19, "memory_kib": MEMORY_KIB, "passes": PASSES, "lanes": LANES}


class StreamNotOpened(Exception):
    """The stream can't be read: wrong passphrase, damaged, or not such a stream. The text says which."""


def new_head(about: str) -> tuple[bytes, bytes]:
    """The first line of a new stream, and its salt. `about` says for people what the file is."""
    salt = os.urandom(SALT_BYTES)
    head = {
        "about": about,
        "v": _FORMAT,
        "kdf": _KDF,
        "salt": base64.b64encode(salt).decode(),
        "cipher": "AES-256-GCM",
        "piece": PIECE,
        "nonce": base64.b64encode(os.urandom(_PREFIX)).decode(),
    }
    return json.dumps(head).encode() + b"\n", salt


class SealingWriter(io.RawIOBase):
    """Encrypts what is written to it into `target`. Without `finish` the stream can't be read.

    Making one takes about 150 ms. Raises MemoryError if 64 MiB are not available, and what `target` raises.
    """

    def __init__(self, target: BinaryIO, passphrase: bytes, *, about: str) -> None:
        super().__init__()
        self._target = target
        self._head, salt = new_head(about)
        self._nonce = base64.b64decode(json.loads(self._head)["nonce"])
        self._cipher = passphrase_cipher(passphrase, salt)
        self._pending = bytearray()
        self._number = 0
        target.write(self._head)

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Take all of it."""
        self._pending += data
        while len(self._pending) > PIECE:  # a full piece may be the last one, until more is written
            self._seal(bytes(self._pending[:PIECE]), last=False)
            del self._pending[:PIECE]
        return len(data)

    def finish(self) -> None:
        """Write the last piece. Not to be called after a failure, so that the stream stays incomplete."""
        self._seal(bytes(self._pending), last=True)
        self._pending.clear()

    def _seal(self, piece: bytes, *, last: bool) -> None:
        if self._number > _PIECES_MAX:
            raise ValueError("the stream is too long")
        nonce = _nonce(self._nonce, self._number, last=last)
        self._target.write(self._cipher.encrypt(nonce, piece, self._head))
        self._number += 1


class OpeningReader(io.RawIOBase):
    """Decrypts a stream. Raises StreamNotOpened when it is made, or at a piece that was changed."""

    def __init__(self, source: BinaryIO, passphrase: bytes) -> None:
        super().__init__()
        self._source = source
        self._head = source.readline(_HEAD_MAX)
        head = _read_head(self._head)
        self._nonce = head["nonce"]
        self._cipher: AESGCM = passphrase_cipher(passphrase, head["salt"])
        self._next_piece = source.read(PIECE + _TAG)
        self._number = 0
        self._ready = memoryview(b"")
        self.is_over = False
        """Whether the last piece was read."""
        self._next()

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: bytearray, /) -> int:  # type: ignore[override]
        """As io.RawIOBase has it."""
        while not self._ready and not self.is_over:
            self._next()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _next(self) -> None:
        piece, self._next_piece = self._next_piece, self._source.read(PIECE + _TAG)
        last = not self._next_piece
        try:
            opened = self._cipher.decrypt(_nonce(self._nonce, self._number, last=last), piece, self._head)
        except (InvalidTag, ValueError):
            if self._number == 0:
                raise StreamNotOpened("the passphrase is not this file's, or the file is damaged") from None
            raise StreamNotOpened("the file is damaged or cut off: give another one") from None
        self._ready = memoryview(opened)
        self._number += 1
        self.is_over = last


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


def _read_head(line: bytes) -> Mapping[str, bytes]:
    try:
        head = json.loads(line)
        if head["v"] != _FORMAT or head["kdf"] != _KDF or head["piece"] != PIECE:
            raise StreamNotOpened("the file was written by a newer gateway: upgrade this one")
        nonce = base64.b64decode(head["nonce"], validate=True)
        salt = base64.b64decode(head["salt"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise StreamNotOpened("this is no backup of a gateway, or it is damaged: give another one") from None
    if len(nonce) != _PREFIX or len(salt) != SALT_BYTES:
        raise StreamNotOpened("this is no backup of a gateway, or it is damaged: give another one")
    return {"nonce": nonce, "salt": salt}
