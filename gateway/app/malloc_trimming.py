"""When free memory is given back to the system: when much of it became free.

The C library keeps what ended connections and packets leave, in pieces that the next thousand connections do
not fit into: each storm of a thousand took 10 MiB more, of which nothing was in use.
"""

from __future__ import annotations

from gateway.app.periodic import every
from gateway.system.malloc import free_bytes, give_back_free_pages

_LOOK_SECONDS = 2.0
_FREED = 16_777_216
"""Bytes that became free, at least."""
_FREED_SHARE = 4
"""And one part in so many of all that is free: each free page costs time, those too that went back before."""


class MallocTrimming:
    """Gives free pages back once enough bytes became free since the last time.

    A page that went back is counted as free as before, until it is used again. So what counts is how much
    more is free than at the lowest point since the last time.
    """

    def __init__(self) -> None:
        self._least_free = free_bytes()

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        await every(_LOOK_SECONDS, self.look)

    def look(self) -> None:
        """Give back, if there is a reason."""
        free = free_bytes()
        self._least_free = min(self._least_free, free)
        if free - self._least_free >= max(_FREED, free // _FREED_SHARE):
            give_back_free_pages()
            self._least_free = free_bytes()
