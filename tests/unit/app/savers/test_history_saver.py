"""The history is in the store within seconds, waits when that fails, and comes back."""

from __future__ import annotations

import asyncio

import aiosqlite
import pytest
from harness.failing_store import Failing

from gateway.app.savers.history import HistorySaver
from gateway.observe.history import History
from gateway.observe.save_failures import Saves
from gateway.store import StoreError, open_store

START = 1_764_000_000_000


@pytest.fixture
async def store(tmp_path):
    one = await open_store(f"sqlite:///{tmp_path}/gateway.db")
    yield one
    await one.close()


def filled(samples):
    history = History()
    for number in range(samples):
        history.add(START + number * 10_000, {"cpu_percent": {(("cpu", "all"),): number}})
    return history


async def test_all_of_it_is_saved_and_loaded_again(store):
    history = filled(500)
    await HistorySaver(store, history, Saves()).save()
    again = History()
    await HistorySaver(store, again, Saves()).load(START + 5_000_000)
    assert again.since("cpu_percent", 86_400) == history.since("cpu_percent", 86_400)


async def test_what_can_not_be_saved_is_saved_later(store):
    failing, saves, history = Failing(store), Saves(), filled(10)
    saver = HistorySaver(failing, history, saves)
    assert not await saver.save_some()
    assert "history: the disk is full" in saves.check()[1]
    failing.fails = False
    await saver.save()
    assert saves.check()[0]
    assert len((await store.history.read())[1]) == 11


async def test_damaged_rows_are_told(store, tmp_path):
    await HistorySaver(store, filled(10), Saves()).save()
    await store.history.save(series=(), ended=(), rows=[(10, 3, START + 30_000, b"x")], moved=(), needed={})
    again = History()
    await HistorySaver(store, again, Saves()).load(START + 100_000)
    assert len(again.since("cpu_percent", 600)[(("cpu", "all"),)]) == 9


async def test_to_save_takes_one_call_of_a_thread(store, monkeypatch):
    calls, by_statement = [], []
    in_thread, execute = asyncio.to_thread, aiosqlite.Connection._execute

    async def counted(work, *arguments):
        calls.append(work)
        return await in_thread(work, *arguments)

    async def statement(self, *arguments, **more):
        by_statement.append(arguments)
        return await execute(self, *arguments, **more)

    saver = HistorySaver(store, filled(10), Saves())
    monkeypatch.setattr(asyncio, "to_thread", counted)
    monkeypatch.setattr(aiosqlite.Connection, "_execute", statement)
    assert await saver.save_some()
    assert (len(calls), len(by_statement)) == (1, 0)
    assert len((await store.history.read())[1]) == 11
    assert by_statement


async def test_what_fails_in_the_middle_leaves_nothing_in_the_store(store):
    with pytest.raises(StoreError):
        await store.history.save(
            series=[(1, "a", ())], ended=(), rows=[(10, 1, START, None)], moved=(), needed={}
        )
    assert await store.history.read() == ([], [])


async def test_in_a_transaction_of_others_it_is_part_of_it(store):
    async def undone() -> None:
        async with store.transaction() as within:
            await within.history.save(series=[(1, "a", ())], ended=(), rows=[], moved=(), needed={})
            assert len((await within.history.read())[0]) == 1
            raise RuntimeError("undo it")

    with pytest.raises(RuntimeError, match="undo it"):
        await undone()
    assert await store.history.read() == ([], [])
