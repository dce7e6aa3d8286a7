"""The secret of a device: which may be chosen, and how it is kept."""

from __future__ import annotations

from gateway.auth.passwords import hash_secret
from gateway.auth.tokens import looks_like_token
from gateway.config.sample_secrets import is_sample

_SHORTEST = 12  # characters
LONGEST = 65_535
"""Bytes: an MQTT password's length has two bytes."""


def secret_fault(secret: bytes) -> str | None:
    """What is wrong with a secret that somebody chose, as the end of a sentence about it; None: nothing."""
    if not secret:
        return "is empty"
    if len(secret.decode("utf-8", "replace")) < _SHORTEST:
        return (
            f"has fewer than {_SHORTEST} characters, which can be guessed: give a longer one, or none to "
            "have one made"
        )
    if is_sample(secret.decode("utf-8", "replace")):
        return (
            "is a sample out of some example, which everybody knows: give another, or none to have one made"
        )
    if len(secret) > LONGEST:
        return f"is longer than the {LONGEST} bytes MQTT can carry"
    if looks_like_token(secret):
        return "has the form of a token (eyJ….….…), and would be taken for one at login: give another secret"
    return None


def generated() -> bytes:
    """A new secret."""
    from gateway.keys.secret_values import generate_device_secret

    return generate_device_secret().reveal()


def hashed(secret: bytes | None) -> tuple[bytes, str]:
    """The secret (a new one if none was chosen) and its hash. Takes as long as a login."""
    known = generated() if secret is None else secret
    return known, hash_secret(known)
