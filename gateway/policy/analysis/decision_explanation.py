"""Why a decision is what it is, and what would have to change: `gateway-admin acl why`.

For admins: unlike `Decision.reason` it names rules, files and other roles, so it is never sent to a peer. It
decides with the same `Policy` as the data path, and then looks at every rule, which is slow but is not done
often.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.mqtt.topics import covers, filter_fault, intersection, name_fault, split_filter, unshared
from gateway.policy.analysis.dead_rules import own_prefix
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.placeholders import can_be_written, placeholder_values
from gateway.policy.engine.policy import Action, Decision, Effect, Policy, Rights, Rule

_NEW_RULE_COST = 5
"""Cost of proposing a new rule. Of several changes the cheapest is proposed: each level or action to change
in a rule costs 2, giving the device a further role 3 or 6."""
_ANOTHER_RULE_COST = 4
"""Cost of a change by which a rule gives more than what was asked for, or no longer what it is there for."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, why it was made, and what would change it."""

    identity: Identity
    action: Action
    topic: str
    decision: Decision
    nearest: Rule | None
    """For a refusal that no rule decided: the allow rule that comes closest."""
    change: str
    """For a refusal: what would have to change, in words; empty when it is allowed."""
    parts: tuple[tuple[str, Rule], ...] = ()
    """For a filter that no single rule covers: the parts of it that are allowed, each with its rule."""
    held_back: tuple[Rule, ...] = ()
    """For a filter that is allowed: the denies inside it, whose topics are not delivered."""

    @property
    def text(self) -> str:
        """The explanation in a few lines."""
        outcome = "allowed" if self.decision.allowed else "denied"
        lines = [f"{outcome}: {self.identity.device_id} {self.action} {self.topic}", self.decision.reason]
        if self.decision.rule and not self.decision.is_partial:
            lines += [describe(rule) for rule in self.decision.allow_rules or (self.decision.rule,)]
        lines += [f"held back on delivery: {describe(rule)}" for rule in self.held_back]
        part = "delivered of it" if self.decision.is_partial else "allowed of it"
        lines += [f'{part}: "{topics}" by {rule.file}:{rule.line}' for topics, rule in self.parts]
        if self.nearest:
            lines.append(f"nearest: {describe(self.nearest)}")
        if self.change:
            lines.append(f"to allow it: {self.change}")
        return "\n".join(lines)


def explain(policy: Policy, identity: Identity, action: Action, topic: str) -> Explanation:
    """Decide and explain. For `subscribe` the topic may be a filter, `$share/<group>/` included."""
    rights = policy.rights(identity)
    subscribes = action is Action.SUBSCRIBE
    decision = rights.decide_filter(topic) if subscribes else rights.decide(action, topic)
    if decision.allowed:
        inside = _inside(rights.rules(), unshared(topic), Effect.DENY) if subscribes else []
        held_back = tuple(rule for _, rule in inside)
        parts = _allowed_inside(policy, rights, topic) if decision.is_partial else ()
        return Explanation(identity, action, topic, decision, None, "", parts, held_back)
    if decision.rule:
        return Explanation(identity, action, topic, decision, None, _without(rights.rules(), action, topic))
    fault = filter_fault(topic) if subscribes else name_fault(topic)
    if fault or policy.limit_fault(topic):
        return Explanation(identity, action, topic, decision, None, "the topic itself has to change.")
    asked = unshared(topic)
    if policy.reserves(asked):
        vain = _never_matching(rights.rules(), action, asked)
        change = f"no rule can, for the service topics are the gateway's own{vain}; {own_prefix(policy)}."
        return Explanation(identity, action, topic, decision, None, change)
    if missing := policy.missing(identity.roles):
        change = f"write the rules of {', '.join(missing)}, or give the device other roles."
        return Explanation(identity, action, topic, decision, None, change)
    nearest, changes = _nearest(policy, identity, action, asked)
    change = "; ".join(changes) + "."
    parts = _allowed_inside(policy, rights, asked) if subscribes else ()
    if parts:
        change = f"subscribe to {'that' if len(parts) == 1 else 'those'} alone; or, for all of it, {change}"
    return Explanation(identity, action, topic, decision, nearest, change, parts)


def _never_matching(rules: tuple[Rule, ...], action: Action, asked: str) -> str:
    """The rules that name service topics nevertheless, as the end of a sentence."""
    found = [
        f"{rule.file}:{rule.line}" for rule in rules if action in rule.actions and covers(rule.topic, asked)
    ]
    return f" ({' and '.join(found)} can never match there)" if found else ""


def _allowed_inside(policy: Policy, rights: Rights, asked: str) -> tuple[tuple[str, Rule], ...]:
    """The parts of a filter that the device may subscribe to, each with its rule."""
    return tuple(
        (part, rule)
        for part, rule in _inside(rights.rules(), asked, Effect.ALLOW)
        if rights.decide_filter(part).allowed and not policy.reserves(part)
    )


def _inside(rules: tuple[Rule, ...], asked: str, effect: Effect) -> list[tuple[str, Rule]]:
    """The parts of a filter that rules for `subscribe` cover, without those that another part covers."""
    found: dict[str, Rule] = {}
    for rule in rules:
        if rule.effect is effect and Action.SUBSCRIBE in rule.actions:
            part = intersection(rule.topic, asked)
            if part is not None:
                found.setdefault(part, rule)
    return [
        (part, rule)
        for part, rule in found.items()
        if not any(other != part and covers(other, part) for other in found)
    ]


def _without(rules: tuple[Rule, ...], action: Action, topic: str) -> str:
    """What to change so that no deny stands in the way."""
    asked = unshared(topic)
    matching = [rule for rule in rules if action in rule.actions and covers(rule.topic, asked)]
    denies = [f"{rule.file}:{rule.line}" for rule in matching if rule.effect is Effect.DENY]
    change = f"narrow or remove {' and '.join(denies)}, for a deny beats every allow"
    if len(denies) == len(matching):
        change += "; and write an allow, for there is none"
    return change + "."


def _nearest(policy: Policy, identity: Identity, action: Action, asked: str) -> tuple[Rule | None, list[str]]:
    """The allow rule that comes closest, and the change that gives the fewest additional rights.

    If several rules are equally close, the one that shares the most words from the left. To make another
    topic of a rule takes its own away: that is proposed for one that looks misspelt, with a word in common.
    """
    several = placeholder_values(identity)
    roles = policy.expanded(identity.roles)
    nearest: tuple[tuple[int, int], Rule | None] = ((1_000_000, 0), None)
    best = ((_NEW_RULE_COST, 0), [_new_rule(policy, identity, action, asked)])
    for role in policy.roles.values():
        for rule in role.rules:
            if rule.effect is not Effect.ALLOW:
                continue
            values = _chosen(rule, asked, several)
            changes, shared, has_other_word = _level_changes(rule, asked, values)
            has_a_word = _shares_a_word(rule, asked, values)
            lacks_action = action not in rule.actions
            if lacks_action:
                changes.append(f'add "{action}" to the actions of the rule')
            is_misspelt = has_other_word and has_a_word and len(changes) == 1
            gives_more = (has_other_word or lacks_action) and _is_wider(rule, asked)
            is_another_rule = gives_more or (has_other_word and not is_misspelt)
            rank = 2 * len(changes) + (_ANOTHER_RULE_COST if is_another_rule else 0), -shared
            if role.name not in roles:
                # A role brings all its other rights; one whose rule shares no word with the topic, probably
                # those of an admin.
                rank = 2 * len(changes) + (3 if has_a_word else 6), -shared
                if not changes:
                    gives = [f'give the device the role "{role.name}", with all its rights']
                    best = min(best, (rank, gives), key=lambda one: one[0])
            else:
                best = min(best, (rank, changes), key=lambda one: one[0])
            nearest = min(nearest, (rank, rule), key=lambda one: one[0])
    return nearest[1], best[1]


def _is_wider(rule: Rule, asked: str) -> bool:
    """Whether a wildcard of the rule stands where `asked` has none."""
    mine, mine_open = split_filter(rule.topic)
    theirs, theirs_open = split_filter(asked)
    wild = any(level == "+" != other for level, other in zip(mine, theirs, strict=False))
    return wild or (mine_open and not theirs_open)


def _new_rule(policy: Policy, identity: Identity, action: Action, asked: str) -> str:
    if "{" in asked or "}" in asked or not can_be_written(asked):
        return "use a topic that a rule can name: without braces, and not one level that begins with @"
    file = next((rule.file for rule in policy.rules_of(identity.roles)), "")
    where = f" in {file}" if file else " in a role of its own"
    # A string in TOML, too, but for DEL.
    topic = json.dumps(asked, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f'write an [[allow]] with actions = ["{action}"] and topics = [{topic}]{where}'


def _chosen(rule: Rule, asked: str, several: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """What each placeholder stands for if this rule is to match: of several values, the one in the topic."""
    chosen: dict[str, str] = {}
    for level, other in zip(rule.topic.split("/"), asked.split("/"), strict=False):
        if other in several.get(level, ()):
            chosen.setdefault(level, other)
    return {**{name: " or ".join(some) for name, some in several.items()}, **chosen}


def _shares_a_word(rule: Rule, asked: str, values: dict[str, str]) -> bool:
    """Whether the rule names a level of the topic, by a word or by a placeholder that stands for it."""
    levels = zip(rule.topic.split("/"), asked.split("/"), strict=False)
    return any(values.get(level, level) == other for level, other in levels)


def _level_changes(rule: Rule, asked: str, values: dict[str, str]) -> tuple[list[str], int, bool]:
    """What to change in the topic of a rule to cover `asked`.

    With it how many words agree from the left, and whether one has to become another.
    """
    mine, mine_open = split_filter(rule.topic)
    theirs, theirs_open = split_filter(asked)
    changes = []
    shared = 0
    has_other_word = False
    for number, (level, other) in enumerate(zip(mine, theirs, strict=False), start=1):
        if number == 1 and other[:1] == "$" and level != other:
            changes.append(f'level 1 of the rule has to be "{other}" itself: nothing else reaches a $ topic')
        elif level[:1] == "{" and level not in values:
            changes.append(f"the device needs a value for {level} that is one whole level")
        elif values.get(level, level) not in {"+", other}:
            has_other_word = True
            means = f" (here: {values[level]})" if level in values else ""
            changes.append(f'level {number} of the rule has to be "{other}", not "{level}"{means}')
        elif not changes and level != "+":
            shared += 1
    if theirs_open and not mine_open:
        changes.append(f"the rule has to end in /# after level {min(len(mine), len(theirs))}")
    elif len(theirs) < len(mine):
        changes += [f'"{level}" at the end of the rule has to go' for level in mine[len(theirs) :]]
    elif len(theirs) > len(mine) and not mine_open:
        rest = "/".join(theirs[len(mine) :])
        changes.append(f'the rule has to go on with "/{rest}", or end in /#')
    return changes, shared, has_other_word


def describe(rule: Rule) -> str:
    """A rule in words, with its location: `acl/roles/lamp.toml:9 allows publish on "a/#" (up to QoS 1)`."""
    verb = "allows" if rule.effect is Effect.ALLOW else "denies"
    actions = ", ".join(sorted(rule.actions))
    with_conditions = f" ({text})" if (text := conditions(rule)) else ""
    group = f" of @{rule.group}" if rule.group else ""
    return f'{rule.file}:{rule.line} {verb} {actions} on "{rule.topic}"{group}{with_conditions}'


def conditions(rule: Rule) -> str:
    """The conditions that a rule sets for messages, in words; empty if it sets none."""
    asked = []
    if rule.max_qos < 2:
        asked.append(f"up to QoS {rule.max_qos}")
    if not rule.retain:
        asked.append("not retained")
    if rule.max_payload is not None:
        asked.append(f"at most {rule.max_payload} bytes")
    return ", ".join(asked)
