"""A least-privilege role, proposed from what devices were seen to do.

It allows what was allowed and used, and more than that only where a level varies and a rule of today has a
wildcard for it. The conditions of today's rules are kept, and so are the denies that take something out of
what it allows. What was refused is listed, not allowed. Knows no files: `gateway.policy.usage.role_writer`
writes it down.

For example, under `allow home/+/+` and `deny home/locks/#`:

    d-1 published  home/d-1/temp                    d-2 published  home/d-2/temp
    d-1 published  home/hall/lamp, home/attic/lamp, home/kitchen/lamp, and was refused home/locks/door

    proposed: allow  home/{device}/temp      the level is each one's own id, whoever it is
              allow  home/+/lamp             three words at a level where today's rule has a wildcard
              deny   home/locks/#            it takes something out of home/+/lamp
    listed:   home/locks/door was refused
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.mqtt.topics import covers, intersection, split_filter
from gateway.policy.engine.decision_recorder import MORE, UsageRecord
from gateway.policy.engine.identity import Device, Identity
from gateway.policy.engine.placeholders import rule_topic_fault
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from gateway.policy.engine.rules import OnWideSubscribe
from gateway.policy.engine.topic_generalisation import filter_of, generalised
from gateway.policy.engine.topic_tree import TopicTree
from gateway.policy.usage.placeholder_inference import named
from gateway.policy.usage.replay import FREE, Conditions, as_identity, conditions, decision_on, met

_NAME = "learned"
_ASKED_OF = {Action.PUBLISH: 3, Action.SUBSCRIBE: 1}
"""How many of the conditions say something about an action."""


@dataclass(slots=True)
class Evidence:
    """How often something was decided, when, and whose it was."""

    count: int = 0
    first_at: int = 0
    last_at: int = 0
    devices: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    """The templates that it was made of."""

    def add(self, other: Evidence) -> None:
        """Count this too."""
        self.first_at = min(self.first_at, other.first_at) if self.count else other.first_at
        self.last_at = max(self.last_at, other.last_at)
        self.count += other.count
        self.devices |= other.devices
        self.seen |= other.seen


Topics = dict[str, Evidence]


@dataclass(frozen=True, slots=True)
class _Use:
    """What was recorded, or a part of it, and what today's rules say of it."""

    seen: UsageRecord
    recorded: str
    """The template of all of it."""
    asked: Conditions
    rules: tuple[str, ...]
    """The topics of those that allow it under these conditions; none when they are gone."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a role would have to say, and what it was made of."""

    devices: tuple[str, ...]
    """Those that something was seen of."""
    allows: Mapping[tuple[Action, Conditions], Topics]
    denies: tuple[Rule, ...]
    """Taken over from today's roles."""
    refused: Mapping[Action, Topics]
    """And not allowed by this role."""
    barred: Mapping[Action, Topics]
    """Those of the refused that are not to be given: a deny of today meets them, they begin with a `$`, or
    no rule can name them."""
    at_times: Mapping[Action, Topics]
    """Refused, and allowed and used too: it was about the message, or the rules were others."""
    unwritable: Mapping[Action, Topics]
    """Allowed, but no rule can name them: they have a brace in a level."""
    elsewhere: int
    """Decisions that were allowed by other roles of these devices."""
    more: int
    """Decisions that found no room when they were recorded."""
    lost: tuple[UsageRecord, ...] = ()
    """Allowed when it was recorded, and refused by this role: a deny that was made since then."""
    won: tuple[UsageRecord, ...] = ()
    """Refused when it was recorded, and allowed by this role."""
    gone: tuple[UsageRecord, ...] = ()
    """Allowed when it was recorded, and no rule of today says anything of it."""
    in_part: tuple[UsageRecord, ...] = ()
    """Many topics in one record, of which today's rules allow some: those are proposed, used or not."""
    subscribe: OnWideSubscribe = OnWideSubscribe.COVER
    """`filter` where a wide filter was granted in part: it needs no rule, only this word."""

    def role(self) -> Role:
        """As the policy reads it."""
        rules = [
            Rule(Effect.ALLOW, frozenset({action}), topic, *asked)
            for (action, asked), topics in self.allows.items()
            for topic in topics
        ]
        return Role(_NAME, "", (*rules, *self.denies), subscribe=self.subscribe)


def learn(
    policy: Policy, devices: Iterable[Device], records: Iterable[UsageRecord], role: str | None = None
) -> Proposal:
    """A role for what these devices did. With `role`: for what they did by that role."""
    who = {device.device_id: as_identity(device) for device in devices}
    seen = [one for one in records if one.device_id in who]
    whole = [one for one in seen if one.template != MORE]
    uses: list[_Use] = []
    gone, in_part = [], []
    elsewhere = 0
    mine = None if role is None else frozenset(policy.expanded((role,)))
    subscribe = OnWideSubscribe.COVER
    for one in whole:
        if one.allowed and _is_wide(policy, who[one.device_id], one):
            subscribe = OnWideSubscribe.FILTER
        elif one.allowed:
            needed = _needed(policy, who[one.device_id], one, mine)
            uses += needed
            elsewhere += 0 if needed else one.count
            if any(not use.rules for use in needed):
                gone.append(one)
            elif any(use.seen.template != use.recorded for use in needed):
                in_part.append(one)
    refused = [one for one in whole if not one.allowed]
    written = [use for use in uses if rule_topic_fault(use.seen.template) is None]
    allows = _allows(written, refused, who)
    roles = mine or {name for identity in who.values() for name in policy.expanded(identity.roles)}
    proposal = Proposal(
        devices=tuple(sorted({one.device_id for one in seen})),
        allows=allows,
        denies=_denies(policy, roles, allows),
        refused={},
        barred={},
        at_times={},
        unwritable=_together(use.seen for use in uses if rule_topic_fault(use.seen.template)),
        elsewhere=elsewhere,
        more=sum(one.count for one in seen if one.template == MORE),
        gone=tuple(gone),
        in_part=tuple(in_part),
        subscribe=subscribe,
    )
    return _checked(proposal, policy, written, refused, who)


def _is_wide(policy: Policy, identity: Identity, one: UsageRecord) -> bool:
    """Whether it is a filter that is granted in part: what was delivered by it is recorded by itself."""
    if one.action is not Action.SUBSCRIBE or one.template[-1:] != "#":
        return False
    decision = decision_on(policy, identity, one.action, one.template)
    return decision is not None and decision.partly


def _needed(
    policy: Policy, identity: Identity, one: UsageRecord, roles: Collection[str] | None
) -> list[_Use]:
    """What today's rules say of what was allowed; nothing at all if only other roles allow it."""
    decision = decision_on(policy, identity, one.action, one.template)
    if decision is not None and decision.partly:
        decision = None  # no rule is as wide: perhaps topics that were delivered by a wide filter
    allowed = decision is not None and decision.allowed
    grants = decision.grants if decision is not None else ()
    mine = [rule for rule in grants if roles is None or rule.role in roles]
    if mine or (allowed and one.action is Action.SUBSCRIBE):
        return _by_conditions(one, one.template, mine)
    # Denied by now; or many topics in one, and no rule is as wide: then the part of it that each rule says,
    # under the conditions of this rule. As a whole it had no conditions, and rights of other roles.
    rules = [rule for rule in met(policy, identity, one) if rule.effect is Effect.ALLOW]
    if not rules:
        return [_Use(one, one.template, FREE, ())]
    parts: defaultdict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        if roles is None or rule.role in roles:
            parts[_part(rule.topic, one.template, identity)].append(rule)
    return [use for template, said in parts.items() for use in _by_conditions(one, template, said)]


def _by_conditions(one: UsageRecord, template: str, rules: Sequence[Rule]) -> list[_Use]:
    """This part of it, under each of the conditions that these rules ask of it."""
    part = replace(one, template=template)
    asked = {rule: next(iter(conditions([_about(one.action, rule)]))) for rule in rules}
    return [
        _Use(part, one.template, each, tuple(rule.topic for rule in rules if asked[rule] == each))
        for each in sorted(conditions(_about(one.action, rule) for rule in rules), key=_freest)
    ]


def _about(action: Action, rule: Rule) -> Rule:
    """With those of its conditions that say something about this action."""
    number = _ASKED_OF.get(action, 0)
    return replace(
        rule,
        max_qos=rule.max_qos if number else 2,
        retain=rule.retain or number < 2,
        max_payload=rule.max_payload if number > 2 else None,
    )


def _part(rule: str, template: str, identity: Identity) -> str:
    """What a rule and a template that meet have in common, in their words; in the rule's before others."""
    both = intersection(filter_of(rule, identity), filter_of(template, identity)) or template
    words = [rule.split("/"), template.split("/")]
    return "/".join(
        [
            next((had[at] for had in words if at < len(had) and had[at] not in {"+", "#"}), level)
            for at, level in enumerate(both.split("/"))
        ]
    )


def _evidence(one: UsageRecord, template: str) -> Evidence:
    return Evidence(one.count, one.first_at, one.last_at, {one.device_id}, {template})


def _together(records: Iterable[UsageRecord]) -> dict[Action, Topics]:
    found: dict[Action, Topics] = {}
    for one in records:
        topics = found.setdefault(one.action, {})
        topics.setdefault(one.template, Evidence()).add(_evidence(one, one.template))
    return found


def _allows(
    uses: Sequence[_Use],
    refused: Iterable[UsageRecord],
    who: Mapping[str, Identity],
) -> dict[tuple[Action, Conditions], Topics]:
    names = named([(who[use.seen.device_id], use.seen.action, use.seen.template, use.rules) for use in uses])
    grouped: defaultdict[tuple[Action, Conditions], Topics] = defaultdict(dict)
    said: defaultdict[tuple[Action, Conditions], dict[str, set[str]]] = defaultdict(dict)
    for use, template in zip(uses, names, strict=True):
        topics = grouped[use.seen.action, use.asked]
        topics.setdefault(template, Evidence()).add(_evidence(use.seen, template))
        said[use.seen.action, use.asked].setdefault(template, set()).update(use.rules)
    kept_out = defaultdict(list)
    for one in refused:
        kept_out[one.action].append(one.template)
    allows = {}
    for key, topics in sorted(grouped.items(), key=_order):
        plain = _fewest(topics)
        becomes = generalised(plain, kept_out[key[0]], partial(_within, said[key]))
        wider: Topics = {}
        for template, evidence in plain.items():
            wider.setdefault(becomes[template], Evidence()).add(evidence)
        allows[key] = _fewest(wider)
    return allows


def _within(said: Mapping[str, Collection[str]], wide: str) -> bool:
    """Whether a rule of today is as wide, or all are gone that allowed what it takes in."""
    if any(covers(rule, wide) for rule in {rule for rules in said.values() for rule in rules}):
        return True
    return not all(said.values()) and not any(rules and covers(wide, topic) for topic, rules in said.items())


def _order(item: tuple[tuple[Action, Conditions], Topics]) -> tuple[int, tuple[int, bool, int]]:
    (action, asked), _ = item
    return list(Action).index(action), _freest(asked)


def _freest(asked: Conditions) -> tuple[int, bool, int]:
    qos, retain, size = asked
    return -qos, not retain, -1 if size is None else size


def _fewest(topics: Topics) -> Topics:
    """Without those that are covered by the rest."""
    tree: TopicTree[str] = TopicTree()
    for topic in topics:
        levels, open_end = split_filter(topic)
        tree.add(levels, topic, owner="", open_end=open_end)
    covers = {topic: sorted(tree.find(topic, ("",), {})) for topic in topics}
    kept: Topics = {}
    for topic, evidence in sorted(topics.items()):
        # The widest that covers it is covered by the fewest.
        widest = min(covers[topic], key=lambda one: len(covers[one]))
        kept.setdefault(widest, Evidence()).add(evidence)
    return kept


def _denies(
    policy: Policy, roles: Collection[str], allows: Mapping[tuple[Action, Conditions], Topics]
) -> tuple[Rule, ...]:
    """Today's denies that meet something that the proposal allows, for the actions where they do."""
    found = []
    for rule in policy.rules_of(sorted(roles)):
        if rule.effect is not Effect.DENY:
            continue
        wide = _anybody(rule.topic)
        met = {
            action
            for (action, _), topics in allows.items()
            if action in rule.actions
            and any(intersection(wide, _anybody(topic)) is not None for topic in topics)
        }
        if met:
            found.append(replace(rule, actions=frozenset(met)))
    return tuple(found)


def _barred(action: Action, topic: str, denies: Iterable[Rule]) -> bool:
    # A topic with a $ is the bus's own, its administration among them: a person writes it or nobody.
    if topic[:1] == "$" or rule_topic_fault(topic):
        return True
    wide = _anybody(topic)
    return any(
        action in rule.actions and intersection(_anybody(rule.topic), wide) is not None for rule in denies
    )


def _anybody(template: str) -> str:
    """A filter of all that the template may mean, whoever it is."""
    return "/".join(["+" if level[:1] == "{" else level for level in template.split("/")])


def _checked(
    proposal: Proposal,
    policy: Policy,
    written: Sequence[_Use],
    refused: Iterable[UsageRecord],
    who: Mapping[str, Identity],
) -> Proposal:
    """With what the role, asked itself, decides otherwise than it was recorded."""
    alone = Policy(
        [proposal.role()],
        sensitive=policy.sensitive_filters,
        limits=policy.limits,
        reserved=policy.reserved,
    )

    def grant(one: UsageRecord) -> Rule | None:
        identity = replace(who[one.device_id], roles=(_NAME,))
        decision = decision_on(alone, identity, one.action, one.template)
        return decision.rule if decision is not None and decision.allowed else None

    used = {(use.seen.device_id, use.seen.action, use.recorded) for use in written}
    kept_out, at_times, won = [], [], []
    for one in refused:
        rule = grant(one)
        if rule is None:
            kept_out.append(one)
        elif (one.device_id, one.action, one.template) in used:
            at_times.append(replace(one, template=rule.topic))
        else:
            won.append(one)
    names = named([(who[one.device_id], one.action, one.template, ()) for one in kept_out])
    listed = _together(replace(one, template=name) for one, name in zip(kept_out, names, strict=True))
    held = {name for identity in who.values() for name in identity.roles}
    denies = [rule for rule in policy.rules_of(sorted(held)) if rule.effect is Effect.DENY]
    return replace(
        proposal,
        refused=listed,
        barred={
            action: {topic: evidence for topic, evidence in topics.items() if _barred(action, topic, denies)}
            for action, topics in listed.items()
        },
        at_times=_together(at_times),
        won=tuple(won),
        lost=tuple(use.seen for use in written if grant(use.seen) is None),
    )
