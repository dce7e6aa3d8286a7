"""The key files, side by side: the keys that seal payloads, those that sign tokens, and the audit trail's.

Each is made once. A damaged file is an error here; a file that is missing though its keys were used is one in
`gateway.app.startup_preparation`. Then the gateway does not start: a new key that nobody asked for would
leave every sealed message on the bus unreadable. Each change writes a whole new file in the place of the old
one, under the lock of the folder.
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
    """Their ids are this letter and a number, which is never given twice."""
    name: str
    retired: KeyState
    """State of a key that was active before a newer one."""

    def number(self, key_id: str) -> int:
        """The number in an id. Raises ValueError: no id of these keys."""
        match = re.fullmatch(rf"{self.letter}(0|[1-9][0-9]{{0,8}})", key_id)
        if match is None:
            raise ValueError("not a key")
        return int(match[1])


SEALING = Purpose("k", "sealing keys", KeyState.DECRYPT_ONLY)
SIGNING = Purpose("s", "signing keys", KeyState.VERIFY_ONLY)
AUDIT = Purpose("a", "keys of the audit trail", KeyState.VERIFY_ONLY)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What stands in one of the files, and how it is wrapped."""

    keys: tuple[Key, ...]
    salt: bytes
    """Of the passphrase that ENCRYPTION_KEY is; empty when it is none."""
    cipher: AESGCM | None
    """What wraps the keys; None: they are not wrapped."""


def ensure_sealing_file(path: Path, wrapping: Wrapping | None = None) -> bool:
    """Make the file of the sealing keys, with one active key `k1`, if there is no file; whether it was made.

    `wrapping` (ENCRYPTION_KEY) wraps the keys in the file. A crash leaves a whole file or none.
    Raises KeyFileError.
    """
    return _ensure(path, SEALING, wrapping)


def ensure_signing_file(path: Path, wrapping: Wrapping | None = None) -> bool:
    """Make the file of the signing keys, with one active key `s1`. Otherwise as `ensure_sealing_file`."""
    return _ensure(path, SIGNING, wrapping)


def read_sealing_file(path: Path, wrapping: Wrapping | None = None) -> list[Key]:
    """All sealing keys, the destroyed ones too. Raises KeyFileError: what to do."""
    return list(read(path, SEALING, wrapping).keys)


def read_signing_file(path: Path, wrapping: Wrapping | None = None) -> list[Key]:
    """All signing keys: 32-byte Ed25519 seeds (RFC 8032, 5.1.5). Raises KeyFileError: what to do."""
    return list(read(path, SIGNING, wrapping).keys)


def ensure_audit_file(path: Path, wrapping: Wrapping | None = None) -> bool:
    """Make the file of the key that signs the audit trail. Otherwise as `ensure_sealing_file`."""
    return _ensure(path, AUDIT, wrapping)


def read_audit_seed(path: Path, wrapping: Wrapping | None = None) -> bytes:
    """The key of the audit trail: an Ed25519 seed (RFC 8032, 5.1.5). Raises KeyFileError: what to do."""
    return next(key.material for key in read(path, AUDIT, wrapping).keys if key.state is KeyState.ACTIVE)


def rotate_sealing(path: Path, wrapping: Wrapping | None) -> Key:
    """Make a new key the active one; the key that was active only opens from now on. Raises KeyFileError."""
    return _change(path, SEALING, wrapping, lambda keys: _rotated(keys, SEALING, None))


def rotate_signing(path: Path, wrapping: Wrapping | None, overlap_s: int) -> Key:
    """Make a new key the active one; the key that was active verifies for `overlap_s` more seconds.

    If that is less than JWT_TTL, tokens end before their time. Keys whose time is over are taken out of the
    file. Makes the file if there is none. Raises KeyFileError.
    """
    if _ensure(path, SIGNING, wrapping):
        return read_signing_file(path, wrapping)[0]
    return _change(path, SIGNING, wrapping, lambda keys: _rotated(keys, SIGNING, now() + overlap_s))


def destroy(path: Path, purpose: Purpose, wrapping: Wrapping | None, key_id: str) -> Key:
    """Take the key out of the file for ever: what it sealed can't be opened, what it signed is not accepted.

    Its id stays, so that a backup can't bring it back. Raises KeyFileError, also for the active key.
    The disk may keep bytes of the old file, out of reach from here: wrapped keys are safe there.
    """

    def change(keys: tuple[Key, ...]) -> tuple[tuple[Key, ...], Key]:
        found = next((key for key in keys if key.key_id == key_id), None)
        if found is None:
            raise KeyFileError(f"{path}: there is no key of that name: `gateway-admin keys list` shows them")
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
    """Whether the time of a verify-only key has passed."""
    return key.state is KeyState.VERIFY_ONLY and key.until is not None and key.until <= now()


def now() -> int:
    """Unix seconds."""
    return int(time.time())  # noqa: TID251 - what is written to a file is read after a restart


@contextmanager
def writing(path: Path, purpose: Purpose) -> Iterator[None]:
    """Hold the folder of the file, made if it is not there. Raises KeyFileError for what the disk says."""
    try:
        make_folder(path.parent)
        with locked(path.parent):
            yield
    except OSError as error:
        raise KeyFileError(f"{purpose.name}: {not_written(path, error)}") from None


def empty_file(wrapping: Wrapping | None) -> KeyFile:
    """What a file has before its first key: a new salt, and the cipher of `wrapping`. Raises KeyFileError."""
    if wrapping is None:
        return KeyFile((), b"", None)
    salt = wrapping.new_salt()
    return KeyFile((), salt, _cipher(wrapping, salt))


def write(path: Path, keys: Sequence[Key], like: KeyFile) -> None:
    """Write the file with these keys, wrapped as `like` is. For the lock's holder alone. Raises OSError."""
    document = {
        "v": _FORMAT,
        "wrapped": like.cipher is not None,
        **({"salt": base64.b64encode(like.salt).decode()} if like.salt else {}),
        "keys": [key_to_json(key, like.cipher) for key in keys],
    }
    data = json.dumps(document, indent=1).encode()
    put_file(path, data, mode=0o600)


def read(path: Path, purpose: Purpose, wrapping: Wrapping | None) -> KeyFile:
    """What stands in the file. Raises KeyFileError: what to do."""
    what = f"{path}: the {purpose.name}"
    try:
        mode = path.stat().st_mode
        # A pipe would never end, nor would /dev/zero.
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
    # Raises InvalidTag where the one is a passphrase and the other a key.
    if wrapped is not (wrapping is not None):
        if wrapping is None:
            raise KeyFileError(f"{what} are wrapped: set ENCRYPTION_KEY to what they were wrapped with")
        raise KeyFileError(
            f"{what} are not wrapped, but ENCRYPTION_KEY is set: take it away; or to have them wrapped, "
            "without it `gateway-admin keys export FILE`, move the key files away, set it, and "
            "`gateway-admin keys import FILE`"
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
            "ENCRYPTION_KEY is a passphrase, and there is no memory to use it: 64 MiB are needed, or a key "
            "such as the output of `openssl rand -base64 32`"
        ) from None


def key_to_json(key: Key, cipher: AESGCM | None) -> dict[str, Any]:
    """The key as JSON, wrapped by `cipher` if there is one."""
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
    """The key that `key_to_json` made this of.

    Raises ValueError, TypeError, KeyError or AttributeError for what is no such key, and InvalidTag when
    `cipher` did not wrap it.
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
        raise ValueError("not a key")  # one without an end would verify for ever
    material = base64.b64decode(item["key"], validate=True)
    if cipher is not None and state is not KeyState.DESTROYED:
        material = unwrap(cipher, material, _associated_data(key_id))
    if len(material) != (0 if state is KeyState.DESTROYED else KEY_BYTES):
        raise ValueError("not a key")
    return Key(key_id, material, state, created_at, retired_at, until)


def _associated_data(key_id: str) -> bytes:
    # So that no wrapped key passes for a different one.
    return f"gateway key {_FORMAT} {key_id}".encode()
