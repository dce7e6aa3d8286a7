"""`device kick`: what its event says is done to the end, though whoever asked for it is gone."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
from harness.background_tasks import until
from harness.failing_store import taken

from gateway.admin import devices
from gateway.connection.audit_vocabulary import Kind
from gateway.connection.events import Kicked
from gateway.connection.transition_table import State
from gateway.control.commands import WhoIsHere
from gateway.control.messages import Request
from gateway.control.server import Peer
from gateway.net.live_connections import ConnectionRegistry
from gateway.net.live_updates import LiveUpdates
from gateway.net.tasks import Tasks
from gateway.policy.engine.limits import Limits
from gateway.store import open_store

CONNECTIONS = 300


class Live:
    """A connection that remembers what it was given."""

    def __init__(self, heard):
        self.receive = heard.append
        self.connection = SimpleNamespace(state=State.ESTABLISHED)


class World:
    def __init__(self, store):
        self.heard = []
        self.tasks = Tasks()
        registry = ConnectionRegistry(lambda: Limits(connections_per_device=CONNECTIONS))
        updates = LiveUpdates(registry, None, self.tasks, {}.get)
        plane = SimpleNamespace(registry=registry, context=SimpleNamespace(now=lambda: 0))
        self._who = WhoIsHere(plane, updates, store, self.tasks.start)
        for _ in range(CONNECTIONS):
            assert registry.admit(Live(self.heard), "lamp-1") is None

    async def kick(self):
        return [item async for item in self._who.kick(Request("kick", {"device_id": "lamp-1"}), Peer(0))]


@pytest.fixture
async def store(tmp_path):
    opened = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    await devices.add(opened, "lamp-1", credential="c", roles=[], labels={}, actor="me")
    await taken(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def world(store):
    made = World(store)
    yield made
    await made.tasks.stop()


async def leaves(asker):
    asker.cancel()
    await asyncio.gather(asker, return_exceptions=True)


async def kicked_to_the_end(world, store):
    await until(lambda: len(world.heard) == CONNECTIONS)
    assert {type(event) for event in world.heard} == {Kicked}
    assert [event["kind"] for event in await taken(store)] == [Kind.SESSION]


async def test_who_leaves_before_the_event_is_written(world, store, tmp_path):
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asker = asyncio.ensure_future(world.kick())
        for _ in range(5):
            await asyncio.sleep(0)  # it has asked, and waits for the database
        await leaves(asker)
        assert world.heard == []
    await kicked_to_the_end(world, store)


async def test_who_leaves_while_the_connections_hear_of_it(world, store):
    asker = asyncio.ensure_future(world.kick())
    async with asyncio.timeout(20):
        while not world.heard:  # noqa: ASYNC110 - at once, and not some milliseconds later
            await asyncio.sleep(0)
    assert len(world.heard) < CONNECTIONS
    await leaves(asker)
    await kicked_to_the_end(world, store)


async def test_who_waits_is_told_how_many_they_were(world, store):
    assert await world.kick() == [{"device_id": "lamp-1", "connections": CONNECTIONS}]
    await kicked_to_the_end(world, store)
