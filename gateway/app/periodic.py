"""What is done again and again for as long as the gateway runs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def every(seconds: float, do: Callable[[], Awaitable[object] | object]) -> None:
    """Do it for ever: `seconds` from now, and again `seconds` after it was done. What it raises ends it."""
    while True:
        await asyncio.sleep(seconds)
        doing = do()
        if inspect.isawaitable(doing):
            await doing
