"""How late the loop is, by a loop that is held up."""

import asyncio
import time

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
