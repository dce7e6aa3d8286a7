"""What devices hold on the bus, as the store keeps it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from harness.stored_devices import add_devices

from gateway.connection.bus_holdings import FOREVER, Kind, SavedHoldings
from gateway.store import open_store


@pytest.fixture
async def store(tmp_path):
    one = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    await add_devices(one, "lamp-1", "lamp-2")
    yield one
    await one.close()


def retained(device_id, *keys, gone=False):
    packed = b"".join(key.to_bytes(8, "little", signed=True) for key in keys)
    return SavedHoldings(device_id, Kind.RETAINED, 0, 0, 0, packed, gone=gone)


def session(device_id, key, *, since=0, gone=False):
    return SavedHoldings(device_id, Kind.SESSION, key, FOREVER, since, b"", gone=gone)


async def test_what_is_saved_is_read_again_and_replaced(store):
    rows = [retained("lamp-1", 1, -2), session("lamp-1", -(2**63)), session("lamp-1", 2**63 - 1, since=7)]
    await store.holdings.save([*rows, retained("lamp-2", 5)])
    assert await store.holdings.read("lamp-1") == rows
    assert len(await store.holdings.read()) == 4
    await store.holdings.save([retained("lamp-1", 3), session("lamp-1", 2**63 - 1, gone=True)])
    assert await store.holdings.read("lamp-1") == [retained("lamp-1", 3), rows[1]]
    await store.holdings.save([retained("lamp-1", gone=True), session("lamp-1", 5, gone=True)])
    assert await store.holdings.read("lamp-1") == [rows[1]]
    await store.holdings.save([])


async def test_a_removed_device_takes_its_rows_along_and_none_come_back(store):
    await store.holdings.save([retained("lamp-1", 1), session("lamp-1", 2), retained("lamp-2", 1)])
    await store.devices.remove("lamp-1")
    # A gateway that has not heard of it yet.
    await store.holdings.save([retained("lamp-1", 1), retained("lamp-2", 2)])
    assert await store.holdings.read() == [retained("lamp-2", 2)]
    assert list(await store.holdings.to_forget()) == ["lamp-1"]
    await add_devices(store, "lamp-1")
    assert await store.holdings.read("lamp-1") == []


async def test_a_request_to_forget_waits_until_it_is_done_and_whoever_follows_the_changes_hears_of_it(store):
    before = await store.changes.last()
    await store.holdings.save([retained("lamp-1", 1), session("lamp-1", 2), retained("lamp-2", 1)])
    assert await store.changes.last() == before, "to save is no change of a device"
    await store.holdings.forget(["lamp-1"])
    await store.holdings.forget(["lamp-1"])
    assert (await store.changes.since(before))[1] == {"lamp-1"}
    assert await store.holdings.read() == [retained("lamp-2", 1)]
    first = await store.holdings.to_forget()
    assert list(first) == ["lamp-1"]
    assert await store.holdings.to_forget() == first, "it waits until it is done"
    await store.holdings.forget(["lamp-1"])
    await store.holdings.forgotten(first)
    second = await store.holdings.to_forget()
    assert list(second) == ["lamp-1"], "asked for meanwhile"
    await store.holdings.forgotten(second)
    assert await store.holdings.to_forget() == {}


async def test_all_is_forgotten_with_a_bus_that_keeps_nothing(store):
    await store.holdings.save([retained("lamp-1", 1), retained("lamp-2", 1)])
    await store.holdings.forget(None)
    assert await store.holdings.read() == []
    assert await store.holdings.to_forget() == {}


async def test_a_row_of_another_kind_is_not_read(store, tmp_path):
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as connection, connection:
        connection.execute("INSERT INTO holdings VALUES ('lamp-1', 'of another version', 1, 0, 0, x'')")
    assert await store.holdings.read() == []
