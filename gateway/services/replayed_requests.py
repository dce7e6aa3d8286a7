"""Requests on the bus that come again: whoever listens there could send them once more.

Must not know what a request asks. Time comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

_REMEMBERED_MS = 60_000
"""For how long a request is remembered at least; twice that at most."""


class SeenRequests:
    """Remembers requests for a minute, as 64 bits each: Python's hash, whose key is this process's own.

    Bounded by what callers may ask: `limits.service_requests_per_second`, for two minutes, each.
    """

    __slots__ = ("_before", "_now", "_recent", "_swap_at")

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` gives milliseconds."""
        self._now = now
        self._recent: set[int] = set()
        self._before: set[int] = set()
        self._swap_at = 0

    def is_repeated(self, request: Hashable) -> bool:
        """Whether this request came within the last minute already; it is remembered from now on."""
        now = self._now()
        if not now < self._swap_at <= now + _REMEMBERED_MS:
            # After two minutes without a request nothing of before counts any more.
            self._before = self._recent if now < self._swap_at + _REMEMBERED_MS else set()
            self._recent = set()
            self._swap_at = now + _REMEMBERED_MS
        key = hash(request)
        if key in self._recent or key in self._before:
            return True
        self._recent.add(key)
        return False
