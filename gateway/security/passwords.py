"""Device secrets against their Argon2id hashes: off the event loop, a few at a time, never without end.

Every answer costs one hash, whether the device exists or not, so that time tells nothing. It must not
know devices beyond their credential, nor what becomes of the answer.

A device that was imported comes with Mosquitto's hash of its password, kept as `$mosquitto$6$salt$hash`
or `$mosquitto$7$iterations$salt$hash` until its first login makes an Argon2id hash of it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from argon2 import Parameters, PasswordHasher, Type
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError

from gateway.core.identity import Device
from gateway.security.foreign_hashes import argon2id, kind_of

PROFILE = Parameters(
    type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=2, memory_cost=19_456, parallelism=1
)
"""OWASP's 19 MiB set (Password Storage Cheat Sheet): 23 ms. Device secrets have 256 bits, it is enough."""

_HASHER = PasswordHasher.from_parameters(PROFILE)
_MOSQUITTO = "$mosquitto"
_ITERATIONS_MOST = 100_000
"""Of Mosquitto's hash; its own default is 101. Wrong logins with more would keep the others waiting."""
_MOSQUITTO_HASH = re.compile(
    r"\$(?:6|7\$(?P<iterations>[1-9][0-9]{0,8}))\$(?P<salt>[A-Za-z0-9+/=]{1,88})\$(?P<digest>[A-Za-z0-9+/=]{88})"
)
_NOBODY = Device("", (), {}, enabled=False, credential="", version=0, created_at=0, updated_at=0)
"""No device has its id, so that nothing is ever remembered for it."""
_Answer = TypeVar("_Answer", str, bool)


class Busy(Exception):
    """More logins wait than we promise to serve, or there is no memory for one. The peer may come again."""


def hash_secret(secret: bytes) -> str:
    """The Argon2id hash of `secret` in PHC format. Blocks for some 20 ms."""
    return _HASHER.hash(secret)


def needs_rehash(credential: str) -> bool:
    """Whether the credential was made with other parameters than today's."""
    try:
        return is_imported(credential) or _HASHER.check_needs_rehash(credential)
    except InvalidHashError:
        return False  # it verifies nothing, so there is never a secret to hash anew


def is_imported(credential: str) -> bool:
    """Whether the credential is a hash of Mosquitto's."""
    return credential.startswith(f"{_MOSQUITTO}$")


def imported_credential(hashed: str) -> str:
    """The credential made of a hash as Mosquitto writes it.

    `$6$salt$hash` or `$7$iterations$salt$hash`, or, from 2.1 on, Argon2id, which is one of ours as it is.
    ValueError, which says what it is and does not quote it, when it is none or can't be verified here.
    """
    if phc := argon2id(hashed):
        return phc
    _parse_mosquitto(hashed)
    return _MOSQUITTO + hashed


def _parse_mosquitto(hashed: str) -> tuple[int, bytes, bytes]:
    """Iterations (0: SHA-512 once), salt and digest."""
    form = _MOSQUITTO_HASH.fullmatch(hashed)
    if form is None:
        raise ValueError(f"it is {kind_of(hashed)}")
    iterations = int(form["iterations"] or 0)
    if iterations > _ITERATIONS_MOST:
        raise ValueError(f"it has more than {_ITERATIONS_MOST:,} iterations")
    try:
        salt, digest = (base64.b64decode(form[part], validate=True) for part in ("salt", "digest"))
    except ValueError:
        raise ValueError("its salt or its hash is not Base64") from None
    if len(digest) != hashlib.sha512().digest_size:
        raise ValueError("its hash is not one of SHA-512")
    return iterations, salt, digest


def _is_mosquittos(credential: str, secret: bytes) -> bool:
    """Whether Mosquitto's hash in the credential is of `secret`."""
    if not secret:
        return False  # nobody gets in by an empty password, there neither
    iterations, salt, digest = _parse_mosquitto(credential.removeprefix(_MOSQUITTO))
    if iterations:
        made = hashlib.pbkdf2_hmac("sha512", secret, salt, iterations)
    else:
        made = hashlib.sha512(secret + salt).digest()
    return hmac.compare_digest(made, digest)


class PasswordPool:
    """Argon2 in its own threads, for it releases the interpreter's lock."""

    def __init__(self, *, threads: int = 2, waiting: int = 128) -> None:
        """At most `waiting` logins queue for `threads` at work; each takes 19 MiB only while at work."""
        self._most = threads + waiting
        self._jobs = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._decoy = hash_secret(os.urandom(32))

    async def verify(self, credential: str | None, secret: bytes) -> bool:
        """Whether `secret` is the credential's. None (no such device): False, for the same price.

        Raises Busy. A credential of other parameters than today's costs its own price until it is rehashed;
        one of Mosquitto's costs its price and ours: a tenth of a millisecond more with its 101 iterations.
        """
        return await self._run(lambda: self._verify(credential, secret))

    async def hash(self, secret: bytes) -> str:
        """The Argon2id hash of `secret` in PHC format. Raises Busy."""
        return await self._run(lambda: hash_secret(secret))

    def close(self) -> None:
        """Take no more work, and cancel what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, credential: str | None, secret: bytes) -> bool:
        if credential is not None and is_imported(credential):
            self._verify(None, secret)  # SHA-512 alone would answer in no time, and tell that it was imported
            try:
                return _is_mosquittos(credential, secret)
            except ValueError:
                return False  # somebody edited the store
        try:
            return _HASHER.verify(self._decoy if credential is None else credential, secret)
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError, UnicodeError):
            if credential is None:
                raise
            # No hash of ours: somebody edited the store. It must not be told from a wrong secret.
            return self._verify(None, secret)

    async def _run(self, work: Callable[[], _Answer]) -> _Answer:
        with self._lock:
            if self._jobs >= self._most:
                raise Busy("too many logins at once")
            self._jobs += 1
        try:
            job = self._threads.submit(work)
        except RuntimeError:
            self._finished(None)
            raise Busy("the gateway is shutting down") from None
        # The place is free when the thread is done with it, not when the peer has lost patience: or a storm
        # of logins begun and dropped would make the queue as long as it likes.
        job.add_done_callback(self._finished)
        try:
            return await asyncio.wrap_future(job)
        except (VerificationError, HashingError) as error:
            raise Busy(f"Argon2 failed: {error}") from error

    def _finished(self, _job: Future[_Answer] | None) -> None:
        with self._lock:
            self._jobs -= 1


class Remembered:
    """Secrets that were verified once, so that a reconnect costs no second Argon2. In memory only.

    Kept as a BLAKE2b digest under a key of this process alone: a dump of the store is no help, and one of
    the memory gives no secret of 256 bits away. The digest binds the device's version and its
    credential, so that nothing outlives a rotation, even one this process has not been told of.
    """

    def __init__(self) -> None:
        self._key = os.urandom(64)
        self._digests: dict[str, bytes] = {}

    def add(self, device: Device, secret: bytes) -> None:
        """Know that `secret` was verified for the device. It replaces what was known of it."""
        self._digests[device.device_id] = self._digest(device, secret)

    def matches(self, device: Device | None, secret: bytes) -> bool:
        """Whether this is the secret that was verified for the device as it is now. A few microseconds.

        A long secret takes longer, so that it is digested for whom nothing is known too: the time must not
        tell which devices are there.
        """
        if device is None:
            device = _NOBODY
        given = self._digest(device, secret)
        return hmac.compare_digest(self._digests.get(device.device_id, b""), given)

    def forget(self, device_id: str) -> None:
        """The device has changed, or is gone."""
        self._digests.pop(device_id, None)

    def _digest(self, device: Device, secret: bytes) -> bytes:
        # The version is a number and the credential's text holds no zero byte: the parts cannot run together.
        bound = f"{device.version}\0{device.credential}\0".encode()
        return hashlib.blake2b(bound + secret, key=self._key, digest_size=32).digest()
