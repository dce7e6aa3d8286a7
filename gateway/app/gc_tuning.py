"""When the garbage collector looks at old objects again: only with a reason, for all messages wait."""

from __future__ import annotations

import gc
import sys

from gateway.app.periodic import every

_LOOK_SECONDS = 5.0
"""To count what is allocated takes a tenth of a millisecond, and doubles in no second."""
_NEVER = 1_000_000_000


class FullCollections:
    """Runs the full garbage collections, for which all messages wait, only when there is a reason.

    CPython has one for each quarter more of what it tracks, so reading a policy made it look through all
    connections several times over. Nor does it look a second time at what survived the first: each connection
    would be looked through twice. What the gateway lets go of is freed without: cycles are rare (an error
    and its traceback). What they hold is never more than the rest.
    """

    def __init__(self) -> None:
        """Collect now; what is there stays for ever, and is not looked through again."""
        gc.set_threshold(gc.get_threshold()[0], _NEVER, _NEVER)
        gc.collect()
        gc.freeze()
        self._in_use = sys.getallocatedblocks()

    async def run(self) -> None:
        """Look every few seconds, for ever."""
        await every(_LOOK_SECONDS, self.look)

    def look(self) -> None:
        """Collect if twice as much is allocated as was in use after the last time."""
        if sys.getallocatedblocks() >= 2 * self._in_use:
            gc.collect()
            self._in_use = sys.getallocatedblocks()
