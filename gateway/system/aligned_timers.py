"""When what is done again and again is done: at moments that all share, so that an idle process sleeps.

To wake up costs more than most looks do: with caches cold, some fifty microseconds. So nothing waits for a
time of its own, but for the next multiple of its interval by the loop's clock, and intervals are multiples of
one another: 0.2 s, 0.4 s, a second, two.
"""

from __future__ import annotations

import asyncio

_NEAR = 0.1
"""Part of an interval: whoever wakes so little before the moment was woken for it."""


async def beat(seconds: float) -> float:
    """Wait for the next multiple of `seconds`; the answer is when that was due, by the loop's clock."""
    now = asyncio.get_running_loop().time()
    due = (now // seconds + 1) * seconds
    if due - now < seconds * _NEAR:
        due += seconds
    await asyncio.sleep(due - now)
    return due
