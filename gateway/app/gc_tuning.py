"""When the garbage collector goes through old objects: only with a reason, for all messages wait for it."""

from __future__ import annotations

import gc
import sys

from gateway.app.periodic import every

_LOOK_SECONDS = 5.0
"""Between two counts of what is allocated: one takes 0.1 ms, and the number does not double within a
second."""
_NEVER = 1_000_000_000
"""A threshold of the collector that is never reached."""


class FullCollections:
    """Runs the full garbage collections, for which all messages wait, only when there is a reason.

    CPython itself runs one whenever what it tracks has grown by a quarter, so reading a policy made it go
    through all connections several times over. The middle generation is off too: it would go through each
    connection a second time. What the gateway drops is freed by its reference counts; cycles are rare (an
    error and its traceback). A collection runs at twice the number of blocks of memory. But a block may be
    long, so nothing that a peer can cause may be a cycle.
    """

    def __init__(self) -> None:
        """Collect now.

        What is left is there for good, and no later collection goes through it (gc.freeze).
        """
        gc.set_threshold(gc.get_threshold()[0], _NEVER, _NEVER)
        gc.collect()
        gc.freeze()
        self._in_use = sys.getallocatedblocks()

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        await every(_LOOK_SECONDS, self.look)

    def look(self) -> None:
        """Collect if twice as much is allocated as was left after the last collection."""
        if sys.getallocatedblocks() >= 2 * self._in_use:
            gc.collect()
            self._in_use = sys.getallocatedblocks()
