"""Secret values that can't be shown by accident, and the generation of device secrets."""

from __future__ import annotations

import binascii
import codecs
import contextlib
import hmac
import secrets
from collections.abc import Iterator
from typing import NoReturn


class Secret:
    """Bytes whose repr, str and format are masked. `reveal()` is the only way to get at them: grep for it."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The secret itself. Not for logs, errors or command lines."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # comparing hashes would not take constant time

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not to be pickled or copied")


def generate_device_secret() -> Secret:
    """A new device secret: 256 random bits as URL-safe base64 text (43 characters)."""
    return Secret(secrets.token_urlsafe(32).encode("ascii"))


def spellings(secret: bytes) -> Iterator[bytes]:
    """JWT_SECRET as given, without BOM and blanks, and decoded from base64: each may be a different key."""
    yield secret
    if bare := secret.removeprefix(codecs.BOM_UTF8).strip():
        yield bare
    with contextlib.suppress(binascii.Error):
        if inner := binascii.a2b_base64(b"".join(secret.split()), strict_mode=True):
            yield inner
