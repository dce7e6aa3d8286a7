"""Everything one device may do, rule by rule: `gateway-admin acl show`.

These are the rules of its roles with the device's id and labels filled in. A rule that has no effect is shown
with the reason, for whoever wrote it believes that it has one.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.mqtt.topics import split_filter
from gateway.policy.analysis.representative_cases import RepresentativeCase, RepresentativeCases, RightsHolder
from gateway.policy.engine.identity import Device
from gateway.policy.engine.policy import Action, Effect, Policy, Rule
from gateway.policy.engine.service_names import Service


@dataclass(frozen=True, slots=True)
class Right:
    """One rule and what it means for a device."""

    rule: Rule
    topics: str
    """Its filter with the device's id and labels filled in; `{client}` stays."""
    ineffective_because: str
    """Why it has no effect; "" if it has one."""


def rights(policy: Policy, device: Device, action: Action) -> tuple[Right, ...]:
    """The device's rules for this action: the allows, then the denies, each in the order of its roles."""
    rules = [rule for rule in policy.rules_of(device.roles) if action in rule.actions]
    filters = [split_filter(rule.topic) for rule in rules]
    cases = RepresentativeCases([*filters, split_filter(policy.reserved)], policy.limits)
    longest = max((len(levels) for levels, open_end in filters if not open_end), default=0)
    holder = RightsHolder.of(device)
    found = []
    for rule in sorted(rules, key=lambda rule: rule.effect is Effect.DENY):
        filled_in = holder.filters(rule.topic)
        if not filled_in:
            missing = next(
                level
                for level in rule.topic.split("/")
                if level[:7] == "{label." and level[7:-1] not in device.labels
            )
            found.append(Right(rule, rule.topic, f"the device has no {missing}"))
        for topics in filled_in:
            if rule.effect is Effect.ALLOW:
                made = list(cases.of(holder, (split_filter(topics),), longest))
                ineffective_because = _refusal(policy, action, made)
            else:
                ineffective_because = (
                    "a device chooses its client id, so it stops nobody who would not be stopped"
                    if "{client}" in rule.topic
                    else ""
                )
            found.append(Right(rule, holder.shown(topics), ineffective_because))
    return tuple(found)


def _refusal(policy: Policy, action: Action, cases: list[RepresentativeCase]) -> str:
    """Why none of these cases is allowed; "" if one is."""
    refusals = []
    for case in cases:
        if policy.reserves(case.topic):
            refusals.append("these topics are the gateway's own")
            continue
        decision = policy.rights(case.identity).decide(action, case.topic)
        if decision.allowed:
            return ""
        refusals.append(
            f"denied by {decision.rule_location}" if decision.rule else "a role of the device has no file"
        )
    return ", ".join(dict.fromkeys(refusals)) or "no topic of it is within limits.toml"


def services(policy: Policy, device_id: str) -> dict[Action, tuple[str, ...]]:
    """By action, the topics of the gateway's services, which every device may use without a rule."""
    requests = tuple(f"{policy.reserved}/{service}" for service in Service)
    answers = (*(f"{topic}_response" for topic in requests), f"{policy.reserved}/reply/{device_id}/#")
    return {Action.PUBLISH: requests, Action.SUBSCRIBE: answers}
