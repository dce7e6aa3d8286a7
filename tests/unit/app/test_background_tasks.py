"""What goes on beside the data path, with real files and a real store; time is made short."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from dataclasses import replace

import pytest
from harness.beside import beside, until
from harness.playbook import context, ring

from gateway.app import background_tasks
from gateway.app.background_tasks import (
    AdminEvents,
    FullCollections,
    KeyUses,
    Observations,
    Refusals,
    TokenRecords,
)
from gateway.connection.audit_reports import Kind, Outcome
from gateway.connection.counters import Counters
from gateway.observe.audit import Audit, AuditEvent
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action
from gateway.policy.engine.usage_recorder import Observation
from gateway.store import IssuedToken, Refusal, StoreError, open_store


@pytest.fixture
async def store(tmp_path):
    opened = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    yield opened
    await opened.close()


async def test_uses_of_the_key_are_added_up(store):
    world = context()
    uses = KeyUses(store, world)
    await uses.save()
    assert await store.key_uses() == {}
    for total in (3, 6):
        for _ in range(3):
            world.ring.encrypt(b"", b"")
        await uses.save()
        assert await store.key_uses() == {"k1": total}
    await uses.save()
    assert await store.key_uses() == {"k1": 6}
    # As another process does.
    world.ring = ring()
    world.ring.encrypt(b"", b"")
    await KeyUses(store, world).save()
    assert await store.key_uses() == {"k1": 7}


@pytest.fixture
def full_collections():
    """Those of this process, and how many there were since."""
    before, runs = gc.get_threshold(), []

    def noted(phase, info):
        if phase == "stop" and info["generation"] == 2:
            runs.append(info)

    collections = FullCollections()
    gc.callbacks.append(noted)
    yield collections, runs
    gc.callbacks.remove(noted)
    gc.set_threshold(*before)
    gc.unfreeze()


class Knot:
    """Refers to itself, so that only a collection frees it."""

    def __init__(self):
        self.itself = self


async def test_nobody_waits_for_a_full_collection_while_a_policy_is_read(full_collections):
    collections, runs = full_collections
    read = [[number] for number in range(sys.getallocatedblocks())]
    collections.look()
    assert len(runs) == 1  # as it should: there is twice as much
    del read
    read = [[number] for number in range(sys.getallocatedblocks() // 2)]
    collections.look()
    assert len(runs) == 1
    del read


async def test_what_only_a_full_collection_frees_is_never_more_than_the_rest(full_collections, monkeypatch):
    monkeypatch.setattr(background_tasks, "_COLLECTION_LOOK", 0.01)
    collections, runs = full_collections
    knot = Knot()
    gone = weakref.ref(knot)
    gc.collect(1)  # it is old now
    del knot
    collections.look()
    assert gone() is not None
    many = [object() for _ in range(sys.getallocatedblocks())]
    async with beside(collections.run()):
        await until(lambda: gone() is None)
    assert len(runs) == 1
    del many


class Failing:
    """A store that can't be written for a while: a full disk can't be had in a test."""

    def __init__(self, store):
        self.store, self.fails = store, True

    def __getattr__(self, name):
        async def call(*values):
            if self.fails:
                raise StoreError("the disk is full")
            return await getattr(self.store, name)(*values)

        return call


async def test_uses_that_can_not_be_saved_are_kept(store):
    world, failing = context(), Failing(store)
    uses = KeyUses(failing, world)
    world.ring.encrypt(b"", b"")
    await uses.save()
    world.ring.encrypt(b"", b"")
    failing.fails = False
    await uses.save()
    assert await store.key_uses() == {"k1": 2}


async def test_uses_are_saved_without_being_asked(store, monkeypatch):
    monkeypatch.setattr(background_tasks, "_USES_SAVE", 0.01)
    world = context()
    world.ring.encrypt(b"", b"")
    async with beside(KeyUses(store, world).run()), asyncio.timeout(20):
        while await store.key_uses() != {"k1": 1}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def record(number):
    return IssuedToken(f"t{number}", "lamp-1", f"t{number}", 1, number, 2**40, "auth")


class Office:
    """Issues tokens, as far as their records go."""

    def __init__(self):
        self.issued = []

    def unsaved(self):
        return tuple(self.issued)

    def saved(self, count):
        del self.issued[:count]


async def test_tokens_that_were_issued_are_recorded_without_being_asked(store, monkeypatch):
    monkeypatch.setattr(background_tasks, "_RECORDS_SAVE", 0.01)
    token_issuer = Office()
    async with beside(TokenRecords(store, token_issuer).run()), asyncio.timeout(20):
        for number in range(3):
            token_issuer.issued.append(record(number))
            while await store.tokens() != [record(one) for one in range(number + 1)]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_records_that_can_not_be_saved_are_kept(store):
    token_issuer, failing = Office(), Failing(store)
    records = TokenRecords(failing, token_issuer)
    for number in range(5):
        token_issuer.issued.append(record(number))
        await records.save()
    assert await store.tokens() == []
    failing.fails = False
    await records.save()
    assert await store.tokens() == [record(number) for number in range(5)]
    await records.save()
    assert len(await store.tokens()) == 5


async def test_what_was_seen_is_saved_without_being_asked(store, monkeypatch):
    monkeypatch.setattr(background_tasks, "_OBSERVATIONS_SAVE", 0.01)
    world = context()
    async with beside(Observations(store, world).run()), asyncio.timeout(20):
        for number in range(1, 4):
            note(world, "ok/a")
            while sum([one.count for one in await store.observations(0)]) != number:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    (one,) = await store.observations(0)
    assert (one.device_id, one.template, one.allowed) == ("lamp-1", "ok/a", True)
    assert one.first_at == one.last_at == world.now() // 1_000


def note(world, topic, device="lamp-1"):
    lamp = Identity(device, ("lamp",), {}, "c")
    world.recorder.note(lamp, Action.PUBLISH, topic, world.policy.rights(lamp).decide(Action.PUBLISH, topic))


async def test_what_was_seen_and_can_not_be_saved_is_kept(store):
    world, failing = context(), Failing(store)
    observations = Observations(failing, world)
    for _ in range(3):
        note(world, "ok/a")
        await observations.save()
    assert await store.observations(0) == []
    failing.fails = False
    note(world, "ok/b")
    await observations.save()
    assert {one.template: one.count for one in await store.observations(0)} == {"ok/a": 3, "ok/b": 1}


async def test_at_the_end_all_that_was_seen_is_saved(store, monkeypatch):
    monkeypatch.setattr(background_tasks, "_OBSERVATIONS_MOST", 2)
    world = context()
    for number in range(5):
        lamp = Identity(f"lamp-{number}", ("lamp",), {}, "c")
        world.recorder.note(
            lamp, Action.PUBLISH, "ok", world.policy.rights(lamp).decide(Action.PUBLISH, "ok")
        )
    await Observations(store, world).save()
    assert len(await store.observations(0)) == 5


async def test_what_is_too_old_is_dropped(store, monkeypatch):
    old = Observation("lamp-1", Action.PUBLISH, "ok", allowed=True, count=1, first_at=1, last_at=1)
    await store.add_observations([old])
    async with beside(Observations(store, context()).run()), asyncio.timeout(20):
        while await store.observations(0):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


REFUSED = AuditEvent(
    time=1_764_000_000_999,
    kind=Kind.PUBLISH,
    outcome=Outcome.REFUSED,
    reason="No rule allows it.",
    device="lamp-1",
    topic="a/b",
    action="publish",
    rule="acl/roles/lamp.toml:7",
    id="0a1b2c",
)


async def test_refusals_are_kept_by_their_id(store, monkeypatch):
    monkeypatch.setattr(background_tasks, "_RECORDS_SAVE", 0.01)
    refusals = Refusals(store, Counters())
    refusals(replace(REFUSED, id=None))
    refusals(REFUSED)
    async with beside(refusals.run()), asyncio.timeout(20):
        while await store.refusal("0a1b2c") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await store.refusal("0a1b2c") == Refusal(
        "0a1b2c", 1_764_000_000, "lamp-1", "publish", "a/b", "No rule allows it.", "acl/roles/lamp.toml:7"
    )


async def test_refusals_wait_for_the_store_within_bounds(store, monkeypatch):
    monkeypatch.setattr(background_tasks, "_REFUSALS_MOST", 2)
    failing = Failing(store)
    refusals = Refusals(failing, Counters())
    for number in range(4):
        refusals(replace(REFUSED, id=str(number)))
        await refusals.save()
    failing.fails = False
    await refusals.save()
    assert [number for number in "0123" if await store.refusal(number)] == ["0", "1"]
    refusals(replace(REFUSED, id="4"))
    await refusals.save()
    assert await store.refusal("4") is not None


async def test_what_is_refused_while_the_store_fails_is_within_the_bounds_too(monkeypatch):
    monkeypatch.setattr(background_tasks, "_REFUSALS_MOST", 2)
    offered = []

    class Locked:
        async def add_refusals(self, told):
            offered.append([one.refusal_id for one in told])
            for number in range(2):
                refusals(replace(REFUSED, id=f"{len(offered)}-{number}"))
            raise StoreError("the database is locked")

    refusals = Refusals(Locked(), Counters())
    refusals(replace(REFUSED, id="first"))
    for _ in range(3):
        await refusals.save()
    assert offered == [["first"], ["first", "1-0"], ["first", "1-0"]]


async def test_a_flood_of_one_device_takes_no_place_of_another_and_is_counted():
    saved = []

    class Keeps:
        async def add_refusals(self, told):
            saved.append([one.refusal_id for one in told])

    counters = Counters()
    refusals = Refusals(Keeps(), counters)
    for number in range(10_000):
        refusals(replace(REFUSED, id=f"decoy-{number}"))
    for number in range(301):
        refusals(replace(REFUSED, id=f"other-{number}", device="lamp-2", topic=f"locks/{number}"))
    await refusals.save()
    kept = [one for some in saved for one in some]
    assert [one for one in kept if one.startswith("other")] == [f"other-{number}" for number in range(301)]
    assert counters.refusals_not_kept == 10_301 - len(kept)
    assert max(map(len, saved)) <= 500


async def test_while_the_store_fails_the_first_refusals_of_each_device_find_room(monkeypatch):
    monkeypatch.setattr(background_tasks, "_REFUSALS_MOST", 3)
    offered = []

    class Locked:
        async def add_refusals(self, told):
            offered.append([one.refusal_id for one in told])
            raise StoreError("the database is locked")

    refusals = Refusals(Locked(), Counters())
    for number in range(9):
        refusals(replace(REFUSED, id=f"a{number}"))
    for number in range(9):
        refusals(replace(REFUSED, id=f"b{number}", device="lamp-2"))
    await refusals.save()
    assert offered == [["a0", "a1", "a2", "b0", "b1"]]


NOTED = {
    "time": 1_764_000_000_000,
    "kind": "device",
    "outcome": "done",
    "reason": "added",
    "device": "lamp-1",
    "actor": "gateway-admin:alice",
}


def told():
    """What an audit tells, and the audit."""
    events = []
    return events, Audit(Counters(), events.append)


async def test_what_was_done_elsewhere_is_told_once(store, monkeypatch):
    monkeypatch.setattr(background_tasks, "_EVENTS_LOOK", 0.01)
    events, audit = told()
    await store.note_event(NOTED)
    async with beside(AdminEvents(store, audit).run()):
        await until(lambda: events)
        assert events == [
            AuditEvent(
                time=1_764_000_000_000,
                kind=Kind.DEVICE,
                outcome=Outcome.DONE,
                reason="added",
                device="lamp-1",
                address="gateway-admin:alice",
            )
        ]
        await store.note_event({**NOTED, "kind": "key", "outcome": "refused", "device": None})
        await until(lambda: len(events) > 1)
    assert (events[1].kind, events[1].outcome, events[1].device) == (Kind.KEY, Outcome.REFUSED, None)
    assert len(events) == 2


@pytest.mark.parametrize(
    "wrong", [{"kind": "bogus"}, {"outcome": None}, {"time": "now"}, {"device": 1}, {"actor": ...}]
)
async def test_an_event_that_says_nothing_holds_no_other_up(store, wrong):
    events, audit = told()
    await store.note_event({name: value for name, value in {**NOTED, **wrong}.items() if value is not ...})
    await store.note_event(NOTED)
    await AdminEvents(store, audit).tell()
    assert [event.reason for event in events] == ["added"]


async def test_events_wait_for_the_store_to_be_back(store):
    events, audit = told()
    await store.note_event(NOTED)
    failing = Failing(store)
    teller = AdminEvents(failing, audit)
    await teller.tell()
    failing.fails = False
    await teller.tell()
    assert len(events) == 1
