"""What devices did, with a real store."""

from __future__ import annotations

import asyncio

from harness.background_tasks import beside
from harness.failing_store import Failing
from harness.playbook import context

from gateway.app.savers import usage as module
from gateway.app.savers.usage import UsageSaver
from gateway.observe.save_failures import Saves
from gateway.policy.engine.decision_recorder import UsageRecord
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action
from gateway.store import StoreError
from gateway.store import usage as usage_store


async def test_what_was_seen_is_saved_without_being_asked(store, monkeypatch):
    monkeypatch.setattr(UsageSaver, "seconds", 0.01)
    world = context()
    async with beside(UsageSaver(store, world, Saves()).run()), asyncio.timeout(20):
        for number in range(1, 4):
            note(world, "ok/a")
            while sum([one.count for one in await store.usage.records(0)]) != number:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    (one,) = await store.usage.records(0)
    assert (one.device_id, one.template, one.allowed) == ("lamp-1", "ok/a", True)
    assert one.first_at == one.last_at == world.now() // 1_000


def note(world, topic, device="lamp-1"):
    lamp = Identity(device, ("lamp",), {}, "c")
    world.recorder.record(
        lamp, Action.PUBLISH, topic, world.policy.rights(lamp).decide(Action.PUBLISH, topic)
    )


async def test_what_was_seen_and_can_not_be_saved_is_kept(store):
    world, failing = context(), Failing(store)
    saver = UsageSaver(failing, world, Saves())
    for _ in range(3):
        note(world, "ok/a")
        await saver.save()
    assert await store.usage.records(0) == []
    failing.fails = False
    note(world, "ok/b")
    await saver.save()
    assert {one.template: one.count for one in await store.usage.records(0)} == {"ok/a": 3, "ok/b": 1}


async def test_what_is_stored_is_not_counted_again_when_it_can_not_be_made_fewer(store, monkeypatch):
    monkeypatch.setattr(usage_store, "_OF_A_DEVICE", 1)
    world = context()
    saver = UsageSaver(store, world, Saves())

    async def fails(_: str) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store.usage, "reduce", fails)
    for topic in ("ok/a", "ok/b"):
        note(world, topic)
    for _ in range(3):
        await saver.save()
    assert {one.template: one.count for one in await store.usage.records(0)} == {"ok/a": 1, "ok/b": 1}


async def test_at_the_end_all_that_was_seen_is_saved(store, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 2)
    world = context()
    for number in range(5):
        lamp = Identity(f"lamp-{number}", ("lamp",), {}, "c")
        world.recorder.record(
            lamp, Action.PUBLISH, "ok", world.policy.rights(lamp).decide(Action.PUBLISH, "ok")
        )
    await UsageSaver(store, world, Saves()).save()
    assert len(await store.usage.records(0)) == 5


async def test_what_is_too_old_is_dropped(store, monkeypatch):
    old = UsageRecord("lamp-1", Action.PUBLISH, "ok", allowed=True, count=1, first_at=1, last_at=1)
    await store.usage.add_records([old])
    async with beside(UsageSaver(store, context(), Saves()).run()), asyncio.timeout(20):
        while await store.usage.records(0):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
