"""The key files: one each for the keys that seal payloads, that sign tokens, and that sign the audit trail.

A file that exists is never made anew. A damaged file is an error here; a file that is missing although its
keys were used is an error in `gateway.app.startup_preparation`. The gateway does not start then, since with a
new key every sealed message on the bus would be unreadable. Each change replaces the whole file, under the
lock of the folder.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.keys.key_ring import KEY_BYTES, Key, KeyState
from gateway.keys.wrapping import Wrapping, unwrap, wrap
from gateway.system.atomic_files import locked, make_folder, put_file
from gateway.system.file_errors import not_written, why

_FORMAT = 1


class KeyFileError(Exception):
    """The keys can't be read or written. The text says what to do and holds no key."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What the keys of a file are for."""

    letter: str
    """Their ids are this letter and a number, which is never used twice."""
    name: str
    """What messages call them."""
    retired: KeyState
    """State of a key that a newer one has replaced as the active one."""

    def number(self, key_id: str) -> int:
        """The number in the id of one of these keys. Raises ValueError for any other id."""
        match = re.fullmatch(rf"{self.letter}(0|[1-9][0-9]{{0,8}})", key_id)
        if match is None:
            raise ValueError("not a key")
        return int(match[1])


SEALING = Purpose("k", "sealing keys", KeyState.DECRYPT_ONLY)
SIGNING = Purpose("s", "signing keys", KeyState.VERIFY_ONLY)
AUDIT = Purpose("a", "keys of the audit trail", KeyState.VERIFY_ONLY)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The content of a key file, and how its keys are wrapped (encrypted under ENCRYPTION_KEY)."""

    keys: tuple[Key, ...]
    salt: bytes
    """Salt with which the wrapping key is derived from ENCRYPTION_KEY; empty unless that is a passphrase."""
    cipher: AESGCM | None
    """The cipher that wraps the keys; None: they are not wrapped."""


def ensure_sealing_file(path: Path, wrapping: Wrapping | None) -> bool:
    """Make the file of the sealing keys, with an active key `k1`, if there is none. Returns whether it did.

    `wrapping` (ENCRYPTION_KEY) wraps the keys in the file; None: they are not wrapped. A crash leaves a
    complete file or none. Raises KeyFileError.
    """
    return _ensure(path, SEALING, wrapping)


def ensure_signing_file(path: Path, wrapping: Wrapping | None) -> bool:
    """The same for the file of the signing keys, with one active key `s1`."""
    return _ensure(path, SIGNING, wrapping)


def read_sealing_file(path: Path, wrapping: Wrapping | None) -> list[Key]:
    """All sealing keys, including destroyed ones. Raises KeyFileError."""
    return list(read(path, SEALING, wrapping).keys)


def read_signing_file(path: Path, wrapping: Wrapping | None) -> list[Key]:
    """All signing keys, even destroyed ones: 32-byte Ed25519 seeds (RFC 8032, 5.1.5). Raises KeyFileError."""
    return list(read(path, SIGNING, wrapping).keys)


def ensure_audit_file(path: Path, wrapping: Wrapping | None) -> bool:
    """The same as `ensure_sealing_file` for the file of the key that signs the audit trail."""
    return _ensure(path, AUDIT, wrapping)


def read_audit_seed(path: Path, wrapping: Wrapping | None) -> bytes:
    """The key of the audit trail: an Ed25519 seed (RFC 8032, 5.1.5). Raises KeyFileError."""
    return next(key.material for key in read(path, AUDIT, wrapping).keys if key.state is KeyState.ACTIVE)


def rotate_sealing(path: Path, wrapping: Wrapping | None) -> Key:
    """Make a new key and activate it; the previous one only opens from now on. Raises KeyFileError."""
    return _change(path, SEALING, wrapping, lambda keys: _rotated(keys, SEALING, None))


def rotate_signing(path: Path, wrapping: Wrapping | None, overlap_s: int) -> Key:
    """Make a new key and activate it; the previous one still verifies for `overlap_s` seconds.

    If that is less than JWT_TTL, some tokens become invalid before they expire. Keys whose time is over are
    removed from the file. Makes the file if there is none. Raises KeyFileError.
    """
    if _ensure(path, SIGNING, wrapping):
        return read_signing_file(path, wrapping)[0]
    return _change(path, SIGNING, wrapping, lambda keys: _rotated(keys, SIGNING, now() + overlap_s))


def destroy(path: Path, purpose: Purpose, wrapping: Wrapping | None, key_id: str) -> Key:
    """Erase a key for ever: what it sealed can't be opened any more, and what it signed is not accepted.

    Its id stays in the file, so that a backup can't restore it. Raises KeyFileError, also for the active key.
    The disk may still contain bytes of the old file, which we can't erase: wrapped keys are of no use there.
    """

    def change(keys: tuple[Key, ...]) -> tuple[tuple[Key, ...], Key]:
        found = next((key for key in keys if key.key_id == key_id), None)
        if found is None:
            raise KeyFileError(f"{path}: there is no key with that id: `gateway-admin keys list` shows them")
        if found.state is KeyState.ACTIVE:
            raise KeyFileError(f"{key_id} is the active one of the {purpose.name}: rotate them first")
        destroyed = replace(found, material=b"", state=KeyState.DESTROYED, until=None)
        return tuple(destroyed if key is found else key for key in keys), destroyed

    return _change(path, purpose, wrapping, change)


def _ensure(path: Path, purpose: Purpose, wrapping: Wrapping | None) -> bool:
    if path.exists():
        return False  # its folder may be mounted read-only
    with writing(path, purpose):
        if path.exists():
            return False
        key = Key(f"{purpose.letter}1", os.urandom(KEY_BYTES), KeyState.ACTIVE, now())
        write(path, [key], empty_file(wrapping))
        return True


def _change(
    path: Path,
    purpose: Purpose,
    wrapping: Wrapping | None,
    change: Callable[[tuple[Key, ...]], tuple[Sequence[Key], Key]],
) -> Key:
    with writing(path, purpose):
        file = read(path, purpose, wrapping)
        keys, touched = change(file.keys)
        write(path, keys, file)
        return touched


def _rotated(keys: tuple[Key, ...], purpose: Purpose, until: int | None) -> tuple[list[Key], Key]:
    number = 1 + max(purpose.number(key.key_id) for key in keys)
    new = Key(f"{purpose.letter}{number}", os.urandom(KEY_BYTES), KeyState.ACTIVE, now())
    kept = [
        replace(key, state=purpose.retired, retired_at=now(), until=until)
        if key.state is KeyState.ACTIVE
        else key
        for key in keys
        if not is_over(key)
    ]
    return [*kept, new], new


def is_over(key: Key) -> bool:
    """Whether this is a verify-only key that has expired."""
    return key.state is KeyState.VERIFY_ONLY and key.until is not None and key.until <= now()


def now() -> int:
    """Unix seconds."""
    return int(time.time())  # noqa: TID251 - what is written to a file is read after a restart


@contextmanager
def writing(path: Path, purpose: Purpose) -> Iterator[None]:
    """Hold the lock of the file's folder, which is made if need be. Turns OSError into KeyFileError."""
    try:
        make_folder(path.parent)
        with locked(path.parent):
            yield
    except OSError as error:
        raise KeyFileError(f"{purpose.name}: {not_written(path, error)}") from None


def empty_file(wrapping: Wrapping | None) -> KeyFile:
    """A file without keys, but with a new salt and the cipher of `wrapping`. Raises KeyFileError."""
    if wrapping is None:
        return KeyFile((), b"", None)
    salt = wrapping.new_salt()
    return KeyFile((), salt, _cipher(wrapping, salt))


def write(path: Path, keys: Sequence[Key], like: KeyFile) -> None:
    """Write the file with these keys, wrapped as in `like`. Only within `writing`. Raises OSError."""
    document = {
        "v": _FORMAT,
        "wrapped": like.cipher is not None,
        **({"salt": base64.b64encode(like.salt).decode()} if like.salt else {}),
        "keys": [key_to_json(key, like.cipher) for key in keys],
    }
    data = json.dumps(document, indent=1).encode()
    put_file(path, data, mode=0o600)


def read(path: Path, purpose: Purpose, wrapping: Wrapping | None) -> KeyFile:
    """Read the file. Raises KeyFileError, which says what to do."""
    what = f"{path}: the {purpose.name}"
    try:
        mode = path.stat().st_mode
        # Not a pipe or /dev/zero, for reading these would never end.
        text = path.read_text("utf-8") if stat.S_ISREG(mode) else ""
    except OSError as error:
        raise KeyFileError(
            f"{what} can't be read ({why(path, error)}): restore the file from a backup"
        ) from None
    except UnicodeDecodeError:
        raise KeyFileError(f"{what} are damaged: restore the file from a backup") from None
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError(f"{what} may be read by others: chmod 600 {path}")
    try:
        document = json.loads(text)
        if document["v"] != _FORMAT:
            raise KeyFileError(f"{what} were written by a newer gateway: upgrade this one")
        salt = base64.b64decode(document.get("salt", ""), validate=True)
        cipher = _cipher_of_file(what, document["wrapped"], salt, wrapping)
        keys = tuple(key_from_json(item, purpose, cipher) for item in document["keys"])
    except InvalidTag:
        raise KeyFileError(
            f"{what} are wrapped with a different ENCRYPTION_KEY from the one that is set"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise KeyFileError(f"{what} are damaged: restore the file from a backup") from None
    if len({key.key_id for key in keys}) != len(keys):
        raise KeyFileError(f"{what} are damaged, two have the same id: restore the file from a backup")
    if [key.state for key in keys].count(KeyState.ACTIVE) != 1:
        raise KeyFileError(f"{what} are damaged, not exactly one is active: restore the file from a backup")
    return KeyFile(keys, salt, cipher)


def _cipher_of_file(what: str, wrapped: object, salt: bytes, wrapping: Wrapping | None) -> AESGCM | None:
    # Raises InvalidTag if the file was wrapped with a passphrase and ENCRYPTION_KEY is a key, or vice versa.
    if wrapped is not (wrapping is not None):
        if wrapping is None:
            raise KeyFileError(f"{what} are wrapped: set ENCRYPTION_KEY to what they were wrapped with")
        raise KeyFileError(
            f"{what} are not wrapped, but ENCRYPTION_KEY is set: unset it; or, to have them wrapped, "
            "unset it, run `gateway-admin keys export FILE`, move the key files away, set it again, and "
            "run `gateway-admin keys import FILE`"
        )
    if wrapping is None:
        return None
    if wrapping.is_passphrase != bool(salt):
        raise InvalidTag
    return _cipher(wrapping, salt)


def _cipher(wrapping: Wrapping, salt: bytes) -> AESGCM:
    try:
        return wrapping.cipher(salt)
    except MemoryError:
        raise KeyFileError(
            "ENCRYPTION_KEY is a passphrase, and there is not enough memory to use it: 64 MiB are needed, or "
            "a key such as the output of `openssl rand -base64 32`"
        ) from None


def key_to_json(key: Key, cipher: AESGCM | None) -> dict[str, Any]:
    """The key as a JSON object, wrapped by `cipher` if there is one."""
    material = key.material
    if cipher is not None and key.state is not KeyState.DESTROYED:
        material = wrap(cipher, material, _associated_data(key.key_id))
    times = {"created_at": key.created_at, "retired_at": key.retired_at, "until": key.until}
    return {
        "key_id": key.key_id,
        "state": key.state,
        **{name: value for name, value in times.items() if value is not None},
        "key": base64.b64encode(material).decode(),
    }


def key_from_json(item: dict[str, Any], purpose: Purpose, cipher: AESGCM | None) -> Key:
    """The inverse of `key_to_json`.

    Raises ValueError, TypeError, KeyError or AttributeError if this is not such a key, and InvalidTag if it
    was not wrapped by `cipher`.
    """
    state = KeyState(item["state"])
    key_id, created_at = item["key_id"], item["created_at"]
    retired_at, until = item.get("retired_at"), item.get("until")
    purpose.number(key_id)
    if state not in {KeyState.ACTIVE, purpose.retired, KeyState.DESTROYED}:
        raise ValueError("not a key")
    if type(created_at) is not int or not {type(retired_at), type(until)} <= {int, type(None)}:
        raise ValueError("not a key")
    if (until is not None) != (state is KeyState.VERIFY_ONLY):
        raise ValueError("not a key")  # without an end it would verify for ever
    material = base64.b64decode(item["key"], validate=True)
    if cipher is not None and state is not KeyState.DESTROYED:
        material = unwrap(cipher, material, _associated_data(key_id))
    if len(material) != (0 if state is KeyState.DESTROYED else KEY_BYTES):
        raise ValueError("not a key")
    return Key(key_id, material, state, created_at, retired_at, until)


def _associated_data(key_id: str) -> bytes:
    # Binds a wrapped key to its id, so that it can't be swapped with another.
    return f"gateway key {_FORMAT} {key_id}".encode()
