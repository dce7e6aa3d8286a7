"""The history is in the store within seconds, waits when that fails, and comes back."""

from __future__ import annotations

import pytest
from harness.failing_store import Failing

from gateway.app.savers.history import HistorySaver
from gateway.observe.history import History
from gateway.observe.save_failures import Saves
from gateway.store import open_store

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
