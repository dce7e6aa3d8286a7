"""Bounded reports of one connection: a peer that is refused a thousand times a second costs few lines.

Must not know where reports go.
"""

from __future__ import annotations

from gateway.core.commands import Report

PER_SECOND = 20


class Reports:
    """Collects what is to be told; over the bound it only counts."""

    __slots__ = ("_last", "_left", "_suppressed", "pending")

    def __init__(self) -> None:
        self.pending: list[Report] = []
        self._left = PER_SECOND
        self._suppressed = 0
        self._last: Report | None = None

    def add(self, report: Report) -> None:
        """Tell this, or count it if there was too much to tell in this second."""
        if self._left:
            self._left -= 1
            self.pending.append(report)
        else:
            self._suppressed += 1
            self._last = report

    def tick(self) -> None:
        """A second went by: tell how many were not told."""
        self._left = PER_SECOND
        if self._last is not None:
            why = "more of these than are reported one by one"
            self.pending.append(Report(self._last.kind, self._last.outcome, why, count=self._suppressed))
            self._suppressed, self._last = 0, None
