"""What is done again and again is done at moments that all share."""

from __future__ import annotations

import asyncio
import math

import uvloop
from harness import virtual_time
from harness.background_tasks import beside

from gateway.system import aligned_timers
from gateway.system.aligned_timers import Rounds, next_moment, until_next_multiple_of

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def test_a_beat_is_a_multiple_of_its_interval_by_the_loops_clock():
    loop = asyncio.get_running_loop()
    before, due = loop.time(), await until_next_multiple_of(0.05)
    assert math.isclose(due / 0.05, round(due / 0.05), abs_tol=1e-6)
    assert due - 0.06 <= before < due
    assert loop.time() >= due - 0.002


async def test_all_that_have_the_same_interval_come_together():
    dues = await asyncio.gather(*(until_next_multiple_of(0.1) for _ in range(5)))
    assert len(set(dues)) == 1
    longer = await asyncio.gather(until_next_multiple_of(0.1), until_next_multiple_of(0.1))
    assert longer[0] > dues[0]


def test_who_wakes_a_little_early_is_not_called_twice():
    assert next_moment(1.0, 9.999) == 11.0
    assert next_moment(1.0, 9.5) == 10.0
    assert next_moment(1.0, 10.0) == 11.0


async def test_intervals_of_which_one_is_a_multiple_of_the_other_share_a_timer(monkeypatch):
    loop = asyncio.get_running_loop()
    timers = []

    class Loop:
        """The real one, which counts."""

        time, create_future = loop.time, loop.create_future

        def call_at(self, *arguments):
            timers.append(arguments[0])
            return loop.call_at(*arguments)

    counting = Loop()
    monkeypatch.setattr(aligned_timers.asyncio, "get_running_loop", lambda: counting)
    start = (loop.time() // 0.2 + 1) * 0.2
    monkeypatch.setattr(counting, "time", lambda: start - 0.1, raising=False)
    await asyncio.gather(
        until_next_multiple_of(0.2),
        until_next_multiple_of(0.2),
        until_next_multiple_of(0.4) if round(start / 0.2) % 2 == 0 else until_next_multiple_of(0.2),
    )
    assert len(timers) == 1


async def test_who_is_cancelled_takes_nobody_along():
    gone, stays = (
        asyncio.ensure_future(until_next_multiple_of(0.1)),
        asyncio.ensure_future(until_next_multiple_of(0.1)),
    )
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays > 0
    assert gone.cancelled()


async def _counting(rounds: Rounds, had_reason: list[bool]) -> None:
    while True:
        had_reason.append(await rounds.wait())


def test_without_a_reason_a_round_is_seldom_and_with_one_it_is_soon():
    async def scene() -> None:
        rounds, had_reason = Rounds(0.2, 1.0), []
        async with beside(_counting(rounds, had_reason)):
            before = virtual_time.wake_ups()
            await asyncio.sleep(10.05)
            assert had_reason == [False] * 10
            assert virtual_time.wake_ups() - before == 11, "ours is one"
            rounds.soon()
            rounds.soon()
            await asyncio.sleep(0.3)
            assert had_reason == [False] * 10 + [True]
            await asyncio.sleep(10)
            assert had_reason == [False] * 10 + [True] + [False] * 10

    virtual_time.run(scene())


def test_a_reason_just_before_a_moment_does_not_move_when_that_was_due():
    """How late the loop is, is counted from it."""

    async def scene() -> None:
        rounds = Rounds(0.2, 1.0)
        await rounds.wait()
        waiting = asyncio.ensure_future(rounds.wait())
        await asyncio.sleep(0.99)
        rounds.soon()
        await waiting
        assert rounds.due <= asyncio.get_running_loop().time()

    virtual_time.run(scene())


def test_what_is_never_done_without_a_reason_wakes_nobody():
    async def scene() -> None:
        rounds, had_reason = Rounds(0.2), []
        rounds.soon()
        async with beside(_counting(rounds, had_reason)):
            await asyncio.sleep(1_000)
            assert had_reason == [True]
            rounds.soon()
            await asyncio.sleep(0.25)
            assert had_reason == [True, True]

    virtual_time.run(scene())
