"""Checks device secrets against their Argon2id hashes: in threads, a few at a time, with a bounded queue.

Every answer costs one hash, whether the device exists or not, so that the time reveals nothing. Of devices it
must not know more than their credential (the stored hash of the secret), nor what is done with the answer.

An imported device has Mosquitto's hash of its password as its credential, as `$mosquitto$6$salt$hash` or
`$mosquitto$7$iterations$salt$hash`, until an Argon2id hash replaces it at its first login.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TypeVar

from argon2 import Parameters, PasswordHasher, Type
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError

from gateway.auth.dual_secrets import MatchedSecret, match_both
from gateway.auth.login_queue import HashRequest, LoginQueue, Standing, Waiter
from gateway.auth.password_hash_identification import MOSQUITTO, argon2id, is_imported, kind_of
from gateway.policy.engine.identity import Device

PROFILE = Parameters(
    type=Type.ID, version=19, salt_len=16, hash_len=32, time_cost=2, memory_cost=19_456, parallelism=1
)
"""OWASP's 19 MiB parameters (Password Storage Cheat Sheet): 23 ms per hash. They are enough, since device
secrets have 256 random bits."""

PATIENCE = 18.0
"""Seconds that a login waits for its slot at most: less than the 20 s after which its caller gives up."""
_BACKGROUND_PATIENCE = 300.0
"""Seconds that a hash request of standing BACKGROUND waits for its slot at most."""
_CLOSING = "the gateway is shutting down"

_HASHER = PasswordHasher.from_parameters(PROFILE)
_ITERATIONS_MAX = 100_000
"""Iterations that an imported hash may have; Mosquitto's default is 101. More would keep other logins
waiting."""
_MOSQUITTO_HASH = re.compile(
    r"\$(?:6|7\$(?P<iterations>[1-9][0-9]{0,8}))\$(?P<salt>[A-Za-z0-9+/=]{1,88})\$(?P<digest>[A-Za-z0-9+/=]{88})"
)
_NOBODY = Device("", (), {}, enabled=False, credential="", version=0, created_at=0, updated_at=0)
"""Stands for a device that does not exist. No device has its id, so no secret is ever remembered for it."""
_Answer = TypeVar("_Answer", str, bool, MatchedSecret)


class Busy(Exception):
    """Too many logins wait, its turn didn't come in time, or memory is short. Trying again may help."""


def hash_secret(secret: bytes) -> str:
    """The Argon2id hash of `secret` in PHC format. Blocks for some 20 ms."""
    return _HASHER.hash(secret)


def _decoy() -> str:
    """A credential that no secret matches; finding that out takes as long as with any other."""
    salt, digest = (
        base64.b64encode(os.urandom(size)).rstrip(b"=").decode()
        for size in (PROFILE.salt_len, PROFILE.hash_len)
    )
    costs = f"m={PROFILE.memory_cost},t={PROFILE.time_cost},p={PROFILE.parallelism}"
    return f"$argon2id$v={PROFILE.version}${costs}${salt}${digest}"


def needs_rehash(credential: str) -> bool:
    """Whether the credential was made with other parameters than today's."""
    try:
        if is_imported(credential):
            return True
        parameters, salt, digest = credential.rsplit("$", 2)
        return _are_old(parameters, len(salt), len(digest))
    except ValueError:
        return False  # it verifies nothing, so there is never a secret to hash anew


@lru_cache(64)
def _are_old(parameters: str, salt: int, digest: int) -> bool:
    """Whether credentials with these parameters, and with salt and digest of this many characters, are old.

    Cached, for every login asks, and there are few kinds. Raises ValueError if it is not a credential.
    """
    return _HASHER.check_needs_rehash(f"{parameters}${'A' * salt}${'A' * digest}")


def imported_credential(hashed: str) -> str:
    """The credential for a password hash that Mosquitto wrote.

    That is `$6$salt$hash` or `$7$iterations$salt$hash`, or, from 2.1 on, Argon2id, which can be used as it
    is. Raises ValueError, which says what it is without quoting it, if it is not a hash that can be verified
    here.
    """
    if phc := argon2id(hashed):
        return phc
    _parse_mosquitto(hashed)
    return MOSQUITTO + hashed


def _parse_mosquitto(hashed: str) -> tuple[int, bytes, bytes]:
    """Iterations (0: SHA-512 once), salt and digest."""
    form = _MOSQUITTO_HASH.fullmatch(hashed)
    if form is None:
        raise ValueError(f"it is {kind_of(hashed)}")
    iterations = int(form["iterations"] or 0)
    if iterations > _ITERATIONS_MAX:
        raise ValueError(f"it has more than {_ITERATIONS_MAX:,} iterations")
    try:
        salt, digest = (base64.b64decode(form[part], validate=True) for part in ("salt", "digest"))
    except ValueError:
        raise ValueError("its salt or its hash is not Base64") from None
    if len(digest) != hashlib.sha512().digest_size:
        raise ValueError("its hash is not one of SHA-512")
    return iterations, salt, digest


def _matches_mosquitto_hash(credential: str, secret: bytes) -> bool:
    """Whether Mosquitto's hash in the credential is of `secret`."""
    if not secret:
        return False  # nobody gets in with an empty password, nor with Mosquitto
    iterations, salt, digest = _parse_mosquitto(credential.removeprefix(MOSQUITTO))
    if iterations:
        made = hashlib.pbkdf2_hmac("sha512", secret, salt, iterations)
    else:
        made = hashlib.sha512(secret + salt).digest()
    return hmac.compare_digest(made, digest)


class PasswordPool:
    """Runs Argon2 in threads, for it releases the interpreter's lock. Used by one event loop."""

    def __init__(self, *, threads: int = 2, waiting: int = 1_024, patience: float = PATIENCE) -> None:
        """`threads` hashes run at a time; up to `waiting` logins wait, each at most `patience` seconds.

        A login takes 19 MiB only while it is hashed. `gateway.auth.login_queue` decides who is next; a login
        with a long secret counts as several of the `waiting`.
        """
        self._slots = threads
        self._at_work = 0
        self._background_at_work = 0
        self._patience = patience
        self._queue: LoginQueue[_SlotWaiter] = LoginQueue(waiting)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._is_closed = False
        self.on_hashed: Callable[[float], None] = lambda _: None
        """Called after each hash with the seconds that it took, not counting the wait."""
        self._decoy = _decoy()

    def is_clean(self, place: str, network: str) -> bool:
        """Whether neither the place nor the network had a wrong login of late."""
        return self._queue.is_clean(place, network, _now())

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._queue)

    @property
    def at_work(self) -> int:
        """How many have a slot."""
        return self._at_work

    def count_wrong(self, request: HashRequest) -> None:
        """Its login was wrong: others from its place wait longer now, and those in excess are refused."""
        self._turn_away(self._queue.count_wrong(request, _now()))

    def count_right(self, request: HashRequest) -> None:
        """Its login was right, and cost a hash."""
        self._queue.count_right(request, _now())

    @asynccontextmanager
    async def slot(self, request: HashRequest) -> AsyncIterator[HashSlot]:
        """Wait for a slot, which allows one hash. Raises Busy. If cancelled meanwhile, nothing is hashed."""
        slot = await self._wait(request, self._patience)
        try:
            yield slot
        finally:
            slot.end()

    async def hash(self, secret: bytes) -> str:
        """The Argon2id hash of `secret` in PHC format, made once no login waits. Raises Busy."""
        slot = await self._wait(HashRequest(Standing.BACKGROUND, "", "", len(secret)), _BACKGROUND_PATIENCE)
        return await slot.run(lambda: hash_secret(secret))

    def close(self) -> None:
        """Accept no more work, and refuse those who wait."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._turn_away(self._queue.clear())

    def check(self, credential: str | None, secret: bytes) -> bool:
        """What `HashSlot.verify` answers. Blocks."""
        if credential is not None and is_imported(credential):
            self.check(None, secret)  # SHA-512 alone would answer in no time, and show that it was imported
            try:
                return _matches_mosquitto_hash(credential, secret)
            except ValueError:
                return False  # somebody edited the store
        try:
            return _HASHER.verify(self._decoy if credential is None else credential, secret)
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError, UnicodeError):
            if credential is None:
                raise
            # Not a hash of ours, for somebody edited the store. It must look like a wrong secret.
            return self.check(None, secret)

    def match(self, credential: str | None, next_credential: str, secret: bytes) -> MatchedSecret:
        """What `HashSlot.match` answers. Blocks."""
        if credential is not None and next_credential:
            with contextlib.suppress(ValueError):  # somebody edited the store
                return match_both(secret, credential, next_credential)
        return MatchedSecret.CURRENT if self.check(credential, secret) else MatchedSecret.NEITHER

    def submit(self, work: Callable[[], _Answer]) -> Future[_Answer]:
        """Have a thread do `work`. Only the holder of a slot may call it. Raises Busy."""
        try:
            return self._threads.submit(work)
        except RuntimeError:
            raise Busy(_CLOSING) from None

    def free_slot(self, standing: Standing) -> None:
        """Give the slot of a hash request of this standing to whoever is next."""
        self._at_work -= 1
        self._background_at_work -= standing is Standing.BACKGROUND
        self._give_slots()

    async def _wait(self, request: HashRequest, patience: float) -> HashSlot:
        if self._is_closed:
            raise Busy(_CLOSING)
        waiter = _SlotWaiter(request)
        self._queue.add(waiter)
        self._give_slots()
        self._turn_away(self._queue.evict_excess(request, _now()))
        try:
            async with asyncio.timeout(patience):
                refusal = await waiter.slot_given
        except BaseException as error:
            self._queue.remove(waiter)
            if waiter.has_slot:
                self.free_slot(request.standing)  # the slot came just as the peer left
            if isinstance(error, TimeoutError):
                raise Busy(f"no turn within {patience:g} s") from None
            raise
        if refusal is not None:
            raise Busy(refusal)
        return HashSlot(self, request.standing)

    def _give_slots(self) -> None:
        while self._at_work < self._slots:
            # At most one of standing BACKGROUND is hashed at a time, so that a login finds a free thread.
            waiter = self._queue.next(_now(), background=not self._background_at_work)
            if waiter is None:
                return
            if waiter.slot_given.done():
                continue  # its peer has just gone
            self._at_work += 1
            self._background_at_work += waiter.request.standing is Standing.BACKGROUND
            waiter.slot_given.set_result(None)

    def _turn_away(self, waiters: Iterable[Waiter]) -> None:
        for waiter in waiters:
            if isinstance(waiter, _SlotWaiter) and not waiter.slot_given.done():
                waiter.slot_given.set_result(_CLOSING if self._is_closed else "too many logins at once")


class HashSlot:
    """The right to one hash in a thread of the pool.

    The slot is free again when the thread is done, not when the peer gives up waiting: otherwise logins that
    are begun and dropped could start any number of hashes at once.
    """

    def __init__(self, pool: PasswordPool, standing: Standing) -> None:
        self._pool = pool
        self._standing = standing
        self._is_used = False

    async def verify(self, credential: str | None, secret: bytes) -> bool:
        """Whether `secret` matches the credential. For None (no such device): False, after the same time.

        Raises Busy. A credential with other parameters than today's takes a different time until it is
        rehashed; one of Mosquitto's takes our time and its own: a tenth of a millisecond more with its 101
        iterations.
        """
        return await self.run(lambda: self._pool.check(credential, secret))

    async def match(self, credential: str | None, next_credential: str, secret: bytes) -> MatchedSecret:
        """Which of a device's secrets it is. `next_credential` is empty if it has only one.

        Takes the same time as `verify`, and otherwise behaves like it.
        """
        return await self.run(lambda: self._pool.match(credential, next_credential, secret))

    async def run(self, work: Callable[[], _Answer]) -> _Answer:
        """The result of `work`, done in a thread. Raises Busy if there is not enough memory for a hash."""
        loop = asyncio.get_running_loop()

        def free_slot(_: Future[_Answer]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(self._pool.free_slot, self._standing)

        self._is_used = True
        began = loop.time()
        try:
            job = self._pool.submit(work)
        except Busy:
            self._pool.free_slot(self._standing)
            raise
        answer = asyncio.wrap_future(job)
        # After `answer`, so that whoever is next sees what came of this one.
        job.add_done_callback(free_slot)
        try:
            found = await answer
        except (VerificationError, HashingError) as error:
            raise Busy(f"Argon2 failed: {error}") from error
        finally:
            del answer, job  # their error refers to this frame: see `_SlotWaiter`
        self._pool.on_hashed(loop.time() - began)
        return found

    def end(self) -> None:
        """Free the slot if it was not used."""
        if not self._is_used:
            self._is_used = True
            self._pool.free_slot(self._standing)


class _SlotWaiter(Waiter):
    """A hash request in the queue, and the future that is done when it has a slot or was refused.

    Its result is why it was refused, None for a slot. An exception in its place would refer to the frame that
    awaits it, and that to the future: a cycle, which keeps the secret and the connection (`gc_tuning`).
    """

    __slots__ = ("slot_given",)

    def __init__(self, request: HashRequest) -> None:
        super().__init__(request)
        self.slot_given: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    @property
    def has_slot(self) -> bool:
        """Whether it has a slot: it was not turned away, and did not leave before."""
        future = self.slot_given
        return future.done() and not future.cancelled() and future.result() is None


def _now() -> float:
    return asyncio.get_running_loop().time()


class VerifiedSecrets:
    """Remembers secrets that were verified, so that a reconnect costs no second Argon2. In memory only.

    A secret is kept as a BLAKE2b digest with a key that only this process has: a dump of the store is of no
    use, and a dump of the memory does not reveal a secret of 256 bits. The digest also covers the device's
    credential and its version, which counts the changes that end its connections: so no remembered secret
    outlives a change, even one that this process has not heard of yet.
    """

    def __init__(self) -> None:
        self._key = os.urandom(64)
        self._digests: dict[str, bytes] = {}

    def add(self, device: Device, secret: bytes) -> None:
        """Remember that `secret` was verified for the device. It replaces the one remembered before."""
        self._digests[device.device_id] = self._digest(device, secret)

    def matches(self, device: Device | None, secret: bytes) -> bool:
        """Whether this is the secret that was verified for the device as it is now. A few microseconds.

        A digest is made even if nothing is remembered: a long secret takes longer, and the time must not show
        which devices exist.
        """
        if device is None:
            device = _NOBODY
        digest = self._digest(device, secret)
        return hmac.compare_digest(self._digests.get(device.device_id, b""), digest)

    def forget(self, device_id: str) -> None:
        """The device has changed, or is gone."""
        self._digests.pop(device_id, None)

    def _digest(self, device: Device, secret: bytes) -> bytes:
        # The version is a number and the credential's text holds no zero byte: the parts cannot run together.
        bound = f"{device.version}\0{device.credential}\0".encode()
        return hashlib.blake2b(bound + secret, key=self._key, digest_size=32).digest()
