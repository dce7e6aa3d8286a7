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
import tempfile
import time
from pathlib import Path

from gateway.core.keyring import KEY_BYTES, Key, KeyState

_FORMAT = 1


class KeyFileError(Exception):
    """The keys can't be read or written. The text says what to do and holds no key."""


def ensure_key_file(path: Path, material: bytes | None = None) -> bool:
    """Make the key file with one active key `k1` if there is none; whether it was made.

    `material` is a key given from outside (32 bytes). Mode 0600, written and synced before it
    gets its name, so that a crash leaves a whole file or none.
    """
    if path.exists():
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = Key("k1", material or os.urandom(KEY_BYTES), KeyState.ACTIVE, int(time.time()))  # noqa: TID251 (a date for people)
    _write(path, [key])
    return True


def read_key_file(path: Path) -> list[Key]:
    """All keys of the file. Raises KeyFileError, with what to do about it."""
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
        keys = [_read_key(entry) for entry in document["keys"]]
    except (ValueError, TypeError, KeyError):
        raise KeyFileError(
            f"{path}: the file of the sealing keys is damaged: restore it from a backup"
        ) from None
    if [key.state for key in keys].count(KeyState.ACTIVE) != 1 or len({key.key_id for key in keys}) != len(
        keys
    ):
        raise KeyFileError(f"{path}: not exactly one active sealing key: restore the file from a backup")
    return keys


def _read_key(entry: dict[str, str | int]) -> Key:
    state = KeyState(entry["state"])
    key_id, created_at = entry["key_id"], entry["created_at"]
    if not isinstance(key_id, str) or not isinstance(created_at, int) or not key_id.isalnum():
        raise ValueError("not a key")
    try:
        material = base64.b64decode(str(entry["key"]), validate=True)
    except binascii.Error:
        raise ValueError("not a key") from None
    if len(material) != (0 if state is KeyState.DESTROYED else KEY_BYTES):
        raise ValueError("not a key")
    return Key(key_id, material, state, created_at)


def _write(path: Path, keys: list[Key]) -> None:
    document = {
        "v": _FORMAT,
        "keys": [
            {
                "key_id": key.key_id,
                "state": key.state,
                "created_at": key.created_at,
                "key": base64.b64encode(key.material).decode(),
            }
            for key in keys
        ],
    }
    # mkstemp makes the file with mode 0600; a link fails where another process was first.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    finally:
        Path(name).unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
