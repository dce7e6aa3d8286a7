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
"""Seconds for which is counted."""
_COUNTED_APART = 1_000
"""Networks and reasons in them. What is more than that is one number."""
_log = get_logger()


class RefusedStrangers:
    """Whether a refusal gets a line of its own."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str]] = Counter()

    def first(self, host: str, reason: str) -> bool:
        """Somebody at this address is refused for this reason."""
        key = place_of(host), reason
        if key not in self._seen and len(self._seen) >= _COUNTED_APART:
            self._seen["", ""] += 1
            return False
        self._seen[key] += 1
        return self._seen[key] == 1

    async def run(self) -> None:
        """Log every minute how often what got no line came, for ever."""
        while True:
            await asyncio.sleep(_WINDOW)
            self.log_rest()

    def log_rest(self) -> None:
        """Log how often, and begin anew."""
        seen, self._seen = self._seen, Counter()
        for (place, reason), count in seen.items():
            more = count - 1 if place or reason else count
            if more:
                _log.warning(
                    "turned away", network=place or None, reason=reason or None, not_logged_before=more
                )
