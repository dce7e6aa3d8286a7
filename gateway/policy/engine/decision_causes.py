"""What caused a decision, as one word for metrics: `Decision.reason` is a sentence, perhaps with numbers."""

from __future__ import annotations

from enum import StrEnum, auto

from gateway.policy.engine.policy import (
    MISSING_ROLE,
    NO_ROLE,
    NO_RULE,
    NOT_IN_TOKEN,
    RESERVED,
    SERVICE,
)
from gateway.policy.engine.rules import Decision, Effect


class Cause(StrEnum):
    """What caused the decision."""

    RULE = auto()
    """A rule allows it, or a rule denies it."""
    NO_RULE = auto()
    """No rule matches."""
    NO_ROLE = auto()
    """The device has no role, or one that no file describes."""
    TOKEN = auto()
    """The token allows less than the rules."""
    RESERVED = auto()
    """The topic is the gateway's own."""
    MESSAGE = auto()
    """The rule allows the topic, and not this message: its QoS, size or retain flag."""
    OTHER = auto()
    """The topic is invalid or beyond the limits."""


# By `id()`: each of these decisions is one object, made once for the process.
_CAUSES = {
    id(RESERVED): Cause.RESERVED,
    id(SERVICE): Cause.RESERVED,
    id(NO_ROLE): Cause.NO_ROLE,
    id(MISSING_ROLE): Cause.NO_ROLE,
    **{id(one): Cause.NO_RULE for one in NO_RULE.values()},
    **{id(one): Cause.TOKEN for one in NOT_IN_TOKEN.values()},
}


def cause_of(decision: Decision) -> Cause:
    """What caused this decision."""
    cause = _CAUSES.get(id(decision))
    if cause is not None:
        return cause
    if decision.rule is None:
        return Cause.OTHER
    denied_by_allow = not decision.allowed and decision.rule.effect is Effect.ALLOW
    return Cause.MESSAGE if denied_by_allow else Cause.RULE
