"""The change log on a real SQLite file: what it tells followers, and when it says that it does not know."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.store import Store


async def add(store: Store, device_id: str = "lamp-1"):
    return await store.devices.add(device_id, credential="c", roles=[], labels={})


def sql(path: Path, statement: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


async def test_the_change_log_tells_who_changed(store):
    assert await store.changes.since(0) == (0, frozenset())
    await add(store, "a")
    await add(store, "b")
    assert await store.changes.since(0) == (2, {"a", "b"})
    assert await store.changes.since(1) == (2, {"b"})
    await store.devices.remove("a")
    await store.devices.rehash_credential("b", version=2, credential="x")
    assert await store.changes.since(2) == (4, {"a", "b"})
    assert await store.changes.since(4) == (4, frozenset())


async def test_the_change_log_is_pruned_and_says_so(store, path):
    for name in "abc":
        await add(store, name)
    day = int((datetime.now(UTC) - timedelta(days=1, minutes=1)).timestamp())
    sql(path, "UPDATE changes SET at = ? WHERE seq <= 2", day)
    await add(store, "d")
    assert sql(path, "SELECT seq FROM changes") == [(3,), (4,)]
    assert await store.changes.since(0) == (4, None)
    assert await store.changes.since(1) == (4, None)
    assert await store.changes.since(2) == (4, {"c", "d"})


async def test_a_log_that_is_shorter_than_what_was_read_is_another_one(store, path):
    """A backup was copied into the place: what is known may all be wrong."""
    await add(store)
    assert await store.changes.since(17) == (1, None)
