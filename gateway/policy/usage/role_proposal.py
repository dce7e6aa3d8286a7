"""What `gateway.policy.usage.role_learner` proposes: the rules of a role, with the evidence for each.

`gateway.policy.usage.role_writer` writes it down. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.policy.engine.decision_recorder import UsageRecord
from gateway.policy.engine.policy import Action, Effect, Role, Rule
from gateway.policy.engine.rules import OnWideSubscribe
from gateway.policy.usage.replay import Conditions

LEARNED_ROLE = "learned"
"""The name of a proposed role until somebody saves it under another."""


@dataclass(slots=True)
class Evidence:
    """How often something was decided, when, and for which devices."""

    count: int = 0
    first_at: int = 0
    """Unix seconds, as for `last_at`."""
    last_at: int = 0
    devices: set[str] = field(default_factory=set)
    templates: set[str] = field(default_factory=set)
    """The templates that were generalised to the one that this is the evidence for."""

    def add(self, other: Evidence) -> None:
        """Count the other evidence too."""
        self.first_at = min(self.first_at, other.first_at) if self.count else other.first_at
        self.last_at = max(self.last_at, other.last_at)
        self.count += other.count
        self.devices |= other.devices
        self.templates |= other.templates


EvidenceByTemplate = dict[str, Evidence]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a role would have to say, and what it was made of."""

    devices: tuple[str, ...]
    """Ids of the devices with a record."""
    allows: Mapping[tuple[Action, Conditions], EvidenceByTemplate]
    denies: tuple[Rule, ...]
    """Taken over from today's roles."""
    refused: Mapping[Action, EvidenceByTemplate]
    """What was refused, and is not allowed by this role."""
    barred: Mapping[Action, EvidenceByTemplate]
    """The part of `refused` that should not be allowed either: a deny of today overlaps it, it begins with a
    `$`, or no rule can name it."""
    sometimes_refused: Mapping[Action, EvidenceByTemplate]
    """The same device was refused and allowed the same template: because of QoS, retain or size, or because
    the rules changed in between."""
    unwritable: Mapping[Action, EvidenceByTemplate]
    """Allowed, but no rule can name it: it has a brace in a level."""
    by_other_roles: int
    """Decisions that were allowed by other roles of these devices."""
    overflow: int
    """Decisions beyond the recorder's bound, counted without their topic."""
    newly_refused: tuple[UsageRecord, ...] = ()
    """Allowed when it was recorded, and refused by this role: a deny was made since then, or of a wide filter
    nothing was delivered that this role could allow."""
    newly_allowed: tuple[UsageRecord, ...] = ()
    """Refused when it was recorded, and allowed by this role."""
    without_rule: tuple[UsageRecord, ...] = ()
    """Allowed when it was recorded, and no rule of today overlaps it."""
    proposed_in_part: tuple[UsageRecord, ...] = ()
    """Records with a `+` that no rule of today covers: the parts that rules allow are proposed, used or
    not."""
    on_wide_subscribe: OnWideSubscribe = OnWideSubscribe.COVER
    """`FILTER` where a wide filter was granted for a part of it, or may have been: this setting, and a rule
    for what is delivered, is all that it needs."""

    def role(self) -> Role:
        """The proposed role, as the policy reads it."""
        rules = [
            Rule(Effect.ALLOW, frozenset({action}), topic, *conditions)
            for (action, conditions), topics in self.allows.items()
            for topic in topics
        ]
        return Role(LEARNED_ROLE, "", (*rules, *self.denies), subscribe=self.on_wide_subscribe)
