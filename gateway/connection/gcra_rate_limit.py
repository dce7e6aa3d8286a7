"""How often a caller may ask: a bound on requests per caller.

Must not know what is asked. Time comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable

_SWEEP_FROM = 1_024
"""Callers from which on those are dropped whose rate is whole again."""


class Rates:
    """Bounds the requests of each caller in a period, and as many at once after a pause.

    Kept is when a caller's allowance is whole again (the generic cell rate algorithm): who is not kept has
    all of it. So nothing is lost when those that are whole again are forgotten, and what is kept is bounded
    by how many callers asked within one period.
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
        # That far ahead it can't be but for a clock that was set back.
        if not now <= whole_at <= now + 2 * period:
            whole_at = now
        whole_at += each
        # Half a request of slack: fractions add up to a little more or less than a whole.
        if whole_at > now + period + each / 2:
            return False
        self._whole_at[caller] = whole_at
        if len(self._whole_at) > self._sweep_at:
            self._sweep(now)
        return True

    def _sweep(self, now: int) -> None:
        self._whole_at = {caller: whole_at for caller, whole_at in self._whole_at.items() if whole_at > now}
        # Twice what is left: each sweep is paid for by as many new callers.
        self._sweep_at = max(_SWEEP_FROM, 2 * len(self._whole_at))
