"""The file of the sealing keys: created once, never recreated over a loss.

A missing key file beside a store that has used keys, or a damaged one, refuses to start: a silently
made new key would leave every sealed message on the bus unreadable.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import time
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.core.keyring import KEY_BYTES, Key, KeyState
from gateway.files import locked, make_folder, write_new

_FORMAT = 1


class KeyFileError(Exception):
    """The keys can't be read or written. The text says what to do and holds no key."""


def ensure_key_file(path: Path, wrapping: bytes | None = None) -> bool:
    """Make the key file with one active key `k1` if there is none; whether it was made.

    `wrapping` (ENCRYPTION_KEY, 32 bytes) seals the keys in the file. A crash leaves a whole file or
    none. Raises KeyFileError.
    """
    try:
        make_folder(path.parent)
        with locked(path.parent):
            if path.exists():
                return False
            key = Key("k1", os.urandom(KEY_BYTES), KeyState.ACTIVE, int(time.time()))  # noqa: TID251 - for people
            write_new(path, _document([key], wrapping), mode=0o600)
    except OSError as error:
        raise KeyFileError(f"{path}: the sealing keys can't be made ({error})") from None
    return True


def read_key_file(path: Path, wrapping: bytes | None = None) -> list[Key]:
    """All keys of the file, unwrapped by ENCRYPTION_KEY if it is set. Raises KeyFileError: what to do."""
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(
            f"{path}: the sealing keys can't be read ({error}): restore the file from a backup"
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError(f"{path}: others may read the sealing keys: chmod 600 {path}")
    try:
        document = json.loads(text)
        if document["v"] != _FORMAT:
            raise KeyFileError(f"{path}: written by a newer gateway: upgrade this one")
        if document["wrapped"] != (wrapping is not None):
            if wrapping is None:
                raise KeyFileError(f"{path}: the sealing keys are wrapped: set ENCRYPTION_KEY to their key")
            raise KeyFileError(f"{path}: the sealing keys are not wrapped: take ENCRYPTION_KEY away")
        keys = [_read_key(entry, wrapping) for entry in document["keys"]]
    except InvalidTag:
        raise KeyFileError(
            f"{path}: ENCRYPTION_KEY is not the one the sealing keys are wrapped with"
        ) from None
    except (ValueError, TypeError, KeyError):
        raise KeyFileError(
            f"{path}: the file of the sealing keys is damaged: restore it from a backup"
        ) from None
    if [key.state for key in keys].count(KeyState.ACTIVE) != 1 or len({key.key_id for key in keys}) != len(
        keys
    ):
        raise KeyFileError(f"{path}: not exactly one active sealing key: restore the file from a backup")
    return keys


def _read_key(entry: dict[str, str | int], wrapping: bytes | None) -> Key:
    state = KeyState(str(entry["state"]))
    key_id, created_at = entry["key_id"], entry["created_at"]
    if not isinstance(key_id, str) or not isinstance(created_at, int) or not key_id.isalnum():
        raise ValueError("not a key")
    try:
        material = base64.b64decode(str(entry["key"]), validate=True)
    except binascii.Error:
        raise ValueError("not a key") from None
    if wrapping is not None and state is not KeyState.DESTROYED:
        material = AESGCM(wrapping).decrypt(material[:12], material[12:], _bound(key_id))
    if len(material) != (0 if state is KeyState.DESTROYED else KEY_BYTES):
        raise ValueError("not a key")
    return Key(key_id, material, state, created_at)


def _bound(key_id: str) -> bytes:
    return f"gateway key {_FORMAT} {key_id}".encode()


def _stored(key: Key, wrapping: bytes | None) -> str:
    material = key.material
    if wrapping is not None and key.state is not KeyState.DESTROYED:
        # A random nonce: the same wrapping key sees but a few of them.
        nonce = os.urandom(12)
        material = nonce + AESGCM(wrapping).encrypt(nonce, material, _bound(key.key_id))
    return base64.b64encode(material).decode()


def _document(keys: list[Key], wrapping: bytes | None) -> bytes:
    document = {
        "v": _FORMAT,
        "wrapped": wrapping is not None,
        "keys": [
            {
                "key_id": key.key_id,
                "state": key.state,
                "created_at": key.created_at,
                "key": _stored(key, wrapping),
            }
            for key in keys
        ],
    }
    return json.dumps(document, indent=1).encode()
