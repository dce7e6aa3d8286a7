"""What devices did, with a real store."""

from __future__ import annotations

import asyncio

import pytest
from harness.background_tasks import beside
from harness.failing_store import Failing
from harness.playbook import context
from harness.stored_devices import add_devices
from sqlalchemy import event

from gateway.app.savers import saver as saver_module
from gateway.app.savers import usage as module
from gateway.app.savers.usage import UsageSaver
from gateway.observe.save_failures import Saves
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action
from gateway.policy.engine.usage_record import Passage, UsageRecord
from gateway.store import StoreError
from gateway.store import usage as usage_store
from gateway.store.device_directory import Directory


@pytest.fixture
async def store(store):
    await add_devices(store, *(f"lamp-{number}" for number in range(5)))
    return store


def saver_of(store, world, find=lambda _: None):
    return UsageSaver(store, world, find, Saves())


async def test_what_was_seen_is_saved_without_being_asked(store, monkeypatch):
    monkeypatch.setattr(UsageSaver, "seconds", 0.01)
    world = context()
    async with beside(saver_of(store, world).run()), asyncio.timeout(20):
        for number in range(1, 4):
            note(world, "ok/a")
            while sum([one.count for one in await store.usage.records(0)]) != number:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    (one,) = await store.usage.records(0)
    assert (one.device_id, one.template, one.passage) == ("lamp-1", "ok/a", "allowed")
    assert one.first_at == one.last_at == world.now() // 1_000


def note(world, topic, device="lamp-1"):
    lamp = Identity(device, ("lamp",), {}, "c")
    world.recorder.record(
        lamp, Action.PUBLISH, topic, world.policy.rights(lamp).decide(Action.PUBLISH, topic)
    )


async def test_what_was_seen_and_can_not_be_saved_is_kept(store):
    world, failing = context(), Failing(store)
    saver = saver_of(failing, world)
    for _ in range(3):
        note(world, "ok/a")
        await saver.save()
    assert await store.usage.records(0) == []
    failing.fails = False
    note(world, "ok/b")
    await saver.save()
    assert {one.template: one.count for one in await store.usage.records(0)} == {"ok/a": 3, "ok/b": 1}


async def test_what_is_stored_is_not_counted_again_when_it_can_not_be_made_fewer(store, monkeypatch):
    monkeypatch.setattr(usage_store, "_RECORDS_PER_DEVICE_MAX", 1)
    world = context()
    saver = saver_of(store, world)

    async def fails(_: str) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store.usage, "reduce", fails)
    for topic in ("ok/a", "ok/b"):
        note(world, topic)
    for _ in range(3):
        await saver.save()
    assert {one.template: one.count for one in await store.usage.records(0)} == {"ok/a": 1, "ok/b": 1}


async def test_at_the_end_all_that_was_seen_is_saved(store, monkeypatch):
    monkeypatch.setattr(module, "ROWS_MAX", 2)
    world = context()
    for number in range(5):
        lamp = Identity(f"lamp-{number}", ("lamp",), {}, "c")
        world.recorder.record(
            lamp, Action.PUBLISH, "ok", world.policy.rights(lamp).decide(Action.PUBLISH, "ok")
        )
    await saver_of(store, world).save()
    assert len(await store.usage.records(0)) == 5


async def test_what_is_too_old_is_dropped(store, monkeypatch):
    old = UsageRecord("lamp-1", Action.PUBLISH, "ok", Passage.ALLOWED, count=1, first_at=1, last_at=1)
    await store.usage.add_records([old])
    async with beside(saver_of(store, context()).run()), asyncio.timeout(20):
        while await store.usage.records(0):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_waits_of_a_removed_device_is_not_saved_for_a_new_one_with_its_id(store):
    directory, world = Directory(store), context()
    await directory.load()
    saver = saver_of(store, world, directory.get)
    directory.on_change(saver.devices_changed)
    for device in ("lamp-1", "lamp-2"):
        note(world, "ok/a", device)
    await store.devices.remove("lamp-1")
    await directory._catch_up()
    await add_devices(store, "lamp-1")
    await store.devices.set_enabled("lamp-2", enabled=False)
    await directory._catch_up()
    note(world, "ok/b")
    await saver.save()
    assert {(one.device_id, one.template) for one in await store.usage.records(0)} == {
        ("lamp-1", "ok/b"),
        ("lamp-2", "ok/a"),
    }


@pytest.mark.parametrize("moment", ["before_cursor_execute", "commit"])
async def test_a_stop_while_it_is_saved_counts_nothing_twice(store, moment):
    """Kind: what is done although its task was cancelled is taken for undone, and done again."""
    world = context()
    note(world, "ok/a")
    saver = UsageSaver(store, world, lambda _: None, Saves())
    engine = store._database._engine.sync_engine
    running = asyncio.ensure_future(saver.save_some())
    event.listen(engine, moment, lambda *_: running.cancel() and None, once=True)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 20)
    await saver.save()
    assert [one.count for one in await store.usage.records(0)] == [1]


async def test_much_is_saved_by_small_batches_with_a_pause_between(store, monkeypatch):
    """Kind: what one device causes is saved at once, and messages wait for it."""
    world, sizes = context(), []
    for number in range(100):
        note(world, f"ok/{number}")
    add_records, pause = store.usage.add_records, module.until_next_multiple_of

    async def counted(seen):
        if seen:
            sizes.append(len(seen))
        return await add_records(seen)

    async def paused(seconds):
        sizes.append(seconds)
        await pause(0.01)

    monkeypatch.setattr(store.usage, "add_records", counted)
    for one in (module, saver_module):
        monkeypatch.setattr(one, "until_next_multiple_of", paused)
    async with beside(saver_of(store, world).run()), asyncio.timeout(20):
        while sizes.count(2.0) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert sizes[:7] == [2.0, 40, 0.16, 40, 0.16, 20, 0.16]
    assert 2.0 in sizes[7:], "nothing waits: it does not go on"
