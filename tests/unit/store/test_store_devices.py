"""Devices in the store on a real SQLite file: what is kept, what ends their sessions, what is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store import DeviceExists, Store, StoreError, UnknownDevice, open_store


async def add(store: Store, device_id: str = "lamp-1", **values):
    return await store.devices.add(
        device_id,
        **{"credential": "hash-1", "roles": ["sensor", "lamp"], "labels": {"room": ("küche",)}} | values,
    )


def sql(path: Path, statement: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


async def test_a_device_is_kept_as_given(store, path):
    added = await add(store)
    assert (added.roles, added.labels, added.enabled) == (("sensor", "lamp"), {"room": ("küche",)}, True)
    assert added.credential == "hash-1"
    assert await store.devices.find("lamp-1") == added
    other = await open_store(f"sqlite:///{path}")
    assert await other.devices.read() == [added]
    await other.close()


async def test_unknown_devices(store):
    assert await store.devices.find("nobody") is None
    assert await store.devices.read() == []
    for attempt in (
        store.devices.set_enabled("nobody", enabled=True),
        store.devices.set_credential("nobody", "x"),
        store.devices.remove("nobody"),
    ):
        with pytest.raises(UnknownDevice, match="nobody"):
            await attempt
    assert not await store.devices.rehash_credential("nobody", version=1, credential="x")
    assert await store.changes.last() == 0, "what was refused is no change"


async def test_an_id_is_given_once(store):
    first = await add(store)
    with pytest.raises(DeviceExists, match="lamp-1"):
        await add(store, credential="other")
    assert await store.devices.read() == [first]
    assert await store.changes.last() == 1


@pytest.mark.parametrize("device_id", ["", "a/b", "+", "#", "a\n", ".a", "x" * 65])
async def test_no_device_id_can_widen_a_rule(store, device_id):
    with pytest.raises(ValueError, match="device id"):
        await add(store, device_id)


async def test_no_label_can_widen_a_rule(store):
    with pytest.raises(ValueError, match="label"):
        await add(store, labels={"room": ("+",)})


async def test_what_ends_sessions_counts_the_version_up(store):
    added = await add(store)
    disabled = await store.devices.set_enabled("lamp-1", enabled=False)
    rotated = await store.devices.set_credential("lamp-1", "hash-2")
    assert (disabled.enabled, disabled.version) == (False, added.version + 1)
    assert (rotated.enabled, rotated.credential, rotated.version) == (False, "hash-2", added.version + 2)
    assert await store.devices.find("lamp-1") == rotated


async def test_a_rehash_ends_no_session_and_overwrites_no_rotation(store):
    added = await add(store)
    assert await store.devices.rehash_credential("lamp-1", version=added.version, credential="hash-1b")
    assert (await store.devices.find("lamp-1")).credential == "hash-1b"
    assert (await store.devices.find("lamp-1")).version == added.version
    await store.devices.set_credential("lamp-1", "hash-2")
    assert not await store.devices.rehash_credential("lamp-1", version=added.version, credential="hash-1c")
    assert (await store.devices.find("lamp-1")).credential == "hash-2"


async def test_a_device_added_again_has_another_version(store):
    """Or the sessions and the remembered secret of its predecessor would be taken for its own."""
    versions = []
    for _ in range(3):
        versions.append((await add(store)).version)
        versions.append((await store.devices.set_enabled("lamp-1", enabled=False)).version)
        await store.devices.remove("lamp-1")
    assert await store.devices.find("lamp-1") is None
    assert len(set(versions)) == len(versions)


async def test_devices_of_some_ids(store):
    for name in "abc":
        await add(store, name)
    assert [device.device_id for device in await store.devices.read({"c", "a", "z"})] == ["a", "c"]
    assert await store.devices.read(frozenset()) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("roles", '"admin"'),
        ("roles", "[1]"),
        ("roles", "broken"),
        ("labels", "[]"),
        ("labels", '{"a": "+"}'),
        ("labels", '{"a": 1}'),
        ("device_id", "a/#"),
        ("token_epoch", "x"),
        ("observe_until", "x"),
    ],
)
async def test_a_row_that_was_tampered_with_grants_nothing(store, path, column, value):
    await add(store)
    sql(path, f"UPDATE devices SET {column} = ?", value)
    with pytest.raises(StoreError):
        await store.devices.read()


async def test_a_failure_never_shows_the_credential(store, path):
    columns = "device_id, roles, labels, enabled, version, created_at, updated_at, token_epoch"
    sql(path, "DROP TABLE devices")
    sql(path, f"CREATE TABLE devices ({columns}, credential CHECK (length(credential) > 99))")
    with pytest.raises(StoreError) as caught:
        await add(store, credential="planted-secret")
    error: BaseException | None = caught.value
    while error is not None:
        assert "planted-secret" not in f"{error} {error!r}"
        error = error.__cause__
