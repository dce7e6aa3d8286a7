"""The history in the store: series, rows, and what is dropped."""

from __future__ import annotations

import pytest

from gateway.store import open_store

SERIES = (1, "service_status", (("service", "bus"),))
PLAIN = (2, "cpu_percent", ())


@pytest.fixture
async def store(tmp_path):
    one = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    yield one
    await one.close()


async def save(store, **what):
    await store.history.save(**{"series": (), "ended": (), "rows": (), "moved": (), "needed": {}} | what)


async def test_what_is_saved_is_read_again_by_step_and_number(store):
    assert await store.history.read() == ([], [])
    rows = [(60, 1, 5, b"m"), (10, 2, 20, b"b"), (10, 1, 10, b"a")]
    await save(store, series=[SERIES, PLAIN], rows=rows)
    assert await store.history.read() == ([SERIES, PLAIN], sorted(rows))


async def test_saved_once_more_it_stands_there_once_and_as_it_is_now(store):
    await save(store, series=[PLAIN], rows=[(10, 1, 10, b"a")])
    await save(store, series=[PLAIN], rows=[(10, 1, 11, b"b")])
    assert await store.history.read() == ([PLAIN], [(10, 1, 11, b"b")])


async def test_what_is_not_needed_any_more_goes(store):
    await save(store, series=[SERIES, PLAIN], rows=[(10, n, n, b"") for n in range(5)] + [(60, 1, 1, b"")])
    await save(store, ended=[1], needed={10: 3, 60: 0})
    assert await store.history.read() == ([PLAIN], [(10, 3, 3, b""), (10, 4, 4, b""), (60, 1, 1, b"")])


async def test_times_are_corrected_after_the_clock_was(store):
    await save(store, rows=[(10, 1, 10, b"a"), (60, 1, 9, b"b")])
    await save(store, moved=[(10, 1, 4), (60, 1, 3), (60, 7, 1)])
    assert [row[2] for row in (await store.history.read())[1]] == [4, 3]
