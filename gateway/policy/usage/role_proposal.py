"""What `gateway.policy.usage.role_learner` proposes: the rules of a role, each with the usage it comes from.

`gateway.policy.usage.role_writer` turns it into a file. Plain values, which decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.policy.engine.policy import Action, Effect, Role, Rule
from gateway.policy.engine.rules import OnDeniedWill, OnWideSubscribe
from gateway.policy.engine.usage_record import UsageRecord
from gateway.policy.usage.replay import Conditions

LEARNED_ROLE = "learned"
"""The name of a proposed role until somebody saves it under a different one."""


@dataclass(slots=True)
class UsageSummary:
    """The usage records that a line of a proposal comes from, added up."""

    count: int = 0
    """Decisions, as in `UsageRecord.count`."""
    first_at: int = 0
    """Unix seconds, like `last_at`."""
    last_at: int = 0
    devices: set[str] = field(default_factory=set)
    """Their ids."""
    templates: set[str] = field(default_factory=set)
    """The templates of the records, which the line may have generalised."""

    def add(self, other: UsageSummary) -> None:
        """Add the other summary to this one."""
        self.first_at = min(self.first_at, other.first_at) if self.count else other.first_at
        self.last_at = max(self.last_at, other.last_at)
        self.count += other.count
        self.devices |= other.devices
        self.templates |= other.templates


SummaryByTemplate = dict[str, UsageSummary]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a role would have to say, and the usage that this comes from."""

    devices: tuple[str, ...]
    """Ids of the devices that have a usage record."""
    allows: Mapping[tuple[Action, Conditions], SummaryByTemplate]
    observed: Mapping[Action, SummaryByTemplate]
    """What the role allows, too, without conditions: it passed only because its device was observed. Nobody
    has said yes to it so far, so whoever reads the proposal has to."""
    denies: tuple[Rule, ...]
    """Taken over from today's roles."""
    refused: Mapping[Action, SummaryByTemplate]
    """What was refused, and is not allowed by this role."""
    barred: Mapping[Action, SummaryByTemplate]
    """The part of `refused` that gets not even a commented-out rule: a deny of today overlaps it, it begins
    with a `$` or is the gateway's own, or no rule can name it. Some of it passed, observed."""
    sometimes_refused: Mapping[Action, SummaryByTemplate]
    """The same device was refused the same template, and it passed: because of QoS, retain flag or size, or
    because the rules changed in between, or the time for which it was observed was over."""
    unwritable: Mapping[Action, SummaryByTemplate]
    """What passed, but no rule can name: a level contains a brace, or it would name a group of topics."""
    by_other_roles: int
    """Decisions left out because other roles of these devices allow them."""
    overflow: int
    """Decisions beyond the recorder's bounds, which were counted without their topics."""
    newly_refused: tuple[UsageRecord, ...] = ()
    """What passed when it was recorded, and this role refuses: a deny was added since then, or it is a
    wide filter for which nothing was delivered that this role could allow."""
    newly_allowed: tuple[UsageRecord, ...] = ()
    """What was refused when it was recorded, and this role allows."""
    without_rule: tuple[UsageRecord, ...] = ()
    """What was allowed when it was recorded, though no rule of today overlaps it."""
    proposed_in_part: tuple[UsageRecord, ...] = ()
    """Records with a `+` that no rule of today covers. Of these the role allows the parts that today's rules
    allow, whether they were used or not."""
    on_wide_subscribe: OnWideSubscribe = OnWideSubscribe.COVER
    """`FILTER` if a wide filter was, or may have been, granted in part. The role then needs no rule that
    covers that filter, only rules for what is delivered."""
    drops_wills: bool = False
    """Whether a role that this is learned from says `will = "drop"`. A setting goes on by itself."""

    @property
    def has_rules(self) -> bool:
        """Whether it allows anything: a file without a rule is no role."""
        return bool(self.allows or self.observed)

    def role(self) -> Role:
        """The proposal as a role, to put into a `Policy`."""
        rules = [
            Rule(Effect.ALLOW, frozenset({action}), topic, *conditions)
            for (action, conditions), topics in self.allows.items()
            for topic in topics
        ]
        rules += [
            Rule(Effect.ALLOW, frozenset({action}), topic)
            for action, topics in self.observed.items()
            for topic in topics
        ]
        will = OnDeniedWill.DROP if self.drops_wills else None
        return Role(LEARNED_ROLE, "", (*rules, *self.denies), will=will, subscribe=self.on_wide_subscribe)
