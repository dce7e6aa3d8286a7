"""The record of what a device did or was refused, as it is saved and learned from.

Apart from the recorder, so that whoever reads the store need not have the policy's engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.policy.engine.rules import Action

OVERFLOW = ""
"""The template under which everything beyond the bounds is counted."""


class Passage(StrEnum):
    """Whether what a device did passed, and by what. The values are stored."""

    ALLOWED = "allowed"
    """By a rule."""
    OBSERVED = "observed"
    """Refused by the rules, it passed only because its device was observed. Said of a will, too, which does
    not pass (the device connects without it), for a learned role is to allow it; never of encrypting and
    decrypting."""
    REFUSED = "refused"
    """It did not pass. In a record from before there were passages: it may have been observed."""


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What a device did, or was refused, and how often that was decided."""

    device_id: str
    action: Action
    template: str
    """As `gateway.policy.engine.topic_generalisation` makes it, or `OVERFLOW`."""
    passage: Passage
    count: int
    """Decisions, not messages: one per topic and connection, and one more each
    `decision_recorder.RECORD_AGAIN_SECONDS`."""
    first_at: int
    """Unix seconds, like `last_at`: when it was saved, which is some seconds after it happened."""
    last_at: int
