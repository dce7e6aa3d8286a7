"""How often keys were used, with a real store; time is made short."""

from __future__ import annotations

import asyncio

from harness.background_tasks import beside
from harness.failing_store import Failing
from harness.playbook import context, ring

from gateway.app.savers.key_uses import KeyUsesSaver
from gateway.observe.save_failures import Saves


async def test_uses_of_the_key_are_added_up(store):
    world = context()
    uses = KeyUsesSaver(store, world, Saves())
    await uses.save()
    assert await store.key_uses.read() == {}
    for total in (3, 6):
        for _ in range(3):
            world.ring.encrypt(b"", b"")
        await uses.save()
        assert await store.key_uses.read() == {"k1": total}
    await uses.save()
    assert await store.key_uses.read() == {"k1": 6}
    # As another process does.
    world.ring = ring()
    world.ring.encrypt(b"", b"")
    await KeyUsesSaver(store, world, Saves()).save()
    assert await store.key_uses.read() == {"k1": 7}


async def test_uses_that_can_not_be_saved_are_kept(store):
    world, failing = context(), Failing(store)
    uses = KeyUsesSaver(failing, world, Saves())
    world.ring.encrypt(b"", b"")
    await uses.save()
    world.ring.encrypt(b"", b"")
    failing.fails = False
    await uses.save()
    assert await store.key_uses.read() == {"k1": 2}


async def test_uses_are_saved_without_being_asked(store, monkeypatch):
    monkeypatch.setattr(KeyUsesSaver, "seconds", 0.01)
    world = context()
    world.ring.encrypt(b"", b"")
    async with beside(KeyUsesSaver(store, world, Saves()).run()), asyncio.timeout(20):
        while await store.key_uses.read() != {"k1": 1}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
