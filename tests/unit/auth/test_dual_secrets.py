"""Two secrets of a device: hashed alike, told apart by one Argon2, the old one good until it has ended."""

from __future__ import annotations

import dataclasses

import pytest
from argon2 import PasswordHasher

from gateway.auth.dual_secrets import MatchedSecret, SecretPairs, hash_like, match_both
from gateway.auth.passwords import PasswordPool, hash_secret
from gateway.policy.engine.identity import Device

NOW = 1_764_000_000
OLD, NEW = b"the old secret", b"the new secret"
CREDENTIAL = hash_secret(OLD)
BESIDE = hash_like(NEW, CREDENTIAL)
LAMP = Device(
    "lamp-1",
    (),
    {},
    enabled=True,
    credential=CREDENTIAL,
    version=4,
    created_at=0,
    updated_at=0,
    next_credential=BESIDE,
    overlap_until=NOW + 60,
)


def test_both_have_the_same_salt_and_parameters_and_other_hashes():
    assert CREDENTIAL.rsplit("$", 1)[0] == BESIDE.rsplit("$", 1)[0]
    assert CREDENTIAL != BESIDE
    assert hash_like(OLD, CREDENTIAL) == CREDENTIAL


@pytest.mark.parametrize(
    ("secret", "which"),
    [
        (OLD, MatchedSecret.CURRENT),
        (NEW, MatchedSecret.NEXT),
        (b"another", MatchedSecret.NEITHER),
        (b"", MatchedSecret.NEITHER),
    ],
)
def test_one_hash_tells_which_it_is(secret, which, monkeypatch):
    assert match_both(secret, CREDENTIAL, BESIDE) is which
    pool = PasswordPool(threads=1)
    assert pool.match(CREDENTIAL, BESIDE, secret) is which
    monkeypatch.setattr(PasswordPool, "check", lambda *_: pytest.fail("a second Argon2"))
    assert pool.match(CREDENTIAL, BESIDE, secret) is which
    pool.close()


def test_a_hash_with_the_parameters_of_before_is_matched_with_those():
    before = PasswordHasher(time_cost=1, memory_cost=1_024, parallelism=2).hash(OLD)
    beside = hash_like(NEW, before)
    assert "m=1024,t=1,p=2" in beside
    assert match_both(NEW, before, beside) is MatchedSecret.NEXT


@pytest.mark.parametrize(
    "credential", ["", "x", "$mosquitto$6$c2FsdA==$aGFzaA==", "$argon2i$v=19$m=8,t=1,p=1$YWFhYWFhYWE$YQ"]
)
def test_what_is_no_argon2id_hash_can_have_none_beside_it(credential):
    with pytest.raises(ValueError, match="no Argon2id"):
        hash_like(NEW, credential)


def test_an_edited_row_lets_nobody_in_by_the_next_secret_and_locks_nobody_out():
    pool = PasswordPool(threads=1)
    other = hash_secret(NEW)  # of another salt
    assert pool.match(CREDENTIAL, other, NEW) is MatchedSecret.NEITHER
    assert pool.match(CREDENTIAL, other, OLD) is MatchedSecret.CURRENT
    assert pool.match("damaged", BESIDE, OLD) is MatchedSecret.NEITHER
    assert pool.match(None, "", OLD) is MatchedSecret.NEITHER
    pool.close()


async def test_the_old_secret_ends_when_the_next_was_used_though_the_store_fails():
    asked = []

    async def fails(device):
        asked.append(device)

    pairs = SecretPairs(lambda: NOW, fails)
    assert not pairs.current_secret_ended(LAMP)
    after = await pairs.note_next_used(LAMP)
    assert (after.credential, after.next_credential, after.version) == (BESIDE, "", 5)
    assert pairs.current_secret_ended(LAMP), "in memory, until the store has it"
    assert asked == [LAMP]
    assert not pairs.current_secret_ended(dataclasses.replace(LAMP, version=9)), "a later pair is another one"
    assert LAMP.is_of_version(5)
    assert not LAMP.is_of_version(6)
    assert not dataclasses.replace(LAMP, next_credential="").is_of_version(5)


async def test_what_the_store_says_is_the_device_from_now_on():
    ended = dataclasses.replace(LAMP, version=5, next_credential="", token_epoch=77)

    async def end(_):
        return ended

    assert await SecretPairs(lambda: NOW, end).note_next_used(LAMP) is ended


def test_by_the_clock_it_ends_by_itself():
    now = [NOW + 59]
    pairs = SecretPairs(lambda: now[0])
    assert not pairs.current_secret_ended(LAMP)
    now[0] += 1
    assert pairs.current_secret_ended(LAMP)
    assert not pairs.current_secret_ended(dataclasses.replace(LAMP, next_credential="")), (
        "the only one never does"
    )
