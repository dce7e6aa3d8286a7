"""A poke: what was begun for somebody goes on to its end, though nobody waits for it any more."""

from __future__ import annotations

import asyncio

import pytest

from gateway.control import commands
from gateway.control.commands import Pokes
from gateway.control.messages import Request
from gateway.control.server import Peer
from gateway.net.tasks import Tasks

PEER = Peer(0, "")


class Follower:
    """Sees a change at once and puts it in force after a while, as followers do."""

    def __init__(self) -> None:
        self.changed = 1
        self.seen = self.in_force = self.looks = 0
        self.begun, self.at_once = asyncio.Event(), asyncio.Event()

    async def look(self) -> None:
        self.looks += 1
        self.begun.set()
        if self.seen != self.changed:
            self.seen = self.changed
            await self.at_once.wait()
            self.in_force = self.seen


@pytest.fixture
async def tasks():
    tasks = Tasks()
    yield tasks
    await tasks.stop()


async def asked(pokes):
    return [item async for item in pokes.poke(Request("poke", {}), PEER)]


async def test_a_look_that_takes_too_long_is_not_broken_off(tasks, monkeypatch):
    monkeypatch.setattr(commands, "_LOOK_SECONDS", 0.01)
    follower = Follower()
    pokes = Pokes({"policy": follower.look}, tasks.start)
    assert await asked(pokes) == [{"subject": "policy", "looked": False}]
    follower.at_once.set()
    assert await asked(pokes) == [{"subject": "policy", "looked": True}]
    assert follower.in_force == 1


async def test_nor_is_one_whose_asker_leaves(tasks):
    follower = Follower()
    pokes = Pokes({"policy": follower.look}, tasks.start)
    asker = asyncio.ensure_future(asked(pokes))
    await follower.begun.wait()
    asker.cancel()
    await asyncio.gather(asker, return_exceptions=True)
    follower.at_once.set()
    await asked(pokes)
    assert follower.in_force == 1


async def test_a_look_begins_after_it_was_asked_for_and_no_more_than_one_waits(tasks, monkeypatch):
    monkeypatch.setattr(commands, "_LOOK_SECONDS", 0.01)
    follower = Follower()
    pokes = Pokes({"policy": follower.look}, tasks.start)
    for _ in range(5):
        await asked(pokes)
    follower.changed = 2
    monkeypatch.setattr(commands, "_LOOK_SECONDS", 5)
    follower.at_once.set()
    await asked(pokes)
    assert (follower.in_force, follower.looks) == (2, 2)
