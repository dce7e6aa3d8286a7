"""A least-privilege role, proposed from what devices were seen to do.

It allows what was allowed and used, and more than that only where a level varies: the conditions of today's
rules are kept, and so are the denies that take something out of what it allows. What was refused is told,
not allowed. Knows no files: `gateway.policy.role_file` writes it down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.core.identity import Device, Identity
from gateway.core.policy import Action, Effect, Policy, Role, Rule
from gateway.core.recorder import MORE, Observation
from gateway.core.rules import template_fault
from gateway.core.templates import generalised
from gateway.core.topic_tree import TopicTree
from gateway.mqtt.topics import intersection, split_filter
from gateway.policy.naming import named
from gateway.policy.replay import FREE, Conditions, as_identity, conditions, judge

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
class Proposal:
    """What a role would have to say, and what it was made of."""

    devices: tuple[str, ...]
    """Those that something was seen of."""
    allows: Mapping[tuple[Action, Conditions], Topics]
    denies: tuple[Rule, ...]
    """Taken over from today's roles."""
    refused: Mapping[Action, Topics]
    unwritable: Mapping[Action, Topics]
    """Allowed, but no rule can name them: they have a brace in a level."""
    elsewhere: int
    """Decisions that were allowed by other roles of these devices."""
    more: int
    """Decisions that found no room when they were recorded."""
    lost: tuple[Observation, ...] = ()
    """Allowed when it was recorded, and refused by this role: a deny that was made since then."""
    won: tuple[Observation, ...] = ()
    """Refused when it was recorded, and allowed by this role."""

    def role(self) -> Role:
        """As the policy reads it."""
        rules = [
            Rule(Effect.ALLOW, frozenset({action}), topic, *asked)
            for (action, asked), topics in self.allows.items()
            for topic in topics
        ]
        return Role(_NAME, "", (*rules, *self.denies))


def learn(
    policy: Policy, devices: Iterable[Device], observations: Iterable[Observation], role: str | None = None
) -> Proposal:
    """A role for what these devices did. With `role`: for what they did by that role."""
    who = {device.device_id: as_identity(device) for device in devices}
    seen = [one for one in observations if one.device_id in who]
    whole = [one for one in seen if one.template != MORE]
    uses: list[tuple[Observation, frozenset[Conditions]]] = []
    elsewhere = 0
    for one in whole:
        if one.allowed:
            asked = _conditions(policy, who[one.device_id], one, role)
            if asked:
                uses.append((one, asked))
            else:
                elsewhere += one.count
    refused = [one for one in whole if not one.allowed]
    written = [(one, asked) for one, asked in uses if template_fault(one.template) is None]
    allows = _allows(written, refused, who)
    roles = {name for identity in who.values() for name in identity.roles} if role is None else {role}
    proposal = Proposal(
        devices=tuple(sorted({one.device_id for one in seen})),
        allows=allows,
        denies=_denies(policy, roles, allows),
        refused=_together(refused),
        unwritable=_together(one for one, _ in uses if template_fault(one.template)),
        elsewhere=elsewhere,
        more=sum(one.count for one in seen if one.template == MORE),
    )
    return _checked(proposal, policy, [one for one, _ in written], refused, who)


def _conditions(
    policy: Policy, identity: Identity, one: Observation, role: str | None
) -> frozenset[Conditions]:
    """What today's rules ask of what was allowed; nothing at all if only other roles allow it."""
    decision = judge(policy, identity, one.action, one.template)
    if decision is None or not decision.allowed:
        return frozenset({FREE})  # allowed by rules that are gone
    mine = [rule for rule in decision.grants if role is None or rule.role == role]
    number = _ASKED_OF.get(one.action, 0)
    return conditions(
        replace(
            rule,
            max_qos=rule.max_qos if number else 2,
            retain=rule.retain or number < 2,
            max_payload=rule.max_payload if number > 2 else None,
        )
        for rule in mine
    )


def _evidence(one: Observation, template: str) -> Evidence:
    return Evidence(one.count, one.first_at, one.last_at, {one.device_id}, {template})


def _together(observations: Iterable[Observation]) -> dict[Action, Topics]:
    found: dict[Action, Topics] = {}
    for one in observations:
        topics = found.setdefault(one.action, {})
        topics.setdefault(one.template, Evidence()).add(_evidence(one, one.template))
    return found


def _allows(
    uses: Sequence[tuple[Observation, frozenset[Conditions]]],
    refused: Iterable[Observation],
    who: Mapping[str, Identity],
) -> dict[tuple[Action, Conditions], Topics]:
    names = named([(who[one.device_id], one.action, one.template) for one, _ in uses])
    grouped: defaultdict[tuple[Action, Conditions], Topics] = defaultdict(dict)
    for (one, asked), template in zip(uses, names, strict=True):
        for each in asked:
            topics = grouped[one.action, each]
            topics.setdefault(template, Evidence()).add(_evidence(one, template))
    kept_out = defaultdict(list)
    for one in refused:
        kept_out[one.action].append(one.template)
    allows = {}
    for key, topics in sorted(grouped.items(), key=_order):
        plain = _fewest(topics)
        becomes = generalised(plain, kept_out[key[0]])
        wider: Topics = {}
        for template, evidence in plain.items():
            wider.setdefault(becomes[template], Evidence()).add(evidence)
        allows[key] = _fewest(wider)
    return allows


def _order(item: tuple[tuple[Action, Conditions], Topics]) -> tuple[int, tuple[int, bool, int]]:
    (action, (qos, retain, size)), _ = item
    return list(Action).index(action), (-qos, not retain, -1 if size is None else size)


def _fewest(topics: Topics) -> Topics:
    """Without those that another one of them covers."""
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
    for name in sorted(roles):
        for rule in policy.roles[name].rules if name in policy.roles else ():
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


def _anybody(template: str) -> str:
    """A filter of all that the template may mean, whoever it is."""
    return "/".join(["+" if level[:1] == "{" else level for level in template.split("/")])


def _checked(
    proposal: Proposal,
    policy: Policy,
    allowed: Iterable[Observation],
    refused: Iterable[Observation],
    who: Mapping[str, Identity],
) -> Proposal:
    """With what the role, asked itself, decides otherwise than it was recorded."""
    alone = Policy(
        [proposal.role()],
        sensitive=policy.sensitive_filters,
        limits=policy.limits,
        reserved=policy.reserved,
    )

    def admits(one: Observation) -> bool:
        identity = replace(who[one.device_id], roles=(_NAME,))
        decision = judge(alone, identity, one.action, one.template)
        return decision is not None and decision.allowed

    uses = {(one.device_id, one.action, one.template) for one in allowed}
    lost = tuple(one for one in allowed if not admits(one))
    won = tuple(
        one for one in refused if (one.device_id, one.action, one.template) not in uses and admits(one)
    )
    return replace(proposal, lost=lost, won=won)
