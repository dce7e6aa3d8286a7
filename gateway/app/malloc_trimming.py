"""When free memory is given back to the system: after many connections have ended.

The C library keeps what they leave, in pieces that the next thousand connections do not fit into: each storm
of a thousand took 10 MiB more, of which nothing was in use.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.app.periodic import every
from gateway.system.malloc import give_back_free_pages

_LOOK_SECONDS = 5.0
_ENDED = 256
"""Connections. They may leave 20 MiB."""


class MallocTrimming:
    """Gives free pages back once enough connections have ended since the last time."""

    def __init__(self, ended: Callable[[], int]) -> None:
        """`ended` says how many connections did, since the process began."""
        self._ended = ended
        self._trimmed_at = 0

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        await every(_LOOK_SECONDS, self.look)

    def look(self) -> None:
        """Give back, if there is a reason."""
        ended = self._ended()
        if ended - self._trimmed_at >= _ENDED:
            self._trimmed_at = ended
            give_back_free_pages()
