"""Everything one device may do, rule by rule: `gateway-admin acl show`.

The rules of its roles with the device's id and labels put in. A rule without effect is among them, with the
reason: somebody wrote it and thinks it to be in force.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.mqtt.topics import split_filter
from gateway.policy.analysis.representative_cases import Principal, Witness, Witnesses
from gateway.policy.engine.identity import Device
from gateway.policy.engine.policy import Action, Effect, Policy, Rule
from gateway.policy.engine.service_names import Service


@dataclass(frozen=True, slots=True)
class Right:
    """One rule and what it means for a device."""

    rule: Rule
    topics: str
    """As they are for this device; `{client}` stands for the client id of a connection."""
    void: str
    """Why it has no effect; "" when it has."""


def rights(policy: Policy, device: Device, action: Action) -> tuple[Right, ...]:
    """The rules for this action of the device: allows first, else in the order of its roles."""
    rules = [rule for rule in policy.rules_of(device.roles) if action in rule.actions]
    filters = [split_filter(rule.topic) for rule in rules]
    witnesses = Witnesses([*filters, split_filter(policy.reserved)], policy.limits)
    longest = max((len(levels) for levels, open_end in filters if not open_end), default=0)
    principal = Principal.of(device)
    found = []
    for rule in sorted(rules, key=lambda rule: rule.effect is Effect.DENY):
        meant = principal.filters(rule.topic)
        if not meant:
            missing = next(
                level
                for level in rule.topic.split("/")
                if level[:7] == "{label." and level[7:-1] not in device.labels
            )
            found.append(Right(rule, rule.topic, f"the device has no {missing}"))
        for topics in meant:
            if rule.effect is Effect.ALLOW:
                made = list(witnesses.of(principal, (split_filter(topics),), longest))
                void = _refusal(policy, action, made)
            else:
                void = (
                    "a device chooses its client id, so it stops nobody who would not be stopped"
                    if "{client}" in rule.topic
                    else ""
                )
            found.append(Right(rule, principal.shown(topics), void))
    return tuple(found)


def _refusal(policy: Policy, action: Action, witnesses: list[Witness]) -> str:
    """Why none of these is allowed; "" if one is."""
    refusals = []
    for witness in witnesses:
        if policy.reserves(witness.topic):
            refusals.append("these topics are the gateway's own")
            continue
        decision = policy.rights(witness.identity).decide(action, witness.topic)
        if decision.allowed:
            return ""
        refusals.append(
            f"denied by {decision.rule_location}" if decision.rule else "a role of the device has no file"
        )
    return ", ".join(dict.fromkeys(refusals)) or "no topic of it is within limits.toml"


def services(policy: Policy, device_id: str) -> dict[Action, tuple[str, ...]]:
    """What every device may do with the gateway's services, without a rule."""
    requests = tuple(f"{policy.reserved}/{service}" for service in Service)
    answers = (*(f"{topic}_response" for topic in requests), f"{policy.reserved}/reply/{device_id}/#")
    return {Action.PUBLISH: requests, Action.SUBSCRIBE: answers}
