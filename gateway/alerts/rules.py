"""What a rule of alerts is. The rules themselves come from `shipped_rules` and monitoring.toml."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.alerts.conditions import Condition
from gateway.alerts.device_readings import NAMES


class Severity(StrEnum):
    """How grave an alert is, the least grave first."""

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
    """When people are notified, and of what."""

    name: str
    condition: Condition
    duration: int
    """Seconds for which the condition has to hold first."""
    severity: Severity
    summary: str
    """One sentence for whoever gets it."""

    @property
    def looks(self) -> int:
        """Rounds from one evaluation to the next: a rule on single devices costs more the more there are."""
        return 3 if NAMES & self.condition.names else 1
