"""Recognises requests on the bus that are repeated: whoever listens there could send one again.

Must not know what a request asks for. Time comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

_REMEMBERED_MS = 60_000
"""Milliseconds for which a request is remembered at least; at most twice as long."""


class SeenRequests:
    """Remembers requests for a minute, as 64 bits each: Python's hash, with a random key per process.

    Bounded by the requests that callers may make in two minutes (`Limits.service_requests_per_second`).
    """

    __slots__ = ("_before", "_now", "_recent", "_swap_at")

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` returns milliseconds."""
        self._now = now
        self._recent: set[int] = set()
        self._before: set[int] = set()
        self._swap_at = 0

    def is_repeated(self, request: Hashable) -> bool:
        """Whether this request already came within the last minute. It is remembered from now on."""
        now = self._now()
        if not now < self._swap_at <= now + _REMEMBERED_MS:
            # After two minutes without a request, none of the earlier ones counts any more.
            self._before = self._recent if now < self._swap_at + _REMEMBERED_MS else set()
            self._recent = set()
            self._swap_at = now + _REMEMBERED_MS
        key = hash(request)
        if key in self._recent or key in self._before:
            return True
        self._recent.add(key)
        return False
