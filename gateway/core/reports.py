"""Bounded reports of one connection: a peer that is refused a thousand times a second costs few lines.

Must not know where reports go.
"""

from __future__ import annotations

from gateway.core.commands import Report

PER_SECOND = 20


class Reports:
    """Collects what is to be told; over the bound it only counts."""

    __slots__ = ("_left", "_suppressed", "pending")

    def __init__(self) -> None:
        self.pending: list[Report] = []
        self._left = PER_SECOND
        self._suppressed = 0

    def add(self, report: Report) -> None:
        """Tell this, or count it if there was too much to tell in this second."""
        if self._left:
            self._left -= 1
            self.pending.append(report)
        else:
            self._suppressed += 1

    def tick(self) -> None:
        """A second went by: tell how many were not told."""
        self._left = PER_SECOND
        if self._suppressed:
            self.pending.append(
                Report(
                    "publish", "refused", "more refusals than are reported one by one", count=self._suppressed
                )
            )
            self._suppressed = 0
