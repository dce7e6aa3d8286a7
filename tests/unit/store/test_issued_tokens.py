"""Tokens in the store on a real SQLite file: what was issued, what was revoked, and who learns of it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from harness.stored_devices import add_devices

from gateway.policy.engine.identity import Grant, Revocation
from gateway.store import IssuedToken, Store, StoreError, UnknownDevice, open_store
from gateway.store import tokens as rows
from gateway.store.device_directory import Directory

NOW = int(datetime.now(UTC).timestamp())
LATER = NOW + 86_400


async def add(store: Store, device_id: str = "lamp-1"):
    return await store.devices.add(device_id, credential="c", roles=[], labels={})


def sql(path: Path, statement: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def grant(device, token_id: str = "t1", *, root: str | None = None, issued_at: int = NOW) -> Grant:
    return Grant(token_id, root or token_id, device.token_epoch, issued_at, LATER, {})


def record(token_id: str, device_id: str = "lamp-1", **values) -> IssuedToken:
    first = IssuedToken(token_id, device_id, token_id, 1, NOW, LATER, "auth")
    return replace(first, **values)


async def test_what_was_issued_is_kept_until_it_expires(store, path):
    await add_devices(store, "lamp-1", "lamp-2")
    first, second = record("t1"), record("t2", "lamp-2", root="t1", issued_at=NOW + 5, source="admin")
    await store.tokens.add([second, first])
    assert await store.tokens.read() == [first, second]
    assert await store.tokens.read("lamp-2") == [second]
    assert await store.tokens.read("lamp-3") == []
    sql(path, "UPDATE tokens SET expires_at = ? WHERE token_id = 't1'", NOW - 1)
    assert await store.tokens.read() == [second]
    await store.tokens.add([record("t3")])
    assert sql(path, "SELECT token_id FROM tokens ORDER BY 1") == [("t2",), ("t3",)], "dropped by the next"


async def test_nothing_issued_is_nothing_written(store):
    mark = store.wal_stamp()
    await store.tokens.add([])
    assert store.wal_stamp() == mark


async def test_a_record_may_be_saved_again(store):
    """Whoever was told of a failure after the commit brings it once more, beside others."""
    await add_devices(store, "lamp-1")
    await store.tokens.add([record("t1")])
    await store.tokens.add([record("t1"), record("t2")])
    assert [one.token_id for one in await store.tokens.read()] == ["t1", "t2"]


async def test_a_device_that_asks_without_end_pushes_out_its_own_records(store, monkeypatch):
    monkeypatch.setattr(rows, "_KEPT_OF_A_DEVICE", 3)
    await add_devices(store, "lamp-1", "lamp-2")
    await store.tokens.add([record("other", "lamp-2", issued_at=NOW - 99)])
    await store.tokens.add([record(f"t{number}", issued_at=NOW + number) for number in range(5)])
    assert [one.token_id for one in await store.tokens.read()] == ["other", "t2", "t3", "t4"]


async def test_a_record_of_a_grant(store):
    device = await add(store)
    one = IssuedToken.of("lamp-1", grant(device, "t2", root="t1"), "api")
    assert one == IssuedToken("t2", "lamp-1", "t1", device.token_epoch, NOW, LATER, "api")


async def test_a_revocation_comes_with_the_device(store):
    device = await add(store)
    await add(store, "lamp-2")
    revocation = await store.tokens.revoke(device_id="lamp-1", root="t1", since=NOW, until=LATER)
    assert revocation == Revocation("t1", NOW, LATER)
    for found in (
        await store.devices.find("lamp-1"),
        (await store.devices.read())[0],
        (await store.devices.read(["lamp-1"]))[0],
        await store.devices.set_enabled("lamp-1", enabled=False),
    ):
        assert found.revocations == (revocation,)
        assert found.has_revoked(grant(device))
        assert found.has_revoked(grant(device, "t9", root="t1")), "what was renewed from it too"
        assert not found.has_revoked(grant(device, "t0", root="t1", issued_at=NOW - 1)), "not what was before"
        assert not found.has_revoked(grant(device, "t2"))
    assert (await store.devices.read())[1].revocations == ()
    assert (await store.devices.find("lamp-1")).version == device.version + 1, (
        "no session without a token ends"
    )


async def test_revoking_again_only_widens(store):
    await add(store)
    for since, until in ((NOW, LATER), (NOW - 5, LATER - 5), (NOW + 5, LATER + 5)):
        await store.tokens.revoke(device_id="lamp-1", root="t1", since=since, until=until)
    assert (await store.devices.find("lamp-1")).revocations == (Revocation("t1", NOW - 5, LATER + 5),)


@pytest.mark.parametrize("years", [-30, 30])
async def test_no_clock_undoes_a_revocation(store, monkeypatch, years):
    """One that ran ahead for a moment had them pruned, and what was revoked was good again for ever."""
    device = await add(store)
    await store.tokens.revoke(device_id="lamp-1", root="t1", since=NOW, until=LATER)
    with monkeypatch.context() as patched:
        patched.setattr("gateway.store.wall_clock.now", lambda: NOW + years * 31_536_000)
        await store.tokens.revoke(device_id="lamp-1", root="t2", since=NOW, until=LATER)
        assert len((await store.devices.find("lamp-1")).revocations) == 2
        await store.devices.set_enabled("lamp-1", enabled=False)
        await store.tokens.add([record("t9")])
    for found in (await store.devices.find("lamp-1"), *await store.devices.read()):
        assert found.has_revoked(grant(device, "t1"))
        assert found.has_revoked(grant(device, "t2"))


async def test_a_revocation_holds_though_what_it_revokes_should_have_expired(store, path):
    """By whose clock? A device that comes with it has one by which it is good."""
    device = await add(store)
    await store.tokens.revoke(device_id="lamp-1", root="t1", since=NOW - 9, until=NOW - 1)
    await store.tokens.revoke(device_id="lamp-1", root="t2", since=NOW, until=LATER)
    assert (await store.devices.find("lamp-1")).has_revoked(grant(device))
    assert sql(path, "SELECT root FROM token_revocations ORDER BY 1") == [("t1",), ("t2",)]


async def test_revocations_of_a_device_are_bounded_and_none_is_lost(store, path, monkeypatch):
    monkeypatch.setattr(rows, "REVOCATIONS_MAX", 3)
    device = await add(store)
    other = await add(store, "lamp-2")
    for number in range(3):
        assert await store.tokens.revoke(device_id="lamp-1", root=f"t{number}", since=NOW, until=LATER)
    assert await store.tokens.revoke(device_id="lamp-1", root="t2", since=NOW - 5, until=LATER), "it is there"
    assert await store.tokens.revoke(device_id="lamp-2", root="t0", since=NOW, until=LATER), "of its own"
    assert not (await store.devices.find("lamp-1")).has_revoked(grant(device, "t9"))
    before = await store.changes.last()
    assert await store.tokens.revoke(device_id="lamp-1", root="t3", since=NOW, until=LATER) is None
    after = await store.devices.find("lamp-1")
    for token_id in ("t0", "t1", "t2", "t3", "t9"):
        assert after.has_revoked(grant(device, token_id))
    assert after.has_revoked(replace(grant(device), epoch=None, issued_at=after.updated_at - 1))
    assert not after.has_revoked(grant(after, "t9")), "those issued from now on are good"
    assert (after.revocations, after.version) == ((), device.version)
    assert await store.changes.since(before) == (before + 1, {"lamp-1"})
    assert not (await store.devices.find("lamp-2")).has_revoked(grant(other, "t9"))
    assert sql(path, "SELECT device_id, root FROM token_revocations") == [("lamp-2", "t0")]


async def test_another_secret_revokes_all_tokens_and_a_rehash_none(store, path):
    device = await add(store)
    await store.tokens.revoke(device_id="lamp-1", root="t1", since=NOW, until=LATER)
    await store.devices.rehash_credential("lamp-1", version=device.version, credential="c2")
    assert not (await store.devices.find("lamp-1")).has_revoked(grant(device, "t2"))
    rotated = await store.devices.set_credential("lamp-1", "c3")
    assert rotated.has_revoked(grant(device, "t2"))
    assert rotated.revocations == (), "the new epoch says it all"
    assert sql(path, "SELECT count(*) FROM token_revocations") == [(0,)]
    assert await store.devices.find("lamp-1") == rotated


async def test_all_tokens_of_a_device_are_revoked_and_its_sessions_by_secret_stay(store):
    device = await add(store)
    other = await add(store, "lamp-2")
    after = await store.devices.revoke_tokens("lamp-1")
    assert after.has_revoked(grant(device))
    assert not after.has_revoked(grant(after)), "those issued from now on are good"
    assert after.version == device.version
    assert not (await store.devices.find("lamp-2")).has_revoked(grant(other))
    assert (await store.devices.revoke_tokens("lamp-1")).token_epoch > after.token_epoch


async def test_disabled_and_enabled_the_tokens_are_good_again(store):
    device = await add(store)
    await store.devices.set_enabled("lamp-1", enabled=False)
    assert not (await store.devices.set_enabled("lamp-1", enabled=True)).has_revoked(grant(device))


async def test_a_device_added_again_does_not_take_the_tokens_of_its_predecessor(store, path):
    device = await add(store)
    await store.tokens.add([IssuedToken.of("lamp-1", grant(device), "auth")])
    await store.tokens.revoke(device_id="lamp-1", root="t1", since=NOW, until=LATER)
    await store.devices.remove("lamp-1")
    assert await store.tokens.read() == []
    assert sql(path, "SELECT count(*) FROM token_revocations") == [(0,)]
    # What a gateway had issued before it heard of that.
    other = record("t3", "lamp-2")
    await add_devices(store, "lamp-2")
    await store.tokens.add([record("t2"), other])
    await store.tokens.add([record("t2")])
    assert (await add(store)).has_revoked(grant(device))
    assert await store.tokens.read() == [other]


async def test_whether_a_record_is_revoked(store):
    device = await add(store)
    one = IssuedToken.of("lamp-1", grant(device), "auth")
    assert not one.is_revoked_by(device)
    assert one.is_revoked_by(None), "its device is gone"
    await store.tokens.revoke(device_id="lamp-1", root="t1", since=NOW, until=LATER)
    assert one.is_revoked_by(await store.devices.find("lamp-1"))


async def test_nobody_has_no_tokens_to_revoke(store):
    with pytest.raises(UnknownDevice, match="nobody"):
        await store.tokens.revoke(device_id="nobody", root="t1", since=NOW, until=LATER)
    with pytest.raises(UnknownDevice, match="nobody"):
        await store.devices.revoke_tokens("nobody")
    assert await store.changes.last() == 0


@pytest.mark.parametrize("column", ["since", "until"])
async def test_a_damaged_revocation_lets_nobody_in(store, path, column):
    await add(store)
    await store.tokens.revoke(device_id="lamp-1", root="t1", since=NOW, until=LATER)
    sql(path, f"UPDATE token_revocations SET {column} = 'never'")
    with pytest.raises(StoreError, match="damaged"):
        await store.devices.read()


async def test_who_follows_the_devices_sees_revocations(store, path):
    device = await add(store)
    directory = Directory(store, interval=0.02)
    await directory.load()
    told: list[frozenset[str]] = []
    directory.on_change(told.append)
    other = await open_store(f"sqlite:///{path}")
    following = asyncio.ensure_future(directory.follow())
    try:
        async with asyncio.timeout(20):
            await other.tokens.revoke(device_id="lamp-1", root="t1", since=NOW, until=LATER)
            while not directory.get("lamp-1").has_revoked(grant(device)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert not directory.get("lamp-1").has_revoked(grant(device, "t2"))
            await other.devices.revoke_tokens("lamp-1")
            while not directory.get("lamp-1").has_revoked(grant(device, "t2")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert told == [{"lamp-1"}, {"lamp-1"}]
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await other.close()
