"""Bounded reports of one connection: a peer that is refused thousands of times a second costs bounded memory.

Reports above the bound are counted by kind, and the numbers are reported with the next second, or at the end
of the connection. Must not know where reports go: a second bound, over all connections of a device or of
strangers, is `gateway.observe.audit_rate_limit`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from gateway.connection.audit_vocabulary import Kind, Outcome, Report, left_out
from gateway.connection.process_context import EMPTY_SET

PER_SECOND = 500
"""Reports of one second that are made one by one, of all kinds together."""
FIRST_OF_A_KIND = 10
"""Reports of each kind that are made in a second, however many there are of other kinds."""
ROOTS = 20
"""Pairs of deciding rule and first topic level whose first report in a second is always made."""
TOPIC_MAX = 1_024
"""Characters of a topic that are shown. A longer one is cut, and ends in an ellipsis."""


class Reports:
    """Collects what is to be reported; above the bound it only counts."""

    __slots__ = ("_left_out", "_made", "_roots", "pending")

    def __init__(self) -> None:
        self.pending: list[Report] = []
        # Made when they are needed: most connections are never refused anything.
        self._made: Counter[Kind] | None = None
        """Reports made in this second, by kind."""
        self._roots: frozenset[tuple[str, str]] = EMPTY_SET
        self._left_out: Counter[tuple[Kind, Outcome]] | None = None
        """Reports only counted in this second, by kind and outcome."""

    def add(self, report: Report) -> None:
        """Report this, or only count it if there were too many in this second."""
        made = self._made
        if made is None:
            made = self._made = Counter()
        first = self._is_first(report) or made[report.kind] < FIRST_OF_A_KIND
        if not first and made.total() >= PER_SECOND:
            if self._left_out is None:
                self._left_out = Counter()
            self._left_out[report.kind, report.outcome] += 1
            return
        made[report.kind] += 1
        if len(report.topic) > TOPIC_MAX:
            report = replace(report, topic=f"{report.topic[:TOPIC_MAX]}…")
        self.pending.append(report)

    def _is_first(self, report: Report) -> bool:
        """Whether its pair of rule and first topic level is one of the first `ROOTS` of this second."""
        root = report.rule, report.topic[:TOPIC_MAX].partition("/")[0]
        if root in self._roots or len(self._roots) >= ROOTS:
            return False
        self._roots |= {root}
        return True

    def tick(self) -> None:
        """A second has passed, or the connection ends: report how many were only counted."""
        if self._made is not None:
            self._made = None
            self._roots = EMPTY_SET
        if self._left_out is not None:
            self.pending += [left_out(*what, count) for what, count in self._left_out.items()]
            self._left_out = None
