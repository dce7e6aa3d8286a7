"""An event loop whose clock jumps to the next timer: what is done in a minute is counted without waiting."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Does not wait: the clock goes on by as much instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.waits = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            assert timeout is not None, "nothing would ever happen again"
            self.now += timeout
            self.waits += 1
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Without threads: they would not know this time."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds of a clock that nothing passes on."""
        return self._virtual.now

    def stall(self, seconds: float) -> None:
        """For so long nothing else is done: what is due meanwhile is late."""
        self._virtual.now += seconds

    @property
    def wake_ups(self) -> int:
        """How often it slept until a timer was due."""
        return self._virtual.waits


def run(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` in such a loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)


def loop() -> VirtualLoop:
    """The running one."""
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running


def wake_ups() -> int:
    """How often the running loop slept until a timer was due."""
    return loop().wake_ups
