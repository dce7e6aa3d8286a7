"""The backup of the keys: all of them in one JSON document, encrypted under a passphrase of its own.

Owns the format of the document, and how its keys are merged with those of the gateway. It must not know where
the document is kept.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.keys.key_files import (
    AUDIT,
    SEALING,
    SIGNING,
    KeyFileError,
    Purpose,
    empty_file,
    is_over,
    key_from_json,
    key_to_json,
    now,
    read,
    write,
    writing,
)
from gateway.keys.key_kinds import AUDIT_FILE
from gateway.keys.key_ring import Key, KeyState
from gateway.keys.wrapping import (
    LANES,
    MEMORY_KIB,
    PASSES,
    PASSPHRASE_MIN,
    SALT_BYTES,
    Wrapping,
    passphrase_cipher,
    unwrap,
    wrap,
)

_FORMAT = 1
# Written into the document for other readers. Different parameters in a document are not followed, for then
# its author could choose how much work we do.
_KDF = {"name": "argon2id", "version": 19, "memory_kib": MEMORY_KIB, "passes": PASSES, "lanes": LANES}
_ASSOCIATED_DATA = b"gateway key backup 1"
_TTL_SECONDS_MAX = 31_622_400
"""The longest JWT_TTL there can be, in seconds."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What happened to the keys of a backup, by their ids."""

    added: tuple[str, ...]
    present: tuple[str, ...]
    """Those that the gateway already had, or has destroyed: these stay destroyed."""
    left_out: tuple[str, ...]
    """Signing keys that have expired, or that were taken out of this gateway's file."""


def export_keys(
    sealing_path: Path, signing_path: Path, wrapping: Wrapping | None, passphrase: bytes
) -> bytes:
    """All keys in one JSON document, encrypted under the passphrase. There may be no file of signing keys.

    Takes about 150 ms. Raises KeyFileError.
    """
    if len(passphrase.decode(errors="replace")) < PASSPHRASE_MIN:
        raise KeyFileError(f"the passphrase of a backup has at least {PASSPHRASE_MIN} characters")
    keys = {
        "sealing": [key_to_json(key, None) for key in read(sealing_path, SEALING, wrapping).keys],
        "signing": [key_to_json(key, None) for key in read(signing_path, SIGNING, wrapping).keys]
        if signing_path.exists()
        else [],
    }
    audit_path = sealing_path.with_name(AUDIT_FILE)
    if audit_path.exists():
        keys["audit"] = [key_to_json(key, None) for key in read(audit_path, AUDIT, wrapping).keys]
    salt = os.urandom(SALT_BYTES)
    document = {
        "about": "Keys of an MQTT security gateway: `gateway-admin keys import` brings them back",
        "v": _FORMAT,
        "kdf": _KDF,
        "salt": base64.b64encode(salt).decode(),
        "cipher": "AES-256-GCM",
        "data": base64.b64encode(
            wrap(_cipher(passphrase, salt), json.dumps(keys).encode(), _ASSOCIATED_DATA)
        ).decode(),
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def import_keys(
    data: bytes, passphrase: bytes, sealing_path: Path, signing_path: Path, wrapping: Wrapping | None
) -> Imported:
    """Restore the keys of a backup, wrapped as the current settings say. Both files have to be in one folder.

    An existing file keeps its active key and all others, and destroyed keys stay destroyed. If a key in it
    has the same id as a different one in the backup, that is an error, and nothing is written. The key of the
    audit trail is restored only if there is none. Raises KeyFileError.
    """
    backup = _opened(data, passphrase)
    with writing(sealing_path, SEALING):
        merged = [
            _Merged(sealing_path, SEALING, backup["sealing"], wrapping),
            _Merged(signing_path, SIGNING, backup["signing"], wrapping),
        ]
        audit_path = sealing_path.with_name(AUDIT_FILE)
        if not audit_path.exists():
            merged.append(_Merged(audit_path, AUDIT, backup["audit"], wrapping))
        for one in merged:
            if one.added:
                write(one.path, one.keys, one.present_file)
    return Imported(
        tuple(key_id for one in merged for key_id in one.added),
        tuple(key_id for one in merged for key_id in one.present),
        tuple(key_id for one in merged for key_id in one.left_out),
    )


def is_of_another_gateway(
    data: bytes, passphrase: bytes, sealing_path: Path, wrapping: Wrapping | None
) -> bool:
    """Whether a sealing key of ours has the same id as a different one in the backup. Raises KeyFileError."""
    if not sealing_path.exists():
        return False
    backup = {key.key_id: key for key in _opened(data, passphrase)["sealing"]}
    keys_here = read(sealing_path, SEALING, wrapping).keys
    return any(key.key_id in backup and not _is_same(key, backup[key.key_id]) for key in keys_here)


class _Merged:
    """The keys of one file merged with those of the backup."""

    def __init__(
        self, path: Path, purpose: Purpose, backup: Sequence[Key], wrapping: Wrapping | None
    ) -> None:
        self.path = path
        self.added: list[str] = []
        self.present: list[str] = []
        self.left_out: list[str] = []
        file_exists = path.exists()
        try:
            self.present_file = read(path, purpose, wrapping) if file_exists else empty_file(wrapping)
        except KeyFileError as error:
            raise KeyFileError(f"{error}; to have it made anew from a backup, move it away first") from None
        keys_here = {key.key_id: key for key in self.present_file.keys}
        newest = max((purpose.number(key_id) for key_id in keys_here), default=-1)
        keys = dict(keys_here)
        for key in backup:
            key_here = keys_here.get(key.key_id)
            if key_here is not None:
                _demand_same(path, key_here, key)
                self.present.append(key.key_id)
            elif purpose is SIGNING and (is_over(key) or purpose.number(key.key_id) < newest):
                # It is older than those in the file, but not among them: so it was removed, perhaps because
                # it was stolen. A backup must not make its tokens valid again.
                self.left_out.append(key.key_id)
            else:
                keys[key.key_id] = _retired(key, purpose) if file_exists else key
                self.added.append(key.key_id)
        self.keys = sorted(keys.values(), key=lambda key: purpose.number(key.key_id))


def _is_same(mine: Key, other: Key) -> bool:
    """Whether two keys with the same id are the same. A destroyed one may have been any key."""
    if KeyState.DESTROYED in {mine.state, other.state}:
        return True
    return hmac.compare_digest(mine.material, other.material)


def _demand_same(path: Path, mine: Key, other: Key) -> None:
    if not _is_same(mine, other):
        raise KeyFileError(
            f"{path}: {mine.key_id} is a different key from {mine.key_id} of the backup, which is of another "
            "gateway (to take its place, move data folder and certificates away), or of this one before its "
            "keys were made anew (to go back, move the key files away)"
        )


def _retired(key: Key, purpose: Purpose) -> Key:
    """A key of the backup, retired if it was active, since the file has an active key already."""
    if key.state is not KeyState.ACTIVE:
        return key
    until = now() + _TTL_SECONDS_MAX if purpose is SIGNING else None
    return replace(key, state=purpose.retired, retired_at=now(), until=until)


def _opened(data: bytes, passphrase: bytes) -> dict[str, list[Key]]:
    try:
        document = json.loads(data)
        if document["v"] != _FORMAT or document["kdf"] != _KDF:
            raise KeyFileError("the backup was written by a newer gateway: upgrade this one")
        cipher = _cipher(passphrase, base64.b64decode(document["salt"], validate=True))
        sealed = base64.b64decode(document["data"], validate=True)
        keys: dict[str, Any] = json.loads(unwrap(cipher, sealed, _ASSOCIATED_DATA))
        backup = {
            "sealing": [key_from_json(item, SEALING, None) for item in keys["sealing"]],
            "signing": [key_from_json(item, SIGNING, None) for item in keys["signing"]],
            "audit": [key_from_json(item, AUDIT, None) for item in keys.get("audit", [])],
        }
    except InvalidTag:
        raise KeyFileError("the passphrase is not the backup's, or the backup is damaged") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise KeyFileError("this is no backup of keys, or it is damaged: give another one") from None
    for found in backup.values():
        if found and [key.state for key in found].count(KeyState.ACTIVE) != 1:
            raise KeyFileError("this backup holds no active key: give another one")
    return backup


def _cipher(passphrase: bytes, salt: bytes) -> AESGCM:
    try:
        return passphrase_cipher(passphrase, salt)
    except MemoryError:
        raise KeyFileError("there is no memory to use the passphrase: 64 MiB are needed") from None
