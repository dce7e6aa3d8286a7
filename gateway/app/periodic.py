"""What is done again and again for as long as the gateway runs."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from gateway.system.aligned_timers import until_next_multiple_of


async def every(seconds: float, do: Callable[[], Awaitable[object] | object]) -> None:
    """Do it for ever, each `seconds`, and never while it is being done. What it raises ends it."""
    while True:
        await until_next_multiple_of(seconds)
        doing = do()
        if inspect.isawaitable(doing):
            await doing
