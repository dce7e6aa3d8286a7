"""How much dearer one server is than another, and how sure that is.

Each round measures all servers one right after the other, and what disturbs a round disturbs all of
them. So a round gives one ratio, and only ratios are compared: their median, and an interval for it
from the ratios themselves in their order. With nine rounds it reaches from the second smallest to the
second largest: the true median lies outside only if eight or nine of nine rounds fell on one side of
it, which coin tosses do in 20 of 512 cases. Nothing is assumed of the noise but that rounds do not
know of each other, one wild round moves neither end, and no random numbers are drawn.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

ALLOWED = 1.03  # how much dearer a change may make a row
CONFIDENCE = 0.95
LEAST_ROUNDS = 6  # with fewer even the smallest and the largest ratio hold the median in under 95 %


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios and its interval; from 0 to infinity when there are too few."""

    middle: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether the interval says anything."""
        return self.low > 0 and math.isfinite(self.high)

    @property
    def noisy(self) -> bool:
        """Both may cost the same, and the interval is wider than what is ALLOWED to either side."""
        return not self.known or (self.low <= 1 <= self.high and self.high > self.low * ALLOWED**2)

    def __str__(self) -> str:
        interval = f"{_digits(self.low)}, {_digits(self.high)}" if self.known else "?"
        return f"{_digits(self.middle)} [{interval}]{' ~' if self.noisy else ''}"


class Verdict(enum.Enum):
    """What a ratio to the older commit says. The value is the word in the table."""

    DEARER = "dearer"  # the whole interval lies above ALLOWED
    UNCLEAR = "unclear"  # ALLOWED lies within it
    HOLDS = "holds"  # the whole interval lies below
    CHEAPER = "cheaper"  # below 1 even
    UNKNOWN = "not known"  # too few rounds succeeded


def ratio(pairs: Iterable[tuple[float, float]]) -> Ratio | None:
    """The first of each pair to the second; None without a single usable one.

    A cost that is not above zero (a row that measures a difference has such) makes a pair that says
    nothing: it counts as smaller than all others at the lower end and as larger at the upper one.
    """
    known, unknown = [], 0
    for first, second in pairs:
        if first > 0 and second > 0:
            known.append(first / second)
        else:
            unknown += 1
    if not known:
        return None
    lows, highs = sorted([*known, *[0.0] * unknown]), sorted([*known, *[math.inf] * unknown])
    rank = _rank(len(lows))
    middle = statistics.median(known)
    return Ratio(middle, lows[rank - 1], highs[-rank]) if rank else Ratio(middle, 0.0, math.inf)


def _rank(count: int) -> int:
    """Which of `count` ratios, counted from either end, bounds the interval; 0 when they are too few.

    The largest k for which the probability that fewer than k of them lie on one side of the true
    median, for both sides together, is at most 5 %.
    """
    rank, outside = 0, 0
    while True:
        outside += math.comb(count, rank)
        if 2 * outside > (1 - CONFIDENCE) * 2**count:
            return rank
        rank += 1


def verdict(found: Ratio | None) -> Verdict:
    """For the ratio of this checkout to an older commit."""
    if found is None or not found.known:
        return Verdict.UNKNOWN
    if found.low > ALLOWED:
        return Verdict.DEARER
    if found.high > ALLOWED:
        return Verdict.UNCLEAR
    return Verdict.CHEAPER if found.high < 1 else Verdict.HOLDS


def _digits(value: float) -> str:
    return f"{value:.3f}" if value < 2 else f"{value:#.3g}"
