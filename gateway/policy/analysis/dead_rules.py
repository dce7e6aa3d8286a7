"""Rules without effect, each with a remedy: `gateway-admin acl check`.

They can never match, or change nothing if they do. They are warnings, not problems: the policy can be put in
force, but denies what its author thinks is allowed. This knows only the devices that exist now; adding one
may make a warning obsolete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.mqtt.topics import covers, split_filter
from gateway.policy.analysis.representative_cases import RepresentativeCases, RightsHolder
from gateway.policy.engine.identity import Device
from gateway.policy.engine.policy import Effect, Policy, Role, Rule

_LABEL = "{label."


@dataclass(frozen=True, slots=True)
class PolicyWarning:
    """One rule (or limit, group, sensitive topic) without effect, and why it has none."""

    location: str
    """`file:line`; of a sensitive topic the name of its file."""
    topics: str
    text: str

    def __str__(self) -> str:
        return f'{self.location}: "{self.topics}" {self.text}'


def warnings(policy: Policy, devices: Sequence[Device] | None) -> tuple[PolicyWarning, ...]:
    """What has no effect, by role and line. `devices`: all that exist; None if there is no store to ask."""
    found = [
        PolicyWarning(f"{rule.file}:{rule.line}", rule.topic, text)
        for role in policy.roles.values()
        for rule in role.rules
        for text in _of_rule(policy, role, rule, devices)
    ]
    found += [*_of_limits(policy), *_of_groups(policy)]
    own = _own(policy)
    found += [
        PolicyWarning("encryption.toml", topics, f"can never match: {own}")
        for topics in policy.sensitive_filters
        if covers(f"{policy.reserved}/#", topics)
    ]
    return tuple(found)


def _of_limits(policy: Policy) -> Iterator[PolicyWarning]:
    """Limits of roles that exceed those of limits.toml, which apply instead."""
    for role in policy.roles.values():
        for key, value in role.limits.items():
            most = getattr(policy.limits, key)
            if value > most:
                text = f"is above {key} = {most} in limits.toml, which counts. Lower it, or raise that one"
                yield PolicyWarning(role.locations.get(key, role.name), f"{key} = {value}", text)


def _of_groups(policy: Policy) -> Iterator[PolicyWarning]:
    used = {rule.group for role in policy.roles.values() for rule in role.rules}
    for name in policy.groups:
        if name not in used:
            yield PolicyWarning("topics.toml", f"@{name}", "is used by no rule. Remove it, or name it in one")


def own_prefix(policy: Policy) -> str:
    """What to do about rules for topics at or below the service prefix, as a part of a sentence."""
    return (
        f'if devices use topics at or below "{policy.reserved}/" for something else, set '
        "SERVICE_TOPIC_PREFIX to a name that nobody uses"
    )


def _own(policy: Policy) -> str:
    return f"these topics are the gateway's own. Remove it, or, {own_prefix(policy)}"


def _of_rule(policy: Policy, role: Role, rule: Rule, devices: Sequence[Device] | None) -> Iterator[str]:
    """Why the rule has no effect: at most one reason, the first that is found."""
    if covers(f"{policy.reserved}/#", rule.topic):
        yield f"can never match: {_own(policy)}"
        return
    split = split_filter(rule.topic)
    if (
        next(RepresentativeCases([split], policy.limits).of(RightsHolder((role.name,)), (split,), 0), None)
        is None
    ):
        yield (
            "can never match: even with names of one letter for its placeholders it has more levels or bytes "
            "than limits.toml allows a topic. Shorten it, or raise topic_levels or topic_length there"
        )
        return
    if devices is not None and (text := _without_label(policy, role, rule, devices)):
        yield text
        return
    if rule.effect is Effect.ALLOW and (deny := _denied_by(policy, role, rule)):
        yield (
            f"gives nothing: {deny.file}:{deny.line} denies all of it, and a deny beats every allow. Remove "
            "one of the two"
        )


def _without_label(policy: Policy, role: Role, rule: Rule, devices: Sequence[Device]) -> str:
    """The warning for a rule if no device has all of its labels; else empty."""
    labels = {level[len(_LABEL) : -1]: None for level in rule.topic.split("/") if level.startswith(_LABEL)}
    if not labels:
        return ""
    holders = [device for device in devices if role.name in policy.expanded(device.roles)]
    # If no device has the role yet, warn only if no device at all has the labels.
    asked = holders or devices
    if any(labels.keys() <= device.labels.keys() for device in asked):
        return ""
    lacking = [name for name in labels if not any(name in device.labels for device in asked)] or [*labels]
    who = f'no device with the role "{role.name}" has' if holders else "no device has"
    named = " and ".join(f'the label "{name}"' for name in lacking)
    given = " ".join(f"--label {name}=VALUE" for name in labels)
    return f"matches nothing: {who} {named}. A device gets it by `gateway-admin device set ID {given}`"


def _denied_by(policy: Policy, role: Role, rule: Rule) -> Rule | None:
    """A deny, of the same role or one that it includes, that covers all that this allow gives."""
    return next(
        (
            other
            for other in policy.rules_of([role.name])
            if other.effect is Effect.DENY
            and rule.actions <= other.actions
            and covers(other.topic, rule.topic)
        ),
        None,
    )
