"""The parts of a gateway that run in tasks, and all that is closed at the end, in reverse order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from gateway.app.savers.saver import Saver
from gateway.net.tasks import Tasks
from gateway.observe.logs import get_logger

_log = get_logger()


class RunningParts:
    """Keeps parts running for as long as the gateway does.

    If one ends the gateway stops: without it, what administrators decide might not take effect.
    """

    def __init__(self, give_up: asyncio.Event) -> None:
        """`give_up` is set when a part has failed."""
        self.tasks = Tasks()
        self.closing = contextlib.AsyncExitStack()
        """What is closed at the end. What is pushed before `begin` is closed when no task runs any more."""
        self.failed = False
        """Whether the gateway stops because a part of it failed."""
        self.stopping = False
        self._give_up = give_up
        self._savers: list[Saver] = []

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this, which must not end before the gateway does."""
        self.tasks.start(work).add_done_callback(self._ended)

    def keep_saving(self, saver: Saver) -> None:
        """Have it save from `begin` on, and what is left then when all else has stopped."""
        self.closing.push_async_callback(saver.save)
        self._savers.append(saver)

    def begin(self) -> None:
        """Start the savers: from now on tasks run, which end before what was pushed before is closed."""
        self.closing.push_async_callback(self.tasks.stop)
        for saver in self._savers:
            self.keep(saver.run())

    async def stop(self) -> None:
        """Close everything, in the reverse order."""
        self.stopping = True
        await self.closing.aclose()

    def _ended(self, _: asyncio.Task[None]) -> None:
        if not self.stopping:
            _log.critical("stopping", reason="a part of the gateway has failed; start it again")
            self.failed = True
            self._give_up.set()
