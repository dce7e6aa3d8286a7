"""What devices did, in a real SQLite file: added up, bounded, forgotten in time."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from harness.stored_devices import add_devices

from gateway.policy.engine.identity import OBSERVE_MAX
from gateway.policy.engine.rules import Action
from gateway.policy.engine.topic_generalisation import EffortLeft
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.store import UnknownDevice, open_store, usage
from gateway.store.device_directory import Directory


def now() -> int:
    return int(datetime.now(UTC).timestamp())


NOW = now()
"""When this file was read, which may be minutes before its tests."""
PUBLISH, SUBSCRIBE = Action.PUBLISH, Action.SUBSCRIBE
ALLOWED, OBSERVED, REFUSED = Passage


def sql(path: Path, statement: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


@pytest.fixture
async def store(store):
    await add_devices(store, "lamp-1", "lamp-2", "a", "b", "c")
    return store


def seen(template: str, device_id: str = "lamp-1", **values) -> UsageRecord:
    one = UsageRecord(device_id, PUBLISH, template, ALLOWED, count=1, first_at=NOW, last_at=NOW)
    return replace(one, **values)


async def add_records(store, some):
    """What a save does."""
    for device_id in await store.usage.add_records(some):
        await store.usage.reduce(device_id)


async def test_observations_are_added_up(store):
    first = seen("a", first_at=NOW - 50, last_at=NOW - 40, count=3)
    await add_records(store, [first, seen("b")])
    await add_records(store, [seen("a", first_at=NOW - 45, last_at=NOW - 45, count=2)])
    assert (await store.usage.records(0))[0] == replace(first, count=5)
    await add_records(store, [seen("a", first_at=NOW - 60, last_at=NOW)])
    found = seen("a", first_at=NOW - 60, last_at=NOW, count=6)
    assert await store.usage.records(0) == [found, seen("b")]


async def test_what_differs_in_anything_is_another_one(store):
    some = [
        seen("a"),
        seen("a", passage=REFUSED),
        seen("a", action=SUBSCRIBE),
        seen("a", "lamp-2"),
        seen("b"),
        seen(OVERFLOW),
    ]
    await add_records(store, some)
    await add_records(store, some)
    found = await store.usage.records(0)
    assert {replace(one, count=1) for one in found} == set(some)
    assert {one.count for one in found} == {2}


async def test_asked_for_a_time_and_for_some_devices(store):
    await add_records(store, [seen("old", last_at=NOW - 9), seen("new"), seen("new", "lamp-2")])
    assert await store.usage.records(NOW - 8) == [seen("new"), seen("new", "lamp-2")]
    assert await store.usage.records(NOW - 9, ["lamp-1"]) == [seen("new"), seen("old", last_at=NOW - 9)]
    assert await store.usage.records(0, []) == []


async def test_nothing_seen_is_nothing_written(store):
    mark = store.wal_stamp()
    await add_records(store, [])
    await store.refusals.add([])
    assert store.wal_stamp() == mark


async def test_a_row_that_somebody_edited_is_left_out(store, path):
    await add_records(store, [seen("a"), seen("b")])
    sql(path, "UPDATE observations SET action = 'devour' WHERE template = 'a'")
    assert await store.usage.records(0) == [seen("b")]


async def test_what_is_left_out_is_not_counted_among_what_is_too_much(store, path, monkeypatch):
    """Else every save would have what is no more than one may have made fewer, in vain."""
    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 4)
    edited = [seen("x"), seen("y", last_at=-1)]
    assert await store.usage.add_records([*edited, *map(seen, "abc")]) == ["lamp-1"]
    sql(path, "UPDATE observations SET action = 'devour' WHERE template = 'x'")
    assert await store.usage.add_records([seen("a")]) == []
    assert await store.usage.add_records([seen("d")]) == ["lamp-1"]
    await store.usage.reduce("lamp-1")
    assert await store.usage.add_records([seen("d")]) == []
    assert sql(path, "SELECT count(*) FROM observations WHERE action = 'devour'") == [(1,)]


async def test_a_device_with_too_many_topics_keeps_what_they_have_in_common(store, monkeypatch):
    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 10)
    others = [seen(f"jobs/{number}/done", "lamp-2") for number in range(10)]
    await add_records(store, others)
    jobs = [seen(f"jobs/{number}/done", first_at=NOW - number) for number in range(10)]
    await add_records(store, [*jobs, seen("state", last_at=NOW - 99)])
    assert await store.usage.records(0, ["lamp-1"]) == [
        seen("jobs/+/done", count=10, first_at=NOW - 9),
        seen("state", last_at=NOW - 99),
    ]
    assert len(await store.usage.records(0, ["lamp-2"])) == 10, "no more than there is room for"
    # What comes later is taken in again.
    await add_records(store, [seen(f"jobs/{number}/done") for number in range(20, 29)])
    assert {one.template: one.count for one in await store.usage.records(0, ["lamp-1"])} == {
        "jobs/+/done": 19,
        "state": 1,
    }


async def test_what_was_refused_is_not_taken_in_by_what_was_allowed(store, monkeypatch):
    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 10)
    allowed = [*(seen(f"a/{number}") for number in range(3)), *(seen(f"b/{number}") for number in range(7))]
    await add_records(store, [seen("a/secret", passage=REFUSED), *allowed])
    found = {(one.template, one.passage) for one in await store.usage.records(0)}
    assert found == {("a/secret", REFUSED), *((topic, ALLOWED) for topic in ("a/0", "a/1", "a/2", "b/+"))}


async def test_topics_without_anything_in_common_are_kept_by_age_and_the_rest_is_counted(store, monkeypatch):
    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 10)
    apart = [seen("/".join([str(number)] * (number + 1)), last_at=NOW - number) for number in range(12)]
    await add_records(store, [*apart, seen(OVERFLOW, count=5, last_at=NOW - 20)])
    assert await store.usage.records(0) == [
        seen(OVERFLOW, count=12, first_at=NOW, last_at=NOW - 5),
        *apart[:5],
    ]


async def test_whoever_names_topics_makes_no_more_work_than_one_may(store, monkeypatch):
    """It costs the device its own usage records: they are counted."""
    units = []

    class Watched(EffortLeft):
        def take(self, some: int) -> bool:
            taken = super().take(some)
            units.append(some if taken else 0)
            return taken

    monkeypatch.setattr(usage, "EffortLeft", Watched)
    deep = "/".join("tttttttttt")
    costly = [f"{'/'.join(levels)}/{deep}" for levels in product("abc", repeat=6)]
    refused = [seen(f"{'x/' * 15}{number}", passage=REFUSED) for number in range(400)]
    await add_records(store, [*map(seen, costly), *refused])
    assert 0 < sum(units) < usage._REDUCING_EFFORT
    found = await store.usage.records(0)
    assert len(found) <= usage._RECORDS_PER_DEVICE_MAX
    assert sum(one.count for one in found if one.passage is ALLOWED) == len(costly)
    assert sum(one.count for one in found if one.passage is REFUSED) == len(refused)


async def test_a_device_that_was_removed_before_its_records_were_made_fewer_stays_removed(store):
    await store.usage.reduce("lamp-1")
    assert await store.usage.records(0) == []


async def test_of_many_with_too_much_some_are_done_at_a_time(store, monkeypatch):
    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 4)
    monkeypatch.setattr(usage, "_REDUCED_AT_ONCE", 2)

    async def counts() -> dict[str, int]:
        return Counter(one.device_id for one in await store.usage.records(0))

    devices = ("a", "b", "c")
    await add_records(store, [seen(f"{device}/{n}", device) for device in devices for n in range(5)])
    assert await counts() == {"a": 1, "b": 1, "c": 5}
    await add_records(store, [seen("c/0", "c")])
    assert await counts() == {"a": 1, "b": 1, "c": 1}


async def test_who_had_to_wait_with_too_much_is_the_next(store, monkeypatch):
    """However many have too much at the same time, none may go on as if it had been its turn."""
    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 32)
    monkeypatch.setattr(usage, "_REDUCED_AT_ONCE", 1)
    for number in range(40):
        await add_records(store, [seen(f"{number}{'/x' * number}", device) for device in ("a", "b", "c")])
        counts = Counter(one.device_id for one in await store.usage.records(0))
        assert max(counts.values()) <= 32 + 5, "what may be added before it is looked at, and two turns"


async def test_a_gateway_that_starts_often_keeps_no_more(store, monkeypatch, path):
    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 32)
    for number in range(40):
        again = await open_store(f"sqlite:///{path}")
        await add_records(again, [seen(f"{number}{'/x' * number}")])
        await again.close()
    assert len(await store.usage.records(0)) <= 32


async def test_what_is_too_old_or_too_many_is_dropped(store, monkeypatch):
    monkeypatch.setattr(usage, "_RECORDS_MAX", 3)
    old = now() - usage.KEPT_SECONDS
    await add_records(store, [seen("old", last_at=old - 9), seen("new", last_at=old + 99)])
    await store.usage.prune()
    assert [one.template for one in await store.usage.records(0)] == ["new"]
    await add_records(store, [seen(str(number), last_at=NOW - number) for number in range(4)])
    await store.usage.prune()
    assert [one.template for one in await store.usage.records(0)] == ["0", "1", "2"]


async def test_of_too_many_of_one_second_as_many_as_may_be_kept_are_kept(store, monkeypatch):
    monkeypatch.setattr(usage, "_RECORDS_MAX", 3)
    await add_records(store, [seen("new", last_at=NOW + 1), *[seen(str(number)) for number in range(5)]])
    await store.usage.prune()
    kept = [one.template for one in await store.usage.records(0)]
    assert (len(kept), "new" in kept) == (3, True)


async def test_a_removed_device_leaves_nothing_to_another_one_with_its_id(store):
    await add_records(store, [seen("a"), seen("a", "lamp-2")])
    await store.devices.remove("lamp-1")
    assert await store.usage.records(0) == [seen("a", "lamp-2")]
    # What a gateway had seen of it before it heard of that.
    assert await store.usage.add_records([seen("b"), seen("b", "lamp-2")]) == []
    assert await store.usage.add_records([seen("b")]) == []
    await add_devices(store, "lamp-1")
    assert await store.usage.records(0) == [seen("a", "lamp-2"), seen("b", "lamp-2")]


async def test_a_device_is_observed_for_a_time_and_whoever_follows_learns_of_it(store):
    before = await store.devices.get("lamp-1")
    directory = Directory(store)
    await directory.load()
    changed = []
    directory.on_change(changed.append)
    earliest = now() + 60
    device = await store.devices.observe("lamp-1", 60)
    assert earliest <= device.observe_until <= now() + 60
    # Nothing else is different: no session ends, no token is revoked.
    assert replace(device, observe_until=0) == before
    await directory.load()
    assert changed == [frozenset({"lamp-1"})]
    assert directory.get("lamp-1") == device
    assert await store.devices.observe("lamp-1", 0) == before


@pytest.mark.parametrize("seconds", [-1, OBSERVE_MAX + 1])
async def test_nobody_is_observed_for_ever(store, seconds):
    before = await store.devices.get("lamp-1")
    with pytest.raises(ValueError, match="between"):
        await store.devices.observe("lamp-1", seconds)
    assert await store.devices.find("lamp-1") == before


async def test_a_device_that_is_not_there_is_not_observed(store):
    last = await store.changes.last()
    with pytest.raises(UnknownDevice):
        await store.devices.observe("ghost", 60)
    assert await store.changes.last() == last


async def test_what_passed_for_its_device_was_observed_is_kept_as_it_was_seen(store, monkeypatch):
    """A role that is learned allows what was seen, and no rule says how far a `+` of it might go."""
    monkeypatch.setattr(usage, "_RECORDS_PER_DEVICE_MAX", 10)
    watched = [seen(f"a/{number}", passage=OBSERVED, last_at=NOW - number) for number in range(4)]
    refused = [seen(f"b/{number}", passage=REFUSED) for number in range(4)]
    allowed = [seen(f"a/x{number}") for number in range(4)]
    await add_records(store, [*watched, *refused, *allowed])
    # Nor does a `+` of what was allowed take it in. Of all there is room for five.
    assert {(one.template, one.passage, one.count) for one in await store.usage.records(0)} == {
        ("a/0", OBSERVED, 1),
        *((f"a/x{number}", ALLOWED, 1) for number in range(4)),
        (OVERFLOW, OBSERVED, 3),
        (OVERFLOW, REFUSED, 4),
    }


async def test_a_passage_that_nobody_knows_is_left_out(store, path):
    await add_records(store, [seen("a", passage=OBSERVED), seen("b")])
    sql(path, "UPDATE observations SET passage = 'waved through' WHERE template = 'a'")
    assert await store.usage.records(0) == [seen("b")]
