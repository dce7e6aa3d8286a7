"""What a rule of alerts is. Which there are is for `shipped_rules` and monitoring.toml to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.alerts.conditions import Condition
from gateway.alerts.device_readings import NAMES


class Severity(StrEnum):
    """How much it matters, the least first."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """The greater, the graver."""
        return tuple(Severity).index(self)

    def reaches(self, least: Severity) -> bool:
        """Whether it is at least as grave as `least`."""
        return self.rank >= least.rank


@dataclass(frozen=True, slots=True)
class Rule:
    """When somebody is to be told, and what."""

    name: str
    condition: Condition
    duration: int
    """Seconds for which the condition has to hold first."""
    severity: Severity
    summary: str
    """One sentence for whoever gets it."""

    @property
    def looks(self) -> int:
        """Rounds between two looks: what is asked of each device costs as much as there are devices."""
        return 3 if NAMES & self.condition.names else 1
