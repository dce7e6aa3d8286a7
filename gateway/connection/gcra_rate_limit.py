"""A bound on requests per caller in a period (generic cell rate algorithm).

Must not know what is requested. Time comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable

_SWEEP_FROM = 1_024
"""Number of callers from which on those are dropped whose allowance is full again."""


class Rates:
    """Allows each caller a number of requests per period; after a pause that many at once.

    For each caller it keeps the time at which the allowance will be full again; a caller that is not kept has
    all of it. So nothing is lost when those whose allowance is full are dropped, and what is kept is bounded
    by how many callers made requests within one period.
    """

    __slots__ = ("_now", "_sweep_at", "_whole_at")

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` gives milliseconds. A clock that is set back makes nobody wait longer than two periods."""
        self._now = now
        self._whole_at: dict[str, float] = {}
        self._sweep_at = _SWEEP_FROM

    def take(self, caller: str, most: int, period: int) -> bool:
        """Whether one more is within `most` in a `period` of milliseconds. It is counted if it is."""
        now = self._now()
        each = period / most
        whole_at = self._whole_at.get(caller, 0.0)
        # It can only be that far ahead if the clock was set back.
        if not now <= whole_at <= now + 2 * period:
            whole_at = now
        whole_at += each
        # Half a request of slack, against rounding.
        if whole_at > now + period + each / 2:
            return False
        self._whole_at[caller] = whole_at
        if len(self._whole_at) > self._sweep_at:
            self._sweep(now)
        return True

    def _sweep(self, now: int) -> None:
        self._whole_at = {caller: whole_at for caller, whole_at in self._whole_at.items() if whole_at > now}
        # Twice what is left, so that sweeping costs each new caller a constant amount.
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._whole_at))
