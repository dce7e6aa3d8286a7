"""Saving what devices hold on the bus: lazily, in batches, nothing lost when the store fails."""

from __future__ import annotations

import pytest
from harness.playbook import context

from gateway.app.savers.bus_holdings import BusHoldingsSaver, above
from gateway.connection.bus_holdings import FOREVER, ConnectionHoldings, Kind, SavedHoldings
from gateway.observe.save_failures import Saves
from gateway.policy.engine.limits import Limits
from gateway.store import NewDevice, StoreError, open_store
from gateway.store.bus_holdings import Holdings
from gateway.store.device_directory import Directory


@pytest.fixture
async def store(tmp_path):
    one = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    await one.devices.add_all([NewDevice(f"lamp-{number}", "c", [], {}) for number in range(150)])
    yield one
    await one.close()


async def started(store, world=None, *, bus_forgets=False):
    directory = Directory(store)
    await directory.load()
    world = world or context()
    one = BusHoldingsSaver(store, world, directory.get, Saves())
    directory.on_change(one.devices_changed)
    await one.load(bus_forgets=bus_forgets)
    return one, world, directory


def retain(world, device_id="lamp-1", topic=b"t", most=9):
    return ConnectionHoldings(world.holdings, device_id).retain(topic, most)


async def test_it_counts_on_after_a_restart(store):
    one, world, _ = await started(store)
    holder = ConnectionHoldings(world.holdings, "lamp-1")
    assert holder.count_session(b"lamp-1/c", FOREVER, 1, 0)
    assert retain(world)
    await one.save()
    _, again, _ = await started(store)
    assert not retain(again, topic=b"u", most=1)
    assert not ConnectionHoldings(again.holdings, "lamp-1").count_session(b"lamp-1/d", FOREVER, 1, 0)
    assert ConnectionHoldings(again.holdings, "lamp-1").count_session(b"lamp-1/c", FOREVER, 1, 0)


async def test_with_a_bus_that_forgets_it_counts_from_nothing(store):
    one, world, _ = await started(store)
    retain(world)
    await one.save()
    _, again, _ = await started(store, bus_forgets=True)
    assert retain(again, topic=b"u", most=1)


async def test_a_save_is_bounded_and_the_last_one_is_not(store, monkeypatch):
    sizes = []

    async def save(self, held):
        sizes.append(len(held))

    one, world, _ = await started(store)
    for number in range(150):
        retain(world, f"lamp-{number}")
    monkeypatch.setattr(Holdings, "save", save)
    await one.save_some()
    assert sizes == [100]
    await one.save()
    assert sizes == [100, 50, 0]


async def test_a_store_that_fails_costs_nothing_but_time(store, monkeypatch):
    async def fail(self, held):
        raise StoreError("no disk")

    one, world, _ = await started(store)
    retain(world)
    with monkeypatch.context() as patched:
        patched.setattr(Holdings, "save", fail)
        await one.save()
    assert await store.holdings.read() == []
    await one.save()
    assert len(await store.holdings.read()) == 1


async def test_what_an_administrator_forgets_is_counted_anew(store):
    one, world, directory = await started(store)
    retain(world)
    await one.save()
    await store.holdings.forget(["lamp-1"])
    await directory._catch_up()
    await one.save()
    assert retain(world, topic=b"u", most=1)
    await one.save()
    assert len(await store.holdings.read()) == 1


async def test_a_forgetting_is_not_undone_by_what_was_not_saved_yet(store):
    one, world, directory = await started(store)
    retain(world)
    await store.holdings.forget(["lamp-1"])
    await one.save()  # before the gateway has heard of it
    await directory._catch_up()
    await one.save()
    assert await store.holdings.read() == []
    assert retain(world, topic=b"u", most=1)


async def test_a_removed_device_is_forgotten_and_a_new_one_of_its_name_begins_from_nothing(store):
    one, world, directory = await started(store)
    retain(world)
    await one.save()
    await store.devices.remove("lamp-1")
    await directory._catch_up()
    await one.save()
    assert world.holdings.find("lamp-1") is None
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    assert retain(world, topic=b"u", most=1)
    # Both at once: the gateway sees that the device is there.
    await store.devices.remove("lamp-1")
    await store.devices.add("lamp-1", credential="c", roles=[], labels={})
    await directory._catch_up()
    await one.save()
    assert retain(world, topic=b"v", most=1)


async def test_forgetting_waits_for_the_store(store, monkeypatch):
    async def fail(self):
        raise StoreError("no disk")

    one, world, directory = await started(store)
    retain(world)
    await store.holdings.forget(["lamp-1"])
    await directory._catch_up()
    with monkeypatch.context() as patched:
        patched.setattr(Holdings, "to_forget", fail)
        await one.save()
    assert not retain(world, topic=b"u", most=1)
    await one.save()
    assert retain(world, topic=b"u", most=1)


async def test_a_request_is_forgotten_after_it_is_done_and_is_done_once(store, monkeypatch):
    """A gateway that is killed before it could say so finds the request when it is back."""

    async def fail(self, requests):
        raise StoreError("no disk")

    one, world, directory = await started(store)
    retain(world)
    await store.holdings.forget(["lamp-1"])
    await directory._catch_up()
    with monkeypatch.context() as patched:
        patched.setattr(Holdings, "forgotten", fail)
        await one.save()
        assert list(await store.holdings.to_forget()) == ["lamp-1"]
        assert retain(world, topic=b"u", most=1)
        await one.save()
    await one.save()
    assert not retain(world, topic=b"v", most=1), "what came after it is not forgotten with it"
    assert await store.holdings.to_forget() == {}


async def test_what_was_saved_beside_a_request_is_not_counted_after_a_restart(store):
    one, world, _ = await started(store)
    retain(world)
    await store.holdings.forget(["lamp-1"])
    await one.save()  # before the gateway has heard of it, and is killed
    assert len(await store.holdings.read()) == 1
    _, again, _ = await started(store)
    assert retain(again, topic=b"u", most=1)
    assert await store.holdings.read() == []


def test_devices_above_a_limit_are_named_and_others_are_not():
    limits = Limits(retained_topics=2, sessions=1, subscriptions=1)
    held = [
        SavedHoldings("a", Kind.RETAINED, 0, 0, 0, bytes(24)),
        SavedHoldings("a", Kind.SESSION, 1, 0, 0, bytes(16)),
        SavedHoldings("b", Kind.RETAINED, 0, 0, 0, bytes(16)),
        SavedHoldings("b", Kind.SESSION, 1, 0, 0, bytes(8)),
        SavedHoldings("c", Kind.SESSION, 1, 0, 0, b""),
        SavedHoldings("c", Kind.SESSION, 2, 0, 0, b""),
    ]
    assert [line.partition(" on the bus")[0] for line in above(lambda _: limits, held)] == [
        "a holds 3 retained_topics",
        "a holds 2 subscriptions",
        "c holds 2 sessions",
    ]
