"""Events of administrators on a real SQLite file: each is taken once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from harness.failing_store import taken

from gateway.store import EventNotKept, open_store


def sql(path: Path, statement: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


async def test_events_are_taken_once_in_order_and_in_portions(store, path):
    assert await taken(store) == []
    for number in range(5):
        await store.admin_events.add({"kind": "device", "number": number, "reason": "müde"})
    other = await open_store(f"sqlite:///{path}")
    assert [event["number"] for event in await taken(other, 2)] == [0, 1]
    assert [event["number"] for event in await taken(store)] == [2, 3, 4]
    assert await taken(store) == []
    assert sql(path, "SELECT count(*) FROM admin_events") == [(0,)]
    await other.close()


async def test_of_events_that_nobody_takes_none_is_dropped_for_another_one(store, monkeypatch):
    monkeypatch.setattr("gateway.store.admin_events._WAITING_MAX", 3)
    for number in range(3):
        await store.admin_events.add({"number": number})
    with pytest.raises(EventNotKept, match=r"nothing was changed.*3 events wait for a gateway.*start it"):
        await store.admin_events.add({"number": 3})
    assert [event["number"] for event in await taken(store)] == [0, 1, 2]
    await store.admin_events.add({"number": 4})


async def test_to_look_for_events_changes_nothing_on_disk(store):
    """A running gateway looks each second, and its followers go by what changes there."""
    await store.admin_events.add({"number": 1})
    await taken(store)
    mark = store.wal_stamp()
    assert await taken(store) == []
    assert store.wal_stamp() == mark
