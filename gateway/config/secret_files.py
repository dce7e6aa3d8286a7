"""Files that hold one secret each: read with care for who else may read them."""

from __future__ import annotations

import binascii
import os
import stat
from pathlib import Path

from gateway.keys.secret_values import Secret
from gateway.system.file_errors import why

_BYTES_MAX = 4_096
_WEBHOOK = "whsec_"
_WEBHOOK_BYTES = range(24, 65)
"""As Standard Webhooks has it."""


class SecretFileError(Exception):
    """The file can't be used; the message says why and what to do, and shows nothing of the secret."""


def read_secret(path: Path) -> str:
    """The one line that is in the file. Raises SecretFileError.

    Other users must not be able to read it; its group may, for so orchestrators provide secrets.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise SecretFileError("it is no ordinary file; put the secret into one")
            if mode & (stat.S_IWGRP | stat.S_IRWXO):
                raise SecretFileError(f"others may use it; keep it to yourself: chmod 600 {path}")
            raw = file.read(_BYTES_MAX + 1)
    except IsADirectoryError:
        raise SecretFileError("it is no ordinary file; put the secret into one") from None
    except OSError as error:
        raise SecretFileError(f"it can't be read ({why(path, error)})") from None
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise SecretFileError("it is not UTF-8 text") from None
    if not text or len(raw) > _BYTES_MAX or not text.isprintable():
        raise SecretFileError("it holds no secret: one line of text is needed")
    return text


def webhook_secret(text: str) -> Secret:
    """The key that `whsec_<base64>` stands for. Raises SecretFileError."""
    try:
        key = binascii.a2b_base64(text.removeprefix(_WEBHOOK), strict_mode=True)
    except ValueError:
        key = b""
    if not text.startswith(_WEBHOOK) or len(key) not in _WEBHOOK_BYTES:
        raise SecretFileError("it holds no secret of a webhook: whsec_ and 24 to 64 bytes as base64")
    return Secret(key)
