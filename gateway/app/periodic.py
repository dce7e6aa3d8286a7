"""What is done again and again for as long as the gateway runs."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from gateway.system.aligned_timers import until_next_multiple_of


async def every(seconds: float, do: Callable[[], Awaitable[object] | object]) -> None:
    """Call `do` every `seconds`, for ever; the next time only when it is done. What it raises ends this."""
    while True:
        await until_next_multiple_of(seconds)
        doing = do()
        if inspect.isawaitable(doing):
            await doing
