"""Two secrets of one device for a time, hashed with the same salt, so that one Argon2 run checks both.

After `device rotate --overlap` the secret in use and the next one are both good, until the next one is used
or the time is over. Owns their hashing, and which of them is good now. The store keeps them;
`gateway.auth.login` decides who is let in.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Awaitable, Callable
from enum import StrEnum

from argon2 import Type, extract_parameters
from argon2.exceptions import InvalidHashError
from argon2.low_level import hash_secret

from gateway.policy.engine.identity import Device

OVERLAP_SECONDS_MAX = 30 * 86_400
"""How long two secrets may be good at the same time, in seconds."""


class MatchedSecret(StrEnum):
    """Which secret of a device was given."""

    NEITHER = ""
    CURRENT = "current"
    """The secret in use."""
    NEXT = "next"


def hash_like(secret: bytes, credential: str) -> str:
    """The hash of `secret` with the salt and the parameters of `credential`. Blocks for as long as a login.

    Raises ValueError if `credential` is not an Argon2id hash.
    """
    try:
        parameters = extract_parameters(credential)
        salt = credential.split("$")[4]
    except (InvalidHashError, IndexError) as error:
        raise ValueError("it is no Argon2id hash") from error
    if parameters.type is not Type.ID:
        raise ValueError("it is no Argon2id hash")
    made = hash_secret(
        secret,
        base64.b64decode(salt + "=" * (-len(salt) % 4), validate=True),
        time_cost=parameters.time_cost,
        memory_cost=parameters.memory_cost,
        parallelism=parameters.parallelism,
        hash_len=parameters.hash_len,
        type=Type.ID,
        version=parameters.version,
    )
    return made.decode()


def match_both(secret: bytes, credential: str, next_credential: str) -> MatchedSecret:
    """Which of two hashes with the same salt matches this secret. Raises ValueError as `hash_like` does."""
    made = hash_like(secret, credential).encode()
    is_current = hmac.compare_digest(made, credential.encode())
    is_next = hmac.compare_digest(made, next_credential.encode())
    return MatchedSecret.CURRENT if is_current else MatchedSecret.NEXT if is_next else MatchedSecret.NEITHER


class SecretPairs:
    """Knows, of devices with two secrets, which of them is good now."""

    def __init__(
        self,
        now: Callable[[], int] = lambda: 0,
        end: Callable[[Device], Awaitable[Device | None]] | None = None,
    ) -> None:
        """`now` returns Unix seconds. `end` ends the secret in use, in the store, and returns the new device.

        It returns None if it could not: the secret then ends in memory, and the next login tries again.
        """
        self._now = now
        self._end = end
        self._used: dict[str, int] = {}

    def current_secret_ended(self, device: Device) -> bool:
        """Whether the secret in use is no longer good: the next one was used, or the time is over."""
        if not device.next_credential:
            return False
        return self._now() >= device.overlap_until or self._used.get(device.device_id) == device.version

    async def note_next_used(self, device: Device) -> Device:
        """Note that the next secret was used. Returns the device as it is from now on."""
        self._used[device.device_id] = device.version
        ended = await self._end(device) if self._end is not None else None
        if ended is None:
            return device.with_next_secret
        self._used.pop(device.device_id, None)
        return ended
