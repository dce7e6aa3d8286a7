"""How late the loop is, by a loop that is held up."""

import asyncio
import time

import pytest
from harness import virtual_time
from harness.background_tasks import beside

from gateway.observe import loop_lag as module
from gateway.observe.loop_lag import LoopLag


async def test_a_loop_that_is_held_up_is_late_for_as_long(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    lag = LoopLag()
    running = asyncio.get_running_loop().create_task(lag.run())
    await asyncio.sleep(0.02)
    assert lag.check()[0] is True
    time.sleep(0.3)  # noqa: ASYNC251 - it is to be held up
    await asyncio.sleep(0.02)
    assert 0.25 < lag.seconds < 5
    assert lag.check()[1].startswith("warning: ")
    running.cancel()


def test_only_a_minute_of_it_is_what_a_restart_mends():
    lag = LoopLag()
    lag._parts.extend([2.0] * 5)
    assert lag.check()[0] is True
    lag._parts.append(2.0)
    assert lag.check() == (
        False,
        "over 1 s late again and again for a minute: the process is overloaded or stuck",
    )
    lag._parts.append(0.0)
    assert lag.check()[0] is True


def test_what_was_long_ago_is_over():
    lag = LoopLag()
    lag._parts.extend([3.0, 0.01, 0.02])
    assert lag.seconds == 0.02


STALLS = [begin / 20 for begin in range(20)]
"""When the loop is held up, in seconds from a whole one: at any moment."""


@pytest.mark.parametrize("begin", STALLS)
def test_while_a_device_is_there_a_loop_that_is_held_up_is_seen_whenever_that_is(begin):
    async def scene() -> None:
        lag = LoopLag(lambda: True)
        async with beside(lag.run()):
            await asyncio.sleep(5 + begin)
            assert lag.seconds < 0.001
            virtual_time.loop().stall(0.41)
            await asyncio.sleep(0.25)
            assert lag.seconds > 0.2

    virtual_time.run(scene())


@pytest.mark.parametrize("begin", STALLS)
def test_when_something_comes_after_a_rest_what_it_takes_is_seen(begin):
    async def scene() -> None:
        lag = LoopLag(lambda: False)
        async with beside(lag.run()):
            await asyncio.sleep(5 + begin)
            lag.soon()
            virtual_time.loop().stall(0.43)
            await asyncio.sleep(0.25)
            assert lag.seconds > 0.2

    virtual_time.run(scene())


def test_what_is_done_at_the_moment_of_a_look_is_seen():
    async def scene() -> None:
        lag = LoopLag(lambda: False)
        loop = virtual_time.loop()
        async with beside(lag.run()):
            due = loop.time() // 1 + 4
            loop.call_at(due + 1e-10, lambda: loop.call_soon(loop.stall, 0.3))  # after the look has begun
            await asyncio.sleep(5.5)
            assert lag.seconds > 0.29

    virtual_time.run(scene())


def test_while_nobody_is_there_it_wakes_once_a_second_and_then_five_times():
    async def scene() -> None:
        devices: list[str] = []
        lag = LoopLag(lambda: bool(devices))
        async with beside(lag.run()):
            before = virtual_time.wake_ups()
            await asyncio.sleep(60.05)
            assert virtual_time.wake_ups() - before == 61, "ours is one"
            devices.append("lamp-1")
            lag.soon()
            before = virtual_time.wake_ups()
            await asyncio.sleep(60.1)
            assert 300 <= virtual_time.wake_ups() - before <= 303

    virtual_time.run(scene())


def test_what_was_seen_is_over_after_twenty_seconds():
    async def scene() -> None:
        lag = LoopLag(lambda: False)
        async with beside(lag.run()):
            await asyncio.sleep(3)
            lag.soon()
            virtual_time.loop().stall(3)
            await asyncio.sleep(9)
            assert lag.seconds > 2
            await asyncio.sleep(12)
            assert lag.seconds < 0.001

    virtual_time.run(scene())
