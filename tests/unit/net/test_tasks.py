"""Tasks are held until they end, and never silent when they fail."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from gateway.net.tasks import Tasks


async def test_a_task_is_held_until_it_ends():
    tasks, done = Tasks(), asyncio.Event()

    async def work():
        await done.wait()

    held = weakref.ref(tasks.start(work()))
    await asyncio.sleep(0)
    gc.collect()
    assert held() is not None
    done.set()
    await held()
    await asyncio.sleep(0)
    gc.collect()
    assert held() is None


async def test_a_failure_is_logged_as_a_fault_of_ours(log):
    tasks = Tasks()

    async def work():
        raise ValueError("what went wrong")

    task = tasks.start(work())
    with pytest.raises(ValueError, match="what went wrong"):
        await task
    (line,) = log()
    assert line["level"] == "error"
    assert "ValueError: what went wrong" in line["reason"]


async def test_stopping_cancels_and_waits(log):
    tasks, seen = Tasks(), []

    async def work(number):
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            seen.append(number)

    for number in range(3):
        tasks.start(work(number))
    await asyncio.sleep(0)
    await tasks.stop()
    assert sorted(seen) == [0, 1, 2]
    assert log() == []
    await tasks.stop()
