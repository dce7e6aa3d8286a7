"""What the log says of peers that are refused before they are authenticated: once, and then how many more.

A peer that comes back as fast as it can and is refused for the same reason costs two lines a minute.
Must not know what they are refused for.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from gateway.observe.logs import get_logger
from gateway.system.ip_address_blocks import place_of

_WINDOW = 60.0
"""Seconds in which refusals are counted."""
_PAIRS_MAX = 1_000
"""Pairs of place and reason that are counted apart in a window; all others are one number."""
_log = get_logger()


class RefusedStrangers:
    """Decides which refusals get a line of their own."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str]] = Counter()

    def first(self, host: str, reason: str) -> bool:
        """Whether this is the first refusal for this reason at the place of this address in the window."""
        key = place_of(host), reason
        if key not in self._seen and len(self._seen) >= _PAIRS_MAX:
            self._seen["", ""] += 1
            return False
        self._seen[key] += 1
        return self._seen[key] == 1

    async def run(self) -> None:
        """Log at the end of each window how many refusals got no line, for ever."""
        while True:
            await asyncio.sleep(_WINDOW)
            self.log_rest()

    def log_rest(self) -> None:
        """Log how many refusals got no line, and begin a new window."""
        seen, self._seen = self._seen, Counter()
        for (place, reason), count in seen.items():
            more = count - 1 if place or reason else count
            if more:
                _log.warning(
                    "turned away", network=place or None, reason=reason or None, not_logged_before=more
                )
