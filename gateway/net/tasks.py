"""The one place where tasks are started: held until they end, and never silent when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from gateway.observe.logs import get_logger

_log = get_logger()


class Tasks:
    """The running tasks: the event loop itself keeps only weak references to them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run this concurrently. An exception is a fault of ours, and is logged as one."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # here it is held
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("internal error", reason=f"{type(error).__name__}: {error}", exc_info=error)

    async def stop(self) -> None:
        """Cancel what still runs and wait for it."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
