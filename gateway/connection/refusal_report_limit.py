"""Bounded reports of one connection: a peer that is refused thousands of times a second costs bounded memory.

What is over the bound is counted by kind and reported with the next second, or with the end of the
connection. Must not know where reports go: how much of them is written down for one device or for strangers
is decided there, over all connections.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from gateway.connection.audit_vocabulary import Kind, Outcome, Report, left_out
from gateway.connection.process_context import NONE

PER_SECOND = 500
"""Reports made one by one, of all kinds together."""
FIRST = 10
"""Of each kind, whatever there was of other kinds."""
ROOTS = 20
"""Different pairs of deciding rule and first topic level, reported whatever there was before."""
TOPIC_MAX = 1_024
"""Characters of a topic that are shown. A longer one is cut, and ends in an ellipsis."""


class Reports:
    """Collects what is to be reported; over the bound it only counts."""

    __slots__ = ("_left_out", "_made", "_roots", "pending")

    def __init__(self) -> None:
        self.pending: list[Report] = []
        # Made when they are needed: most connections never are refused anything.
        self._made: Counter[Kind] | None = None
        """In this second, by kind."""
        self._roots: frozenset[tuple[str, str]] = NONE
        self._left_out: Counter[tuple[Kind, Outcome]] | None = None
        """By kind and outcome, of which there are only a few."""

    def add(self, report: Report) -> None:
        """Report this, or count it if there was too much in this second."""
        made = self._made
        if made is None:
            made = self._made = Counter()
        first = self._is_first(report) or made[report.kind] < FIRST
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
        """Whether its rule or first topic level is new in this second, as far as is kept."""
        root = report.rule, report.topic[:TOPIC_MAX].partition("/")[0]
        if root in self._roots or len(self._roots) >= ROOTS:
            return False
        self._roots |= {root}
        return True

    def tick(self) -> None:
        """A second went by, or nothing more will come: report how many got none."""
        if self._made is not None:
            self._made = None
            self._roots = NONE
        if self._left_out is not None:
            self.pending += [left_out(*what, count) for what, count in self._left_out.items()]
            self._left_out = None
