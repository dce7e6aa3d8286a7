"""Rights that nobody used: allow rules that no recorded usage needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.policy.engine.identity import Device
from gateway.policy.engine.policy import Action, Effect, Policy, Rule
from gateway.policy.engine.rules import Decision
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.policy.usage.replay import as_identity, decision_on, overlapping_rules


@dataclass(frozen=True, slots=True)
class Unused:
    """A rule, and which of its actions nobody used."""

    rule: Rule
    actions: tuple[Action, ...]
    without_device: bool
    """No device has its role."""


def unused(
    policy: Policy, records: Iterable[UsageRecord], devices: Mapping[str, Device]
) -> tuple[Unused, ...]:
    """The allow rules with an action that no recorded usage of these devices needed, in file order.

    A rule that admits a use counts as needed even if a different one admits it, too. If the record doesn't
    say which rule admitted a use, all that may have done so count as needed. What passed only because its
    device was observed needs the rules that allow it now: they were made for it since then.
    """
    used: set[tuple[int, Action]] = set()
    for one in records:
        device = devices.get(one.device_id)
        if one.passage is not Passage.REFUSED and device is not None:
            used |= {(id(rule), one.action) for rule in _rules_needed(policy, device, one)}
    used_roles = {role for device in devices.values() for role in policy.expanded(device.roles)}
    return tuple(
        Unused(rule, tuple(idle), rule.role not in used_roles)
        for role in policy.roles.values()
        for rule in role.rules
        if rule.effect is Effect.ALLOW
        and (
            idle := [action for action in Action if action in rule.actions and (id(rule), action) not in used]
        )
    )


def _rules_needed(policy: Policy, device: Device, one: UsageRecord) -> Iterable[Rule]:
    decision = (
        None
        if one.template == OVERFLOW
        else decision_on(policy, as_identity(device), one.action, one.template)
    )
    if decision is not None and not decision.allowed and one.passage is Passage.OBSERVED:
        return ()  # no rule admitted it then, and none does today
    if decision is not None and decision.is_partial and "+" not in one.template.split("/"):
        return ()  # a wide filter needs no rule of its own: the topics delivered have their own records
    if decision is not None and ("+" not in one.template.split("/") or _is_covered(decision, one)):
        return decision.allow_rules
    # With a `+` in the template, the overflow, or a label that is gone, it is no longer known which topic
    # needed which rule.
    return overlapping_rules(policy, as_identity(device), one)


def _is_covered(decision: Decision, one: UsageRecord) -> bool:
    return one.action is Action.SUBSCRIBE and decision.allowed and not decision.is_partial
