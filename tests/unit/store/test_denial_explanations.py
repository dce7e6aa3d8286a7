"""What devices were refused, in a real SQLite file: found by id, bounded, forgotten in time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from harness.stored_devices import add_devices

from gateway.store import StoredRefusal, denial_explanations
from gateway.store.usage import KEPT_SECONDS


def now() -> int:
    return int(datetime.now(UTC).timestamp())


NOW = now()
"""When this file was read, which may be minutes before its tests."""


@pytest.fixture
async def store(store):
    await add_devices(store, "lamp-1", "lamp-2", "quiet", "loud", "louder")
    return store


def sql(path: Path, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


async def test_refusals_are_found_by_id_and_saved_once(store):
    one = StoredRefusal("0a1b", NOW, "lamp-1", "publish", "a/b", "No rule allows it.", "")
    await store.refusals.add([one])
    await store.refusals.add([one, replace(one, refusal_id="ff")])
    assert await store.refusals.get("0a1b") == one
    assert await store.refusals.get("ff") == replace(one, refusal_id="ff")
    assert await store.refusals.get("") is None


async def test_a_device_that_is_refused_without_end_pushes_out_its_own_and_not_its_first(
    store, path, monkeypatch
):
    monkeypatch.setattr(denial_explanations, "_PER_DEVICE_MAX", 3)
    first = StoredRefusal("x", NOW - 99, "lamp-2", "publish", "a", "r", "")
    await store.refusals.add([first])
    for number in range(9):
        one = replace(first, refusal_id=str(number), at=NOW + number, device_id="lamp-1")
        await store.refusals.add([one])
    kept = [refusal_id for (refusal_id,) in sql(path, "SELECT refusal_id FROM refusals ORDER BY 1")]
    assert (len(kept), kept[0], kept[-2:]) == (4, "0", ["8", "x"])


async def test_what_is_too_many_of_a_device_is_dropped_some_at_a_time(store, path, monkeypatch):
    monkeypatch.setattr(denial_explanations, "_PER_DEVICE_MAX", 8)
    counts = []
    for number in range(12):
        await store.refusals.add(
            [StoredRefusal(str(number), NOW + number, "lamp-1", "publish", "a", "r", "")]
        )
        counts += sql(path, "SELECT count(*) FROM refusals")[0]
    assert counts == [*range(1, 9), 8, 9, 8, 9], "not one by one, at each save"


@pytest.mark.parametrize("before", [0, 500, 2_000])
async def test_decoys_push_out_neither_the_first_refusals_nor_what_was_done_among_them(store, before):
    decoy = StoredRefusal("", NOW, "lamp-1", "publish", "", "r", "")

    def decoys(start: int, count: int) -> list[StoredRefusal]:
        some = range(start, start + count)
        return [
            replace(decoy, refusal_id=f"{n * 2_654_435_761 % 2**32:08x}", at=NOW + n, topic=f"d/{n}")
            for n in some
        ]

    first = replace(decoy, refusal_id="first", at=NOW - 9, topic="d/first")
    meant = [
        replace(decoy, refusal_id="zz-topic", at=NOW + before, topic="locks/front"),
        replace(decoy, refusal_id="zz-action", at=NOW + before, topic="d/x", action="subscribe"),
        replace(decoy, refusal_id="zz-rule", at=NOW + before, topic="d/y", rule="acl/roles/lamp.toml:7"),
    ]
    await store.refusals.add([first])
    # As they are saved, some each second.
    for some in (decoys(0, before), meant, decoys(before, 2_000 - before), decoys(2_000, 700)):
        for at in range(0, len(some), 500):
            await store.refusals.add(some[at : at + 500])
    for one in (first, *meant):
        assert await store.refusals.get(one.refusal_id) == one, "kept, whatever came before and after it"


async def test_who_has_most_refusals_makes_room_first(store, path, monkeypatch):
    monkeypatch.setattr(denial_explanations, "_ALL_MAX", 10)
    one = StoredRefusal("", NOW, "", "publish", "a", "r", "")
    for device, count, at in (("quiet", 2, NOW - 99), ("loud", 9, NOW), ("louder", 20, NOW)):
        many = [
            replace(one, refusal_id=f"{device}-{n:02}", at=at + n, device_id=device) for n in range(count)
        ]
        await store.refusals.add(many)
    await store.refusals.prune()
    kept = [refusal_id for (refusal_id,) in sql(path, "SELECT refusal_id FROM refusals ORDER BY 1")]
    assert kept == [
        *("loud-00", "loud-01", "loud-07", "loud-08"),
        *("louder-00", "louder-01", "louder-18", "louder-19"),
        *("quiet-00", "quiet-01"),
    ]


async def test_what_is_too_old_or_too_many_is_dropped(store, monkeypatch):
    monkeypatch.setattr(denial_explanations, "_ALL_MAX", 2)
    old = now() - KEPT_SECONDS
    refusal = StoredRefusal("old", old - 9, "lamp-1", "publish", "a", "r", "")
    await store.refusals.add([refusal, replace(refusal, refusal_id="new", at=old + 99)])
    await store.refusals.prune()
    assert (await store.refusals.get("old"), (await store.refusals.get("new")) is None) == (None, False)
    await store.refusals.add([replace(refusal, refusal_id=str(n), at=NOW - n) for n in range(4)])
    await store.refusals.prune()
    kept = [one for one in ("0", "1", "2", "3", "new") if await store.refusals.get(one)]
    assert kept == ["0", "new"], "the newest and the first"


async def test_of_too_many_of_one_second_as_many_as_may_be_kept_are_kept(store, path, monkeypatch):
    monkeypatch.setattr(denial_explanations, "_ALL_MAX", 3)
    one = StoredRefusal("", NOW, "", "publish", "a", "r", "")
    # A device each: none of them has more than its share.
    some = [replace(one, refusal_id=of, device_id=of) for of in ("lamp-1", "lamp-2", "quiet", "loud")]
    await store.refusals.add([*some, replace(one, refusal_id="new", at=NOW + 1, device_id="louder")])
    await store.refusals.prune()
    kept = [refusal_id for (refusal_id,) in sql(path, "SELECT refusal_id FROM refusals")]
    assert (len(kept), "new" in kept) == (3, True)


async def test_a_removed_device_leaves_nothing_to_another_one_with_its_id(store):
    one = StoredRefusal("x", NOW, "lamp-1", "publish", "a", "r", "")
    await store.refusals.add([one])
    await store.devices.remove("lamp-1")
    assert await store.refusals.get("x") is None
    # What a gateway refused it before it heard of that.
    late, other = replace(one, refusal_id="late"), replace(one, refusal_id="other", device_id="lamp-2")
    await store.refusals.add([late, other])
    await store.refusals.add([late])
    await add_devices(store, "lamp-1")
    assert (await store.refusals.get("late"), await store.refusals.get("other")) == (None, other)
