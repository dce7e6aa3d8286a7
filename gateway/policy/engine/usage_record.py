"""The record of what a device did or was refused, as it is saved and learned from.

Apart from the recorder, so that whoever reads the store need not have the policy's engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.policy.engine.rules import Action

OVERFLOW = ""
"""The template under which everything beyond the bounds is counted."""


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What a device did, or was refused, and how often that was decided."""

    device_id: str
    action: Action
    template: str
    """As `gateway.policy.engine.topic_generalisation` makes it, or `OVERFLOW`."""
    allowed: bool
    count: int
    """Decisions, not messages: one per topic and connection, and one more each
    `decision_recorder.RECORD_AGAIN_SECONDS`."""
    first_at: int
    """Unix seconds, like `last_at`: when it was saved, which is some seconds after it happened."""
    last_at: int
