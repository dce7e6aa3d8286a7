"""What is done again and again is done at moments that all share."""

from __future__ import annotations

import asyncio
import math

import uvloop

from gateway.system.aligned_timers import beat

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def test_a_beat_is_a_multiple_of_its_interval_by_the_loops_clock():
    loop = asyncio.get_running_loop()
    before, due = loop.time(), await beat(0.05)
    assert math.isclose(due / 0.05, round(due / 0.05), abs_tol=1e-6)
    assert due - 0.06 <= before < due
    assert loop.time() >= due - 0.002


async def test_all_that_have_the_same_interval_come_together():
    dues = await asyncio.gather(*(beat(0.1) for _ in range(5)))
    assert len(set(dues)) == 1
    longer = await asyncio.gather(beat(0.1), beat(0.1))
    assert longer[0] > dues[0]


async def test_who_wakes_a_little_early_is_not_called_twice(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(loop, "time", lambda: 9.999, raising=False) if hasattr(loop, "__dict__") else None
    await beat(1.0)
    assert slept[0] > 0.1
