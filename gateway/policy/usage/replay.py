"""Recorded decisions judged anew: what a different policy would have changed for what devices really did.

Works on templates, as they were recorded, and on the devices as they are now. What is changed for nobody who
came is not found here: that is for `gateway.policy.analysis.diff`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.mqtt.topics import covers, intersection
from gateway.policy.engine.decision_recorder import MORE, UsageRecord
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


class Effect(StrEnum):
    """What becomes of something that was done or tried."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    CONDITIONS = "conditions"
    """Allowed as before, for other messages."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was done or tried, and is decided otherwise by the other policy."""

    record: UsageRecord
    effect: Effect
    before: Decision
    after: Decision


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it."""

    changes: tuple[Change, ...]
    judged: int
    """Usage records, changed or not."""
    unknown: int
    """Usage records of devices, or with labels, that are gone."""
    more: int
    """Decisions that found no room when they were recorded."""
    in_part: tuple[UsageRecord, ...] = ()
    """Many topics in one record, of which different rules meet some: which of them came is not known."""


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


def met(policy: Policy, identity: Identity, one: UsageRecord) -> Iterator[Rule]:
    """The rules, allows and denies, that may have decided something of what was recorded.

    More than one topic may be in it: what many have in common, what found no room, what was called by a
    label that is gone. A label of a rule that this identity lacks may have been there.
    """
    topic = filter_of(one.template, identity)
    for rule in policy.rules_of(identity.roles):
        if one.action in rule.actions and (
            one.template == MORE or intersection(filter_of(rule.topic, identity), topic) is not None
        ):
            yield rule


def conditions(grants: Iterable[Rule]) -> frozenset[Conditions]:
    """What these allow rules ask of a message, each; just `FREE` when one of them asks nothing."""
    asked = frozenset((rule.max_qos, rule.retain, rule.max_payload) for rule in grants)
    return frozenset({FREE}) if FREE in asked else asked


def replay(
    before: Policy, after: Policy, records: Iterable[UsageRecord], devices: Mapping[str, Device]
) -> Replay:
    """Judge what was recorded by both policies. `devices` are those there are."""
    changes: list[Change] = []
    in_part: list[UsageRecord] = []
    judged = unknown = more = 0
    for one in records:
        if one.template == MORE:
            more += one.count
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
            in_part.append(one)
            continue
        # A filter that was granted in part, or topics that came by it: the record does not tell them apart.
        in_parts = any(decision.partly for decision in (*olds, *news))
        as_a_filter = one.action is Action.SUBSCRIBE and (old.allowed or new.allowed) and not in_parts
        if "+" in one.template.split("/") and not as_a_filter:
            rules, others = _deciding(before, identity, one), _deciding(after, identity, one)
            if rules != others and not (_whole(rules, one, identity) and _whole(others, one, identity)):
                in_part.append(one)
                continue
        judged += 1
        effect = effects.pop()
        if effect is not None:
            changes.append(Change(one, effect, old, new))
    return Replay(tuple(changes), judged, unknown, more, tuple(in_part))


def _deciding(policy: Policy, identity: Identity, one: UsageRecord) -> frozenset[Rule]:
    """The rules that say something of it, with their topics as they are for this identity."""
    return frozenset(
        Rule(rule.effect, frozenset({one.action}), topic, rule.max_qos, rule.retain, rule.max_payload)
        for rule in met(policy, identity, one)
        for topic in topics_of(rule.topic, identity)
    )


def _whole(rules: Collection[Rule], one: UsageRecord, identity: Identity) -> bool:
    """Whether these rules say the same of each topic in it."""
    topic = filter_of(one.template, identity)
    wide = [rule for rule in rules if covers(rule.topic, topic)]
    denies = [rule for rule in rules if rule.effect is RuleEffect.DENY]
    if denies:
        return any(rule in wide for rule in denies)
    return len(wide) == len(rules) or any(rule.unconditional for rule in wide)


def _effect(old: Decision, new: Decision) -> Effect | None:
    if old.allowed != new.allowed:
        return Effect.ALLOWED if new.allowed else Effect.REFUSED
    return Effect.CONDITIONS if conditions(old.grants) != conditions(new.grants) else None
