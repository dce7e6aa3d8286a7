"""Recorded decisions judged anew: what a different policy would have changed for what devices really did.

Works on templates, as they were recorded, and on the devices as they are now. A change that
affects nothing recorded is not found here: `gateway.policy.analysis.diff` finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.mqtt.topics import covers, intersection
from gateway.policy.engine.decision_recorder import OVERFLOW, UsageRecord
from gateway.policy.engine.identity import Device, Identity
from gateway.policy.engine.policy import Policy
from gateway.policy.engine.rules import Action, Decision, Rule
from gateway.policy.engine.rules import Effect as RuleEffect
from gateway.policy.engine.topic_generalisation import filter_of, topics_of

_CLIENT = "any-client-id"
"""For `{client}`, which is recorded only where a rule says it."""
_VALUE = "any-value"
"""For a `+` in a topic that was published to: many values were seen there."""

Conditions = tuple[int, bool, int | None]
"""`max_qos`, `retain`, `max_payload` of a rule."""
FREE: Conditions = (2, True, None)
"""No condition: every message passes."""


class Effect(StrEnum):
    """What becomes of something that was done or tried."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    CONDITIONS = "conditions"
    """Allowed as before, under different conditions on QoS, retain or size."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was done or tried, and is decided otherwise by the other policy."""

    record: UsageRecord
    effect: Effect
    before: Decision
    after: Decision


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found."""

    changes: tuple[Change, ...]
    judged: int
    """Usage records, changed or not."""
    unknown: int
    """Usage records of devices, or with labels, that are gone."""
    overflow: int
    """Decisions beyond the recorder's bound, counted without their topic."""
    mixed: tuple[UsageRecord, ...] = ()
    """Records of many topics each, of which different rules overlap some: which of them came is not known."""


def as_identity(device: Device, *roles: str) -> Identity:
    """A device as it is stored, with other roles if some are given."""
    return Identity(device.device_id, roles or device.roles, device.labels, _CLIENT)


def decisions_on(policy: Policy, identity: Identity, action: Action, template: str) -> list[Decision]:
    """The decisions on what was recorded, one for each value of its label; none where it means nothing."""
    access = policy.rights(identity)
    topics = topics_of(template, identity)
    if action is Action.SUBSCRIBE:
        return [access.decide_filter(topic) for topic in topics]
    plain = ("/".join([_VALUE if level == "+" else level for level in topic.split("/")]) for topic in topics)
    return [access.decide(action, topic) for topic in plain]


def decision_on(policy: Policy, identity: Identity, action: Action, template: str) -> Decision | None:
    """The decision on what was recorded.

    None when the template means nothing for this identity, or a label has several values and it is not the
    same for each: which of them came is not known.
    """
    found = decisions_on(policy, identity, action, template)
    return found[0] if found and all(one == found[0] for one in found) else None


def overlapping_rules(policy: Policy, identity: Identity, one: UsageRecord) -> Iterator[Rule]:
    """The rules, allows and denies, that may have decided something of what was recorded.

    More than one topic may be in the record: a template with a `+`, the overflow, or a label that is gone. A
    label of a rule that this identity lacks now may have been there.
    """
    topic = filter_of(one.template, identity)
    for rule in policy.rules_of(identity.roles):
        if one.action in rule.actions and (
            one.template == OVERFLOW or intersection(filter_of(rule.topic, identity), topic) is not None
        ):
            yield rule


def conditions(rules: Iterable[Rule]) -> frozenset[Conditions]:
    """What these allow rules ask of a message, each; just `FREE` when one of them asks nothing."""
    asked = frozenset((rule.max_qos, rule.retain, rule.max_payload) for rule in rules)
    return frozenset({FREE}) if FREE in asked else asked


def replay(
    before: Policy, after: Policy, records: Iterable[UsageRecord], devices: Mapping[str, Device]
) -> Replay:
    """Judge what was recorded by both policies. `devices` are those there are."""
    changes: list[Change] = []
    mixed: list[UsageRecord] = []
    judged = unknown = overflow = 0
    for one in records:
        if one.template == OVERFLOW:
            overflow += one.count
            continue
        device = devices.get(one.device_id)
        identity = as_identity(device) if device else None
        olds = decisions_on(before, identity, one.action, one.template) if identity else []
        news = decisions_on(after, identity, one.action, one.template) if identity else []
        if identity is None or not olds:
            unknown += 1
            continue
        old, new = olds[0], news[0]
        effects = {_effect(*pair) for pair in zip(olds, news, strict=True)}
        if len(effects) > 1:
            mixed.append(one)
            continue
        # A filter that was granted for a part of it, or topics that came by it: the record does not tell.
        is_partial = any(decision.is_partial for decision in (*olds, *news))
        as_a_filter = one.action is Action.SUBSCRIBE and (old.allowed or new.allowed) and not is_partial
        if "+" in one.template.split("/") and not as_a_filter:
            rules_before = _deciding(before, identity, one)
            rules_after = _deciding(after, identity, one)
            if rules_before != rules_after and not (
                _decide_alike(rules_before, one, identity) and _decide_alike(rules_after, one, identity)
            ):
                mixed.append(one)
                continue
        judged += 1
        effect = effects.pop()
        if effect is not None:
            changes.append(Change(one, effect, old, new))
    return Replay(tuple(changes), judged, unknown, overflow, tuple(mixed))


def _deciding(policy: Policy, identity: Identity, one: UsageRecord) -> frozenset[Rule]:
    """The rules that overlap the record, with their topics as they are for this identity."""
    return frozenset(
        Rule(rule.effect, frozenset({one.action}), topic, rule.max_qos, rule.retain, rule.max_payload)
        for rule in overlapping_rules(policy, identity, one)
        for topic in topics_of(rule.topic, identity)
    )


def _decide_alike(rules: Collection[Rule], one: UsageRecord, identity: Identity) -> bool:
    """Whether these rules decide alike on each topic of the record."""
    topic = filter_of(one.template, identity)
    covering = [rule for rule in rules if covers(rule.topic, topic)]
    denies = [rule for rule in rules if rule.effect is RuleEffect.DENY]
    if denies:
        return any(rule in covering for rule in denies)
    return len(covering) == len(rules) or any(rule.unconditional for rule in covering)


def _effect(old: Decision, new: Decision) -> Effect | None:
    if old.allowed != new.allowed:
        return Effect.ALLOWED if new.allowed else Effect.REFUSED
    return Effect.CONDITIONS if conditions(old.allow_rules) != conditions(new.allow_rules) else None
