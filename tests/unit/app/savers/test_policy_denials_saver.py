"""What was refused, with a real store, and within bounds."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from harness.background_tasks import beside
from harness.failing_store import Failing
from harness.stored_devices import add_devices
from msgspec.structs import replace

from gateway.app.savers import denial_explanations as module
from gateway.app.savers import saver
from gateway.app.savers.denial_explanations import PolicyDenialsSaver
from gateway.connection.audit_vocabulary import Kind, Outcome, Source
from gateway.connection.process_counters import Counters
from gateway.observe.audit_dispatch import AuditEvent
from gateway.observe.save_failures import Saves
from gateway.store import StoredRefusal, StoreError

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


@pytest.fixture
async def store(store):
    await add_devices(store, "lamp-1")
    return store


async def test_a_flood_of_one_device_takes_no_place_of_another_and_is_counted():
    saved = []

    class Keeps:
        async def add(self, told):
            saved.append([one.refusal_id for one in told])

    counters = Counters()
    refusals = PolicyDenialsSaver(SimpleNamespace(refusals=Keeps()), counters, Saves())
    for number in range(10_000):
        refusals(replace(REFUSED, id=f"decoy-{number}"))
    for number in range(301):
        refusals(replace(REFUSED, id=f"other-{number}", device="lamp-2", topic=f"locks/{number}"))
    await refusals.save()
    kept = [one for some in saved for one in some]
    assert [one for one in kept if one.startswith("other")] == [f"other-{number}" for number in range(301)]
    assert counters.refusals_not_kept == 10_301 - len(kept)
    assert max(map(len, saved)) <= 40


async def test_much_is_saved_by_small_batches_with_a_pause_between(store, monkeypatch):
    """Kind: what one device causes is saved at once, and messages wait for it."""
    sizes, add, pause = [], store.refusals.add, saver.until_next_multiple_of

    async def counted(some):
        if some:
            sizes.append(len(some))
        await add(some)

    async def paused(seconds):
        sizes.append(seconds)
        await pause(0.01)

    monkeypatch.setattr(store.refusals, "add", counted)
    monkeypatch.setattr(saver, "until_next_multiple_of", paused)
    refusals = PolicyDenialsSaver(store, Counters(), Saves())
    for number in range(300):
        refusals(replace(REFUSED, id=f"{number}"))
    await refusals.save_round()
    assert sizes == [40, *[0.16, 40] * 5], "the rest in the next second"
    await refusals.save_round()
    assert sizes[11:] == [40, 0.16, 20, 0.16]
    assert await store.refusals.get("299") is not None


async def test_refusals_are_kept_by_their_id(store, monkeypatch):
    monkeypatch.setattr(PolicyDenialsSaver, "seconds", 0.01)
    refusals = PolicyDenialsSaver(store, Counters(), Saves())
    refusals(replace(REFUSED, id=None))
    refusals(replace(REFUSED, id="of an administrator", action=None, source=Source.HOUSE))
    refusals(REFUSED)
    async with beside(refusals.run()), asyncio.timeout(20):
        while await store.refusals.get("0a1b2c") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await store.refusals.get("of an administrator") is None, "no refusal of the policy"
    assert await store.refusals.get("0a1b2c") == StoredRefusal(
        "0a1b2c", 1_764_000_000, "lamp-1", "publish", "a/b", "No rule allows it.", "acl/roles/lamp.toml:7"
    )


async def test_refusals_wait_for_the_store_within_bounds(store, monkeypatch):
    monkeypatch.setattr(module, "_WAITING_MAX", 2)
    failing = Failing(store)
    refusals = PolicyDenialsSaver(failing, Counters(), Saves())
    for number in range(4):
        refusals(replace(REFUSED, id=str(number)))
        await refusals.save()
    failing.fails = False
    await refusals.save()
    assert [number for number in "0123" if await store.refusals.get(number)] == ["0", "1"]
    refusals(replace(REFUSED, id="4"))
    await refusals.save()
    assert await store.refusals.get("4") is not None


async def test_what_is_refused_while_the_store_fails_is_within_the_bounds_too(monkeypatch):
    monkeypatch.setattr(module, "_WAITING_MAX", 2)
    offered = []

    class Locked:
        async def add(self, told):
            offered.append([one.refusal_id for one in told])
            for number in range(2):
                refusals(replace(REFUSED, id=f"{len(offered)}-{number}"))
            raise StoreError("the database is locked")

    refusals = PolicyDenialsSaver(SimpleNamespace(refusals=Locked()), Counters(), Saves())
    refusals(replace(REFUSED, id="first"))
    for _ in range(3):
        await refusals.save()
    assert offered == [["first"], ["first", "1-0"], ["first", "1-0"]]


async def test_while_the_store_fails_the_first_refusals_of_each_device_find_room(monkeypatch):
    monkeypatch.setattr(module, "_WAITING_MAX", 3)
    offered = []

    class Locked:
        async def add(self, told):
            offered.append([one.refusal_id for one in told])
            raise StoreError("the database is locked")

    refusals = PolicyDenialsSaver(SimpleNamespace(refusals=Locked()), Counters(), Saves())
    for number in range(9):
        refusals(replace(REFUSED, id=f"a{number}"))
    for number in range(9):
        refusals(replace(REFUSED, id=f"b{number}", device="lamp-2"))
    await refusals.save()
    assert offered == [["a0", "a1", "a2", "b0", "b1"]]
