"""Proposes a least-privilege role from what devices were seen to do.

"Today's" rules and roles are those of the policy in force. The proposed role allows what was allowed and
used. It allows more than that where a level varies (if a rule of today has a wildcard for it, or those that
allowed it are gone), where a placeholder stands for what several devices used, and where no rule covers a
record with a `+`: then the parts that rules allow (`proposed_in_part`). It keeps the conditions of today's
rules (`gateway.policy.usage.replay.Conditions`), and those denies that take something out of what it allows.
What passed only because its device was observed it allows, too (`Proposal.observed`), unless a deny of today
refuses it, and without a new `+`: no rule says how far that may go. What was refused is listed; what the
role would allow of it is named (`newly_allowed`, `sometimes_refused`).
Knows no files: `gateway.policy.usage.role_writer` writes the role down.

For example, under `allow home/+/+` and `deny home/locks/#`:

    d-1 published  home/d-1/temp                    d-2 published  home/d-2/temp
    d-1 published  home/hall/lamp, home/attic/lamp, home/kitchen/lamp, and was refused home/locks/door

    proposed: allow  home/{device}/temp      the level is the id of each device itself
              allow  home/+/lamp             three words at a level where today's rule has a wildcard
              deny   home/locks/#            it takes something out of home/+/lamp
    listed:   home/locks/door was refused
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway.mqtt.topics import covers, intersection, split_filter
from gateway.policy.engine.identity import Device, Identity
from gateway.policy.engine.placeholders import can_be_written
from gateway.policy.engine.policy import Action, Effect, Policy, Rule
from gateway.policy.engine.rules import OnDeniedWill, OnWideSubscribe
from gateway.policy.engine.topic_generalisation import filter_of, generalised
from gateway.policy.engine.topic_tree import TopicTree
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.policy.usage.observed_usage import divided
from gateway.policy.usage.placeholder_inference import with_placeholders
from gateway.policy.usage.replay import (
    UNCONDITIONAL,
    Conditions,
    as_identity,
    conditions_of,
    decision_on,
    decisions_on,
    overlapping_rules,
)
from gateway.policy.usage.role_boundaries import denies_to_keep, is_barred
from gateway.policy.usage.role_proposal import LEARNED_ROLE, Proposal, SummaryByTemplate, UsageSummary

_CONDITIONS_OF = {
    Action.PUBLISH: frozenset({"max_qos", "retain", "max_payload"}),
    Action.SUBSCRIBE: frozenset({"max_qos"}),
}
"""The conditions of a rule that apply to an action; none apply to other actions."""


@dataclass(frozen=True, slots=True)
class _Use:
    """A usage record, or a part of its topics, with those of today's rules that allow it."""

    record: UsageRecord
    """For a part, its template is that of the part."""
    whole_template: str
    """The template as it was recorded."""
    conditions: Conditions
    """What these rules require of a message."""
    rule_filters: tuple[str, ...]
    """The topics of these rules; empty if there is none, or those that allowed it are gone."""


def learn(
    policy: Policy, devices: Iterable[Device], records: Iterable[UsageRecord], role: str | None = None
) -> Proposal:
    """Propose a role for what these devices did; with `role`, for what that role allowed them to do."""
    identities = {device.device_id: as_identity(device) for device in devices}
    known_records = [record for record in records if record.device_id in identities]
    with_template = [record for record in known_records if record.template != OVERFLOW]
    allowed, observed, refused = divided(policy, identities, with_template)
    uses: list[_Use] = []
    without_rule, proposed_in_part, wide = [], [], []
    by_other_roles = 0
    source_roles = None if role is None else frozenset(policy.expanded((role,)))
    for record in allowed:
        its_uses = _uses_of(policy, identities[record.device_id], record, source_roles)
        granted_wide = _granted_wide(policy, identities[record.device_id], record)
        if not its_uses:
            by_other_roles += record.count
            continue
        if any(granted_wide):
            wide.append(record)
        if granted_wide and all(granted_wide) and record.template[-1:] == "#":
            continue  # certainly a filter: the topics delivered for it have records of their own
        uses += its_uses
        if any(not use.rule_filters for use in its_uses):
            without_rule.append(record)
        elif any(use.record.template != use.whole_template for use in its_uses):
            proposed_in_part.append(record)
    uses += [_Use(record, record.template, UNCONDITIONAL, ()) for record in observed]
    writable = [use for use in uses if can_be_written(use.record.template)]
    allows, of_observed = _allows(writable, refused, identities)
    roles_of = {name: frozenset(policy.expanded(identity.roles)) for name, identity in identities.items()}
    roles = source_roles or frozenset().union(*roles_of.values())
    proposal = Proposal(
        devices=tuple(sorted({record.device_id for record in known_records})),
        allows=allows,
        observed=of_observed,
        denies=denies_to_keep(
            policy,
            [
                *((roles, key[0], allows[key]) for key in allows),
                # Observing lifted the denies of all roles, not of one alone: whoever gets the topic has them.
                *(
                    (frozenset().union(*map(roles_of.__getitem__, summary.devices)), action, [topic])
                    for action, topics in of_observed.items()
                    for topic, summary in topics.items()
                ),
            ],
        ),
        refused={},
        barred={},
        sometimes_refused={},
        unwritable=_by_template(use.record for use in uses if not can_be_written(use.record.template)),
        by_other_roles=by_other_roles,
        overflow=sum(record.count for record in known_records if record.template == OVERFLOW),
        without_rule=tuple(without_rule),
        proposed_in_part=tuple(proposed_in_part),
        on_wide_subscribe=OnWideSubscribe.FILTER if wide else OnWideSubscribe.COVER,
        drops_wills=policy.on_denied_will(tuple(roles), OnDeniedWill.REFUSE) is OnDeniedWill.DROP,
    )
    return _checked(proposal, policy, writable, refused, identities, wide=wide)


def _granted_wide(policy: Policy, identity: Identity, record: UsageRecord) -> list[bool]:
    """For each topic or filter that the template stands for: whether it is granted in part, as a filter.

    With a `+` in the template it may also be many topics. Taking these for a filter gives nothing away, for
    each delivery is decided by the rules.
    """
    if record.action is not Action.SUBSCRIBE:
        return []
    return [one.is_partial for one in decisions_on(policy, identity, record.action, record.template)]


def _uses_of(
    policy: Policy, identity: Identity, record: UsageRecord, roles: Collection[str] | None
) -> list[_Use]:
    """An allowed record, divided by which of today's rules allow it; empty if only other roles allow it."""
    decision = decision_on(policy, identity, record.action, record.template)
    if decision is not None and decision.is_partial:
        decision = None  # no rule covers it: take the parts that rules allow
    allowed = decision is not None and decision.allowed
    allow_rules = decision.allow_rules if decision is not None else ()
    of_roles = [rule for rule in allow_rules if roles is None or rule.role in roles]
    # A filter that other roles allow is theirs as a whole: that gives an empty list. Of other actions this is
    # not known: a `+` was decided on one made-up value (`decision_on`).
    if of_roles or (allowed and record.action is Action.SUBSCRIBE):
        return _by_conditions(record, record.template, of_roles)
    # It is denied now; or no rule of these roles covers all of it, for a `+` in a record may be from a filter
    # that the device sent, or stand for many topics whose records were merged (`gateway.store.usage`, ADR
    # 0011). Then each rule allows the part that it overlaps, under its own conditions. The template as a
    # whole has no conditions to take over, and would include what other roles allow.
    rules = [rule for rule in overlapping_rules(policy, identity, record) if rule.effect is Effect.ALLOW]
    if not rules:
        return [_Use(record, record.template, UNCONDITIONAL, ())]
    rules_by_template: defaultdict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        if roles is None or rule.role in roles:
            rules_by_template[_common_template(rule.topic, record.template, identity)].append(rule)
    return [
        use
        for template, its_rules in rules_by_template.items()
        for use in _by_conditions(record, template, its_rules)
    ]


def _by_conditions(record: UsageRecord, template: str, rules: Sequence[Rule]) -> list[_Use]:
    """The part of the record that `template` names, once for each set of conditions of these rules.

    If one of them has no conditions: only once, with the rules that have none.
    """
    part = replace(record, template=template)
    conditions = {rule: next(iter(conditions_of([_for_action(record.action, rule)]))) for rule in rules}
    return [
        _Use(part, record.template, each, tuple(rule.topic for rule in rules if conditions[rule] == each))
        for each in sorted(conditions_of(_for_action(record.action, rule) for rule in rules), key=_strictness)
    ]


def _for_action(action: Action, rule: Rule) -> Rule:
    """The rule without the conditions that don't apply to this action."""
    applied = _CONDITIONS_OF.get(action, frozenset())
    return replace(
        rule,
        max_qos=rule.max_qos if "max_qos" in applied else 2,
        retain=rule.retain or "retain" not in applied,
        max_payload=rule.max_payload if "max_payload" in applied else None,
    )


def _common_template(rule_filter: str, template: str, identity: Identity) -> str:
    """A template of the topics that a rule and an overlapping template have in common.

    Each level is that of the rule; if that is a wildcard, the template's; else `+`, or `#` at the end.
    """
    both = intersection(filter_of(rule_filter, identity), filter_of(template, identity)) or template
    sources = [rule_filter.split("/"), template.split("/")]
    return "/".join(
        [
            next(
                (levels[at] for levels in sources if at < len(levels) and levels[at] not in {"+", "#"}), level
            )
            for at, level in enumerate(both.split("/"))
        ]
    )


def _summary(record: UsageRecord, template: str) -> UsageSummary:
    return UsageSummary(record.count, record.first_at, record.last_at, {record.device_id}, {template})


def _by_template(records: Iterable[UsageRecord]) -> dict[Action, SummaryByTemplate]:
    found: dict[Action, SummaryByTemplate] = {}
    for record in records:
        topics = found.setdefault(record.action, {})
        topics.setdefault(record.template, UsageSummary()).add(_summary(record, record.template))
    return found


def _allows(
    uses: Sequence[_Use],
    refused: Iterable[UsageRecord],
    identities: Mapping[str, Identity],
) -> tuple[dict[tuple[Action, Conditions], SummaryByTemplate], dict[Action, SummaryByTemplate]]:
    """What the role allows, of what rules allowed and of what passed only because its device was observed."""
    grouped: defaultdict[tuple[Action, Conditions], SummaryByTemplate] = defaultdict(dict)
    rule_filters: defaultdict[tuple[Action, Conditions], dict[str, set[str]]] = defaultdict(dict)
    observed: defaultdict[Action, SummaryByTemplate] = defaultdict(dict)
    for use, template in zip(uses, _templates(uses, identities), strict=True):
        if use.record.passage is Passage.OBSERVED:
            topics = observed[use.record.action]
            topics.setdefault(template, UsageSummary()).add(_summary(use.record, template))
    # Read without the others: a device that is observed may use any topic, so as to have a word read where
    # the role is to have a placeholder.
    by_rules = [use for use in uses if use.record.passage is not Passage.OBSERVED]
    for use, template in zip(by_rules, _templates(by_rules, identities), strict=True):
        topics = grouped[use.record.action, use.conditions]
        topics.setdefault(template, UsageSummary()).add(_summary(use.record, template))
        rule_filters[use.record.action, use.conditions].setdefault(template, set()).update(use.rule_filters)
    not_allowed = defaultdict(list)  # no + is to take this in
    for record in (*refused, *(use.record for use in uses if use.record.passage is Passage.OBSERVED)):
        not_allowed[record.action].append(record.template)
    allows = {}
    for key, topics in sorted(grouped.items(), key=_order):
        recorded = _without_covered(topics)
        generalised_to = generalised(
            recorded, not_allowed[key[0]], partial(_is_within_rules, rule_filters[key])
        )
        general: SummaryByTemplate = {}
        for template, summary in recorded.items():
            general.setdefault(generalised_to[template], UsageSummary()).add(summary)
        allows[key] = _without_covered(general)
    return allows, {action: _without_covered(observed[action]) for action in Action if action in observed}


def _templates(uses: Sequence[_Use], identities: Mapping[str, Identity]) -> list[str]:
    return with_placeholders(
        [
            (identities[use.record.device_id], use.record.action, use.record.template, use.rule_filters)
            for use in uses
        ]
    )


def _is_within_rules(rule_filters: Mapping[str, Collection[str]], general: str) -> bool:
    """Whether one of today's rules covers the generalised template, or all that it covers has lost its rules.

    `rule_filters` gives, by template, the topics of the rules that allow it.
    """
    if any(covers(rule, general) for rules in rule_filters.values() for rule in rules):
        return True
    return not all(rule_filters.values()) and not any(
        rules and covers(general, template) for template, rules in rule_filters.items()
    )


def _order(item: tuple[tuple[Action, Conditions], SummaryByTemplate]) -> tuple[int, tuple[int, bool, int]]:
    (action, conditions), _ = item
    return list(Action).index(action), _strictness(conditions)


def _strictness(conditions: Conditions) -> tuple[int, bool, int]:
    """A key to sort conditions by: the higher QoS first, then retain, then any size, then the smaller."""
    qos, retain, size = conditions
    return -qos, not retain, -1 if size is None else size


def _without_covered(topics: SummaryByTemplate) -> SummaryByTemplate:
    """The same without templates that others cover; their summaries are added to the covering ones'."""
    tree: TopicTree[str] = TopicTree()  # placeholders in it are compared like words
    for topic in topics:
        levels, open_end = split_filter(topic)
        tree.add(levels, topic, owner="", open_end=open_end)
    covered_by = {topic: sorted(tree.find(topic, ("",), {})) for topic in topics}
    kept: SummaryByTemplate = {}
    for topic, summary in sorted(topics.items()):
        # Of the templates that cover it, the widest is covered by the fewest.
        widest = min(covered_by[topic], key=lambda other: len(covered_by[other]))
        kept.setdefault(widest, UsageSummary()).add(summary)
    return kept


def _checked(
    proposal: Proposal,
    policy: Policy,
    writable: Sequence[_Use],
    refused: Iterable[UsageRecord],
    identities: Mapping[str, Identity],
    *,
    wide: Iterable[UsageRecord],
) -> Proposal:
    """The proposal, completed with what its role, if it were the only one, would decide differently."""
    alone = Policy(
        [proposal.role()],
        sensitive=policy.sensitive_filters,
        limits=policy.limits,
        reserved=policy.reserved,
    )

    def allowing_rule(record: UsageRecord) -> Rule | None:
        identity = replace(identities[record.device_id], roles=(LEARNED_ROLE,))
        # None: the topics of its template are not all decided alike, or there are none. Counts as refused.
        decision = decision_on(alone, identity, record.action, record.template)
        return decision.rule if decision is not None and decision.allowed else None

    used = {(use.record.device_id, use.record.action, use.whole_template) for use in writable}
    still_refused, sometimes_refused, newly_allowed = [], [], []
    for record in refused:
        rule = allowing_rule(record)
        if rule is None:
            still_refused.append(record)
        elif (record.device_id, record.action, record.template) in used:
            sometimes_refused.append(replace(record, template=rule.topic))
        else:
            newly_allowed.append(record)
    templates = with_placeholders(
        [(identities[record.device_id], record.action, record.template, ()) for record in still_refused]
    )
    listed = _by_template(
        replace(record, template=template) for record, template in zip(still_refused, templates, strict=True)
    )
    roles = {name for identity in identities.values() for name in identity.roles}
    denies = [rule for rule in policy.rules_of(sorted(roles)) if rule.effect is Effect.DENY]
    return replace(
        proposal,
        refused=listed,
        barred={
            action: {
                topic: summary
                for topic, summary in topics.items()
                if is_barred(policy, action, topic, denies)
            }
            for action, topics in listed.items()
        },
        sometimes_refused=_by_template(sometimes_refused),
        newly_allowed=tuple(newly_allowed),
        # A wide filter is checked whole, too: no record says which deliveries came by it.
        newly_refused=_refused_by(alone, [*(use.record for use in writable), *wide], identities),
    )


def _refused_by(
    alone: Policy, records: Iterable[UsageRecord], identities: Mapping[str, Identity]
) -> tuple[UsageRecord, ...]:
    """The records of which the proposed role refuses a topic, or which stand for no topic any more."""
    found = []
    for record in records:
        identity = replace(identities[record.device_id], roles=(LEARNED_ROLE,))
        decisions = decisions_on(alone, identity, record.action, record.template)
        if not decisions or not all(decision.allowed for decision in decisions):
            found.append(record)
    return tuple(found)
