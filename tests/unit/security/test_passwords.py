"""Argon2id off the loop: right answers for one price, a queue that is never longer than promised."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from argon2 import PasswordHasher, extract_parameters

from gateway.core.identity import Device
from gateway.security import passwords
from gateway.security.passwords import PROFILE, Busy, PasswordPool, Remembered, hash_secret, needs_rehash

SECRET = b"\x00\xff binary secrets are allowed"
CREDENTIAL = hash_secret(SECRET)
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
    assert await pool.verify(CREDENTIAL, SECRET)
    assert not await pool.verify(CREDENTIAL, b"wrong")
    assert not await pool.verify(CREDENTIAL, b"")
    assert await pool.verify(await pool.hash(b""), b"")


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
    assert not await pool.verify(credential, SECRET)
    assert gate.verified[-1] == pool._decoy
    assert extract_parameters(pool._decoy) == PROFILE


async def test_the_queue_is_bounded(pool, monkeypatch):
    gate = Gate(monkeypatch)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(pool.verify(CREDENTIAL, SECRET)) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await pool.verify(CREDENTIAL, SECRET)
        with pytest.raises(Busy):
            await pool.hash(SECRET)
        gate.open()
    assert all(task.result() for task in running)
    assert await pool.verify(CREDENTIAL, SECRET), "and free again"


async def test_a_peer_that_goes_away_keeps_no_place(pool, monkeypatch):
    """Nor does it give one back that a thread is still at work in."""
    gate = Gate(monkeypatch)
    tasks = [asyncio.create_task(pool.verify(CREDENTIAL, SECRET)) for _ in range(5)]
    await asyncio.to_thread(gate.begun.acquire)
    await asyncio.to_thread(gate.begun.acquire)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert pool._jobs == 2, "two are being hashed, three were waiting"
    gate.open()
    assert await asyncio.gather(*(pool.verify(CREDENTIAL, SECRET) for _ in range(3))) == [True] * 3
    assert pool._jobs == 0


async def test_no_memory_is_busy_and_not_a_wrong_secret(pool, monkeypatch):
    class Exhausted:
        @staticmethod
        def verify(credential, secret):
            raise passwords.VerificationError("Memory allocation error")

    monkeypatch.setattr(passwords, "_HASHER", Exhausted)
    with pytest.raises(Busy, match="Memory"):
        await pool.verify(CREDENTIAL, SECRET)
    assert pool._jobs == 0


async def test_a_closed_pool_takes_nothing(pool):
    pool.close()
    with pytest.raises(Busy):
        await pool.verify(CREDENTIAL, SECRET)
    assert pool._jobs == 0


def test_needs_rehash():
    assert not needs_rehash(CREDENTIAL)
    assert needs_rehash(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(SECRET))
    assert not needs_rehash("plain")


def test_remembered():
    remembered = Remembered()
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
    remembered = Remembered()
    remembered.add(DEVICE, SECRET)
    assert not remembered.matches(replace(DEVICE, **change), SECRET)


def test_remembered_keeps_one_secret_a_device():
    remembered = Remembered()
    remembered.add(DEVICE, SECRET)
    remembered.add(DEVICE, b"other")
    assert remembered.matches(DEVICE, b"other")
    assert not remembered.matches(DEVICE, SECRET)
    assert len(remembered._digests) == 1


def test_remembered_keeps_no_secret_and_no_plain_digest():
    one, two = Remembered(), Remembered()
    one.add(DEVICE, SECRET)
    two.add(DEVICE, SECRET)
    assert one._digests != two._digests, "keyed at random in each process"
    assert SECRET not in one._digests["lamp-1"]
