"""Who was refused lately, in a real SQLite file: read as it was saved, bounded, forgotten in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from gateway.store import RefusedClient, recent_refusals
from gateway.store.recent_refusals import KEPT_SECONDS

NOW = int(datetime.now(UTC).timestamp())
"""When this file was read, which may be minutes before its tests."""
ONE = RefusedClient(
    "lamp-1", "192.0.2.1", "login", "wrong secret", False, "", "", "", "", first_at=NOW, last_at=NOW, count=1
)


async def test_what_is_saved_again_takes_the_place_of_what_was_saved(store):
    await store.refused_clients.save([])
    await store.refused_clients.save([ONE, replace(ONE, host="192.0.2.2")])
    await store.refused_clients.save([replace(ONE, count=2)])
    assert await store.refused_clients.read() == [replace(ONE, count=2), replace(ONE, host="192.0.2.2")]


async def test_what_is_too_old_is_dropped(store):
    old = replace(ONE, device_id="old", last_at=NOW - KEPT_SECONDS - 9)
    await store.refused_clients.save([ONE, old])
    assert await store.refused_clients.read() == [ONE]
    await store.refused_clients.prune()
    await store.refused_clients.save([replace(old, last_at=NOW - 1, count=0)])
    assert [one.device_id for one in await store.refused_clients.read()] == ["lamp-1", "old"]


async def test_of_too_many_of_one_second_as_many_as_may_be_kept_are_kept(store, monkeypatch):
    monkeypatch.setattr(recent_refusals, "_KEPT", 3)
    some = [replace(ONE, device_id=f"lamp-{number}") for number in range(5)]
    await store.refused_clients.save([*some, replace(ONE, device_id="new", last_at=NOW + 1)])
    await store.refused_clients.prune()
    monkeypatch.undo()
    kept = [one.device_id for one in await store.refused_clients.read()]
    assert (len(kept), kept[0]) == (3, "new")
