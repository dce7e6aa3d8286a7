"""Work that goes on beside a test, and what it waits for."""

from __future__ import annotations

import asyncio
import contextlib


@contextlib.asynccontextmanager
async def beside(work):
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition, seconds=20):
    """Wait for what has no event to wait for."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
