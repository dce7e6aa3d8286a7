"""Decides again on recorded usage: what a different policy would have changed for what devices really did.

Works on the recorded templates, and on the devices as they are now. A change that affects no recorded usage
is found by `gateway.policy.analysis.diff` alone.

That a device is or was observed has no part in it: both policies decide by their rules. So what passed only
because of it is newly allowed by the policy that has a rule for it, and never newly refused because that time
is over, for neither policy allows it. `UsageRecord.passage` says of a change what became of it at the time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.mqtt.topics import covers, intersection
from gateway.policy.engine.identity import Device, Identity
from gateway.policy.engine.policy import Policy
from gateway.policy.engine.rules import Action, Decision, Effect, Rule
from gateway.policy.engine.topic_generalisation import filter_of, topics_of
from gateway.policy.engine.usage_record import OVERFLOW, UsageRecord

_CLIENT = "any-client-id"
"""Fills in `{client}`, which is in a template only if a rule had it there."""
_VALUE = "any-value"
"""Fills in a `+` in the template of a PUBLISH, in which records of many topics were merged."""

Conditions = tuple[int, bool, int | None]
"""`max_qos`, `retain` and `max_payload` (bytes) of a rule: what it requires of a message."""
UNCONDITIONAL: Conditions = (2, True, None)
"""No condition: every message passes."""


class ChangeKind(StrEnum):
    """How the second policy decides differently on something that was done or tried."""

    ALLOWED = "allowed"
    """The first policy refuses it, the second allows it."""
    REFUSED = "refused"
    """The first policy allows it, the second refuses it."""
    CONDITIONS = "conditions"
    """Allowed as before, under different conditions on QoS, retain or size."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was done or tried, and on which the second policy decides differently."""

    record: UsageRecord
    kind: ChangeKind
    before: Decision
    after: Decision


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found."""

    changes: tuple[Change, ...]
    replayed: int
    """Usage records that both policies decided on, whether the outcome differs or not."""
    gone: int
    """Usage records of devices that are gone, or with labels that are."""
    overflow: int
    """Decisions beyond the recorder's bounds, which were counted without their topics."""
    mixed: tuple[UsageRecord, ...] = ()
    """Records left out: each stands for several topics, and the outcome changes for some of them only. Which
    of them the device used is not known."""


def as_identity(device: Device, *roles: str) -> Identity:
    """The identity of a stored device; with these roles instead of its own, if any are given."""
    return Identity(device.device_id, roles or device.roles, device.labels, _CLIENT)


def decisions_on(policy: Policy, identity: Identity, action: Action, template: str) -> list[Decision]:
    """The decisions on recorded usage, one for each topic that the template stands for with this identity.

    There are several if a label has several values, and none if the identity lacks a value for a placeholder.
    """
    rights = policy.rights(identity)
    topics = topics_of(template, identity)
    if action is Action.SUBSCRIBE:
        return [rights.decide_filter(topic) for topic in topics]
    names = ("/".join([_VALUE if level == "+" else level for level in topic.split("/")]) for topic in topics)
    return [rights.decide(action, name) for name in names]


def decision_on(policy: Policy, identity: Identity, action: Action, template: str) -> Decision | None:
    """The decision on recorded usage.

    None if the template stands for no topic with this identity, or for several that are decided differently:
    which of them the device used is not known.
    """
    found = decisions_on(policy, identity, action, template)
    return found[0] if found and all(one == found[0] for one in found) else None


def overlapping_rules(policy: Policy, identity: Identity, one: UsageRecord) -> Iterator[Rule]:
    """The rules, allows and denies, that may have had a part in what was recorded.

    The record may stand for more than one topic: because of a `+` in its template, because it is the
    overflow, or because of a label that the device has lost. A rule with such a label may have matched at the
    time.
    """
    topic = filter_of(one.template, identity)
    for rule in policy.rules_of(identity.roles):
        if one.action in rule.actions and (
            one.template == OVERFLOW or intersection(filter_of(rule.topic, identity), topic) is not None
        ):
            yield rule


def conditions_of(rules: Iterable[Rule]) -> frozenset[Conditions]:
    """The conditions of each of these allow rules; just `UNCONDITIONAL` when one of them has none."""
    found = frozenset((rule.max_qos, rule.retain, rule.max_payload) for rule in rules)
    return frozenset({UNCONDITIONAL}) if UNCONDITIONAL in found else found


def replay(
    before: Policy, after: Policy, records: Iterable[UsageRecord], devices: Mapping[str, Device]
) -> Replay:
    """Have both policies decide on the recorded usage. `devices` are those that exist now, by id."""
    changes: list[Change] = []
    mixed: list[UsageRecord] = []
    replayed = gone = overflow = 0
    for one in records:
        if one.template == OVERFLOW:
            overflow += one.count
            continue
        device = devices.get(one.device_id)
        identity = as_identity(device) if device else None
        olds = decisions_on(before, identity, one.action, one.template) if identity else []
        news = decisions_on(after, identity, one.action, one.template) if identity else []
        if identity is None or not olds:
            gone += 1
            continue
        old, new = olds[0], news[0]
        kinds = {_kind_of(*pair) for pair in zip(olds, news, strict=True)}
        if len(kinds) > 1:
            mixed.append(one)
            continue
        # Either a filter that was granted in part, or topics delivered for it: the record does not say which.
        is_partial = any(decision.is_partial for decision in (*olds, *news))
        is_filter = one.action is Action.SUBSCRIBE and (old.allowed or new.allowed) and not is_partial
        if "+" in one.template.split("/") and not is_filter:
            rules_before = _deciding(before, identity, one)
            rules_after = _deciding(after, identity, one)
            if rules_before != rules_after and not (
                _decide_alike(rules_before, one, identity) and _decide_alike(rules_after, one, identity)
            ):
                mixed.append(one)
                continue
        replayed += 1
        kind = kinds.pop()
        if kind is not None:
            changes.append(Change(one, kind, old, new))
    return Replay(tuple(changes), replayed, gone, overflow, tuple(mixed))


def _deciding(policy: Policy, identity: Identity, one: UsageRecord) -> frozenset[Rule]:
    """The rules that overlap the record, with their placeholders filled in for this identity."""
    return frozenset(
        Rule(rule.effect, frozenset({one.action}), topic, rule.max_qos, rule.retain, rule.max_payload)
        for rule in overlapping_rules(policy, identity, one)
        for topic in topics_of(rule.topic, identity)
    )


def _decide_alike(rules: Collection[Rule], one: UsageRecord, identity: Identity) -> bool:
    """Whether these rules decide alike on each topic of the record."""
    topic = filter_of(one.template, identity)
    covering = [rule for rule in rules if covers(rule.topic, topic)]
    denies = [rule for rule in rules if rule.effect is Effect.DENY]
    if denies:
        return any(rule in covering for rule in denies)
    return len(covering) == len(rules) or any(rule.unconditional for rule in covering)


def _kind_of(old: Decision, new: Decision) -> ChangeKind | None:
    if old.allowed != new.allowed:
        return ChangeKind.ALLOWED if new.allowed else ChangeKind.REFUSED
    return ChangeKind.CONDITIONS if conditions_of(old.allow_rules) != conditions_of(new.allow_rules) else None
