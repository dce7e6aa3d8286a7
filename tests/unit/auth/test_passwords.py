"""Argon2id off the loop: right answers for one price, a queue that is never longer than promised."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import threading
from dataclasses import replace

import pytest
from argon2 import PasswordHasher, extract_parameters

from gateway.auth import passwords
from gateway.auth.login_queue import HashRequest, Standing
from gateway.auth.password_hash_identification import is_imported
from gateway.auth.passwords import (
    PROFILE,
    Busy,
    PasswordPool,
    VerifiedSecrets,
    hash_secret,
    imported_credential,
    needs_rehash,
)
from gateway.policy.engine.identity import Device

SECRET = b"\x00\xff binary secrets are allowed"
CREDENTIAL = hash_secret(SECRET)
# Of the password "pw": made by mosquitto_passwd 2.0.11, with -H sha512 and without.
SHA512 = (
    "$6$Hojc75di/D2J/QXH$"
    "WPqUutArYFR4hFr2KRgWsyuiGmBkfv+JAQiF03l35dO6RHy2G2XROQF2qwER2bJa/vGrwK/k8XzFL1PcYsTIRQ=="
)
PBKDF2 = (
    "$7$101$Op5LEh/NekcvqYBc$"
    "BD4w8/Dg99e5ntHru05GKeo221klrZvkqp8dI8WJ+TFUaXGe6kp4reLtHIUZY9acBPZdCnuW1jMsQWcINVKSew=="
)
DEVICE = Device(
    device_id="lamp-1",
    roles=("sensor",),
    labels={},
    enabled=True,
    credential=CREDENTIAL,
    version=3,
    created_at=0,
    updated_at=0,
)


NOBODY = HashRequest(Standing.UNKNOWN, "192.0.2.1", "192.0.2.0/24")


async def verify(pool: PasswordPool, credential: str | None, secret: bytes) -> bool:
    async with pool.slot(NOBODY) as slot:
        return await slot.verify(credential, secret)


@pytest.fixture
def pool():
    pool = PasswordPool(threads=2, waiting=3)
    yield pool
    pool.close()


class Gate:
    """Keeps the pool's threads busy until it is opened."""

    def __init__(self, monkeypatch) -> None:
        self._open = threading.Event()
        self.begun = threading.Semaphore(0)
        self.verified: list[str] = []
        hasher = passwords._HASHER

        class Slow:
            hash = staticmethod(hasher.hash)

            @staticmethod
            def verify(credential, secret):
                self.begun.release()
                self._open.wait(20)
                self.verified.append(credential)
                return hasher.verify(credential, secret)

        monkeypatch.setattr(passwords, "_HASHER", Slow)

    def open(self) -> None:
        self._open.set()


def test_the_parameters_are_owasps():
    assert extract_parameters(CREDENTIAL) == PROFILE
    assert CREDENTIAL.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_right_and_wrong(pool):
    assert await verify(pool, CREDENTIAL, SECRET)
    assert not await verify(pool, CREDENTIAL, b"wrong")
    assert not await verify(pool, CREDENTIAL, b"")
    assert await verify(pool, await pool.hash(b""), b"")


async def test_hashing_is_salted(pool):
    assert await pool.hash(SECRET) != await pool.hash(SECRET)


@pytest.mark.parametrize(
    "credential",
    [
        None,
        "",
        "plain",
        "$argon2id$v=19$m=19456,t=2,p=1$AAAA",
        "$argon2id$v=19$m=1,t=2,p=1$!!!!$????",
        "pässword",
    ],
)
async def test_whatever_cannot_be_verified_costs_one_hash_and_is_wrong(pool, credential, monkeypatch):
    gate = Gate(monkeypatch)
    gate.open()
    assert not await verify(pool, credential, SECRET)
    assert gate.verified[-1] == pool._decoy
    assert extract_parameters(pool._decoy) == PROFILE


@pytest.mark.parametrize("hashed", [SHA512, PBKDF2])
async def test_a_hash_of_mosquittos_is_verified(pool, hashed):
    credential = imported_credential(hashed)
    assert credential.startswith("$mosquitto$")
    assert is_imported(credential)
    assert needs_rehash(credential)
    assert await verify(pool, credential, b"pw")
    assert not await verify(pool, credential, b"pW")
    assert not await verify(pool, credential, b"")
    assert not await verify(pool, hashed, b"pw"), "nothing but its own form is one"


@pytest.mark.parametrize("secret", [b"pw", b"wrong"])
@pytest.mark.parametrize("hashed", [SHA512, PBKDF2])
async def test_a_hash_of_mosquittos_costs_an_argon2_too(pool, hashed, secret, monkeypatch):
    """Or the answer would come in no time, and tell that there is such a device."""
    gate = Gate(monkeypatch)
    gate.open()
    await verify(pool, imported_credential(hashed), secret)
    assert gate.verified == [pool._decoy]


NOT_MOSQUITTOS = [
    "",
    "$",
    "pw",
    "$6$$",
    PBKDF2.replace("$101$", "$0$"),
    PBKDF2.replace("$101$", "$-1$"),
    PBKDF2.replace("$101$", "$1e3$"),
    PBKDF2.replace("$101$", "$\u0661$"),  # a digit, but not of ASCII
    PBKDF2.replace("$101$", "$100001$"),
    PBKDF2.replace("$101$", f"${'9' * 5000}$"),
    PBKDF2.replace("$101$", "$"),
    PBKDF2.replace("$7$", "$8$"),
    SHA512.replace("$6$", "$6$101$"),
    SHA512[:-3],
    SHA512 + "$x",
    SHA512 + "\n",
    "x" + SHA512,
    SHA512.replace("Hojc", "Ho!c"),
    SHA512.replace("Hojc75di/D2J/QXH", "Hojc7"),
    SHA512.replace("Hojc75di/D2J/QXH", "AAAA" * 23),
    SHA512.replace("TIRQ==", "TIRQAA"),
    "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA",
]


@pytest.mark.parametrize("hashed", NOT_MOSQUITTOS, ids=range(len(NOT_MOSQUITTOS)))
async def test_no_other_hash_is_imported_and_none_is_verified(pool, hashed, monkeypatch):
    with pytest.raises(ValueError) as refused:
        imported_credential(hashed)
    assert not any(len(part) > 8 and part in str(refused.value) for part in hashed.split("$"))
    gate = Gate(monkeypatch)
    gate.open()
    assert not await verify(pool, "$mosquitto" + hashed, b"pw")
    assert gate.verified[-1] == pool._decoy


async def test_the_most_iterations_are_a_hundred_thousand(pool):
    salt, digest = b"salt" * 3, b"\xff" * 64
    parts = [base64.b64encode(part).decode() for part in (salt, digest)]
    assert is_imported(imported_credential("$".join(["$7$100000", *parts])))


async def test_the_queue_is_bounded(pool, monkeypatch):
    gate = Gate(monkeypatch)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(verify(pool, CREDENTIAL, SECRET)) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await verify(pool, CREDENTIAL, SECRET)
        gate.open()
    assert all(task.result() for task in running)
    assert await verify(pool, CREDENTIAL, SECRET), "and free again"


async def test_a_peer_that_goes_away_keeps_no_place(pool, monkeypatch):
    """Nor does it give one back that a thread is still at work in."""
    gate = Gate(monkeypatch)
    tasks = [asyncio.create_task(verify(pool, CREDENTIAL, SECRET)) for _ in range(5)]
    await asyncio.to_thread(gate.begun.acquire)
    await asyncio.to_thread(gate.begun.acquire)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (pool._at_work, len(pool._queue)) == (2, 0), "two are being hashed, three were waiting"
    gate.open()
    assert await asyncio.gather(*(verify(pool, CREDENTIAL, SECRET) for _ in range(3))) == [True] * 3
    assert len(gate.verified) == 5, "and nothing was hashed for the three"
    await idle(pool)


async def idle(pool: PasswordPool) -> None:
    """Return when no turn is under way; a turn that was not given back would make this wait for ever."""
    async with asyncio.timeout(10):
        while pool._at_work:  # noqa: ASYNC110 - a few times, at the end
            await asyncio.sleep(0.01)


async def test_a_peer_that_goes_just_when_its_turn_comes_gives_it_back(pool):
    async with contextlib.AsyncExitStack() as at_work:
        for _ in range(2):
            await at_work.enter_async_context(pool.slot(NOBODY))
        waiting = asyncio.create_task(verify(pool, CREDENTIAL, SECRET))
        await asyncio.sleep(0)
        assert len(pool._queue) == 1
    assert (len(pool._queue), pool._at_work) == (0, 1), "it has its turn, and does not know it yet"
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert pool._at_work == 0


async def test_a_login_finds_a_thread_free_of_what_has_time(pool):
    anew = [asyncio.create_task(pool.hash(SECRET)) for _ in range(3)]
    await asyncio.sleep(0)
    assert (pool._at_work, len(pool._queue)) == (1, 2)
    await asyncio.gather(*anew)


async def test_a_turn_that_is_not_used_is_given_back(pool):
    for _ in range(5):
        with pytest.raises(LookupError):
            async with pool.slot(NOBODY):
                raise LookupError
    assert pool._at_work == 0


async def test_nobody_waits_longer_than_it_makes_sense(monkeypatch):
    pool = PasswordPool(threads=1, waiting=3, patience=0.05)
    gate = Gate(monkeypatch)
    first = asyncio.create_task(verify(pool, CREDENTIAL, SECRET))
    await asyncio.to_thread(gate.begun.acquire)
    with pytest.raises(Busy, match="no turn within"):
        await verify(pool, CREDENTIAL, SECRET)
    assert len(pool._queue) == 0
    gate.open()
    assert await first
    pool.close()


async def test_making_hashes_anew_waits_for_the_logins_and_takes_no_place_of_theirs(pool, monkeypatch):
    """400 imported devices at once: their new hashes were made in the turns of those who waited."""
    gate = Gate(monkeypatch)
    logins = [asyncio.create_task(verify(pool, CREDENTIAL, SECRET)) for _ in range(2)]
    await asyncio.sleep(0)
    anew = [asyncio.create_task(pool.hash(SECRET)) for _ in range(3)]
    await asyncio.sleep(0)
    logins += [asyncio.create_task(verify(pool, CREDENTIAL, SECRET)) for _ in range(3)]
    done: list[str] = []
    for task in logins:
        task.add_done_callback(lambda _: done.append("login"))
    for task in anew:
        task.add_done_callback(lambda _: done.append("anew"))
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(*logins, *anew)
    # The last login is still at work when a thread has nothing better to do.
    assert done[:4] == ["login"] * 4
    assert len(done) == 8


class Exhausted:
    """An Argon2 without memory."""

    @staticmethod
    def verify(credential, secret):
        raise passwords.VerificationError("Memory allocation error")


async def test_no_memory_is_busy_and_not_a_wrong_secret(pool, monkeypatch):
    monkeypatch.setattr(passwords, "_HASHER", Exhausted)
    with pytest.raises(Busy, match="Memory"):
        await verify(pool, CREDENTIAL, SECRET)
    await idle(pool)


async def asked(pool):
    """A login, which takes Busy for an answer: an error that ends its task would stay with that."""
    with contextlib.suppress(Busy):
        await verify(pool, CREDENTIAL, SECRET)


async def turned_away(pool, monkeypatch):
    tasks = [asyncio.create_task(asked(pool)) for _ in range(6)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*tasks, return_exceptions=True)


async def closed_meanwhile(pool, monkeypatch):
    tasks = [asyncio.create_task(asked(pool)) for _ in range(5)]
    await asyncio.sleep(0)
    pool.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def never_its_turn(pool, monkeypatch):
    pool._patience = 0.0
    await asyncio.gather(*(asked(pool) for _ in range(5)))


async def gone_meanwhile(pool, monkeypatch):
    tasks = [asyncio.create_task(asked(pool)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def without_memory(pool, monkeypatch):
    monkeypatch.setattr(passwords, "_HASHER", Exhausted)
    await asyncio.gather(asked(pool))


@pytest.mark.parametrize(
    "refuse", [turned_away, closed_meanwhile, never_its_turn, gone_meanwhile, without_memory]
)
async def test_whoever_is_refused_leaves_nothing_to_the_garbage_collector(pool, monkeypatch, refuse):
    """Kind: an error kept where a frame of its own traceback can reach it keeps them all, and the secret."""
    gc.collect()
    gc.disable()
    try:
        await refuse(pool, monkeypatch)
        await idle(pool)
        await asyncio.sleep(0)
        kinds = (Busy, passwords.VerificationError, passwords._SlotWaiter)
        assert [type(one) for one in gc.get_objects() if isinstance(one, kinds)] == []
    finally:
        gc.enable()


async def test_a_closed_pool_takes_nothing(pool):
    pool.close()
    with pytest.raises(Busy):
        await verify(pool, CREDENTIAL, SECRET)
    assert pool._at_work == 0


async def test_whoever_waits_when_the_pool_is_closed_is_told(pool, monkeypatch):
    gate = Gate(monkeypatch)
    tasks = [asyncio.create_task(verify(pool, CREDENTIAL, SECRET)) for _ in range(3)]
    await asyncio.to_thread(gate.begun.acquire)
    pool.close()
    with pytest.raises(Busy, match="shutting down"):
        await tasks[2]
    gate.open()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_needs_rehash():
    assert not needs_rehash(CREDENTIAL)
    assert needs_rehash(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(SECRET))
    assert not needs_rehash("plain")


def test_remembered():
    remembered = VerifiedSecrets()
    assert not remembered.matches(DEVICE, SECRET)
    remembered.add(DEVICE, SECRET)
    assert remembered.matches(DEVICE, SECRET)
    assert not remembered.matches(DEVICE, b"wrong")
    assert not remembered.matches(replace(DEVICE, device_id="lamp-2"), SECRET)
    remembered.forget("lamp-1")
    assert not remembered.matches(DEVICE, SECRET)
    remembered.forget("lamp-1")


@pytest.mark.parametrize("change", [{"version": 4}, {"credential": hash_secret(SECRET)}])
def test_remembered_outlives_no_rotation(change):
    remembered = VerifiedSecrets()
    remembered.add(DEVICE, SECRET)
    assert not remembered.matches(replace(DEVICE, **change), SECRET)


def test_remembered_keeps_one_secret_a_device():
    remembered = VerifiedSecrets()
    remembered.add(DEVICE, SECRET)
    remembered.add(DEVICE, b"other")
    assert remembered.matches(DEVICE, b"other")
    assert not remembered.matches(DEVICE, SECRET)
    assert len(remembered._digests) == 1


def test_remembered_keeps_no_secret_and_no_plain_digest():
    one, two = VerifiedSecrets(), VerifiedSecrets()
    one.add(DEVICE, SECRET)
    two.add(DEVICE, SECRET)
    assert one._digests != two._digests, "keyed at random in each process"
    assert SECRET not in one._digests["lamp-1"]
