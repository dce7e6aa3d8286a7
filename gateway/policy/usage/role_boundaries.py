"""What a proposed role must not allow: which denies of today it takes over, and what it gets no rule for.

Knows nothing of how a role is learned. Denies are those of the policy in force.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from gateway.mqtt.topics import intersection
from gateway.policy.engine.placeholders import can_be_written
from gateway.policy.engine.policy import Action, Effect, Policy, Rule


def denies_to_keep(
    policy: Policy, allowed: Iterable[tuple[Collection[str], Action, Collection[str]]]
) -> tuple[Rule, ...]:
    """The denies that overlap something that the proposal allows, for just these actions.

    `allowed` gives topics, and the roles whose denies are kept for them.
    """
    allowed = list(allowed)
    found = []
    for rule in policy.rules_of(sorted({name for roles, _, _ in allowed for name in roles})):
        if rule.effect is not Effect.DENY:
            continue
        denied = _for_anybody(rule.topic)
        overlaps = {
            action
            for roles, action, topics in allowed
            if rule.role in roles
            and action in rule.actions
            and any(intersection(denied, _for_anybody(topic)) is not None for topic in topics)
        }
        if overlaps:
            found.append(replace(rule, actions=frozenset(overlaps)))
    return tuple(found)


def is_barred(policy: Policy, action: Action, topic: str, denies: Iterable[Rule]) -> bool:
    """Whether not even a commented-out rule is proposed: a deny overlaps it, or no rule may name it."""
    # Topics with a $ are the bus's own, with its administration among them: such a rule has to be written by
    # a person.
    if topic[:1] == "$" or not can_be_written(topic) or policy.reserves(topic):
        return True
    for_anybody = _for_anybody(topic)
    return any(
        action in rule.actions and intersection(_for_anybody(rule.topic), for_anybody) is not None
        for rule in denies
    )


def _for_anybody(template: str) -> str:
    """A filter of all topics that the template may stand for, whatever the device."""
    return "/".join(["+" if level[:1] == "{" else level for level in template.split("/")])
