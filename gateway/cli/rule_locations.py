"""Where a rule is, as it is shown everywhere: `acl/roles/sensor.toml:12`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.policy.engine.rules import Rule


def location(rule: Rule) -> str:
    """The file and the line of the rule."""
    return f"{Path(rule.file)}:{rule.line}"


def location_if_any(rule: Rule | None) -> str | None:
    """The same for what may be no rule."""
    return None if rule is None else location(rule)
