"""Why a decision is what it is, and what would have to change: `gateway-admin acl why`.

For admins: unlike `Decision.reason` it names rules, files and roles of others, so it is never sent to
a peer. Judges with the same `Policy` as the data path and then looks at every rule once, which is
slow and need not be otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.identity import Identity
from gateway.core.policy import Action, Decision, Effect, Policy, Rule
from gateway.core.rules import template_values
from gateway.mqtt.topics import covers, filter_fault, name_fault, split_filter, unshared


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with its ground."""

    identity: Identity
    action: Action
    topic: str
    decision: Decision
    nearest: Rule | None
    """For a refusal that no rule decided: the allow rule that comes closest."""
    change: str
    """For a refusal: what would have to change, in words; empty when it is allowed."""

    @property
    def text(self) -> str:
        """All of it in a few lines."""
        verdict = "allowed" if self.decision.allowed else "denied"
        lines = [f"{verdict}: {self.identity.device_id} {self.action} {self.topic}", self.decision.reason]
        if self.decision.rule:
            lines += [_describe(rule) for rule in self.decision.grants or (self.decision.rule,)]
        if self.nearest:
            lines.append(f"nearest: {_describe(self.nearest)}")
        if self.change:
            lines.append(f"to allow it: {self.change}")
        return "\n".join(lines)


def explain(policy: Policy, identity: Identity, action: Action, topic: str) -> Explanation:
    """Decide and explain. For `subscribe` the topic may be a filter, `$share/<group>/` included."""
    access = policy.access(identity)
    subscribes = action is Action.SUBSCRIBE
    decision = access.decide_filter(topic) if subscribes else access.decide(action, topic)
    if decision.allowed:
        return Explanation(identity, action, topic, decision, None, "")
    if decision.rule:
        return Explanation(
            identity, action, topic, decision, None, _without(decision.rule, access.rules(), action, topic)
        )
    fault = filter_fault(topic) if subscribes else name_fault(topic)
    if fault or policy.limit_fault(topic):
        return Explanation(identity, action, topic, decision, None, "the topic itself has to change.")
    asked = unshared(topic)
    if policy.reserves(asked):
        change = "no rule can; the service topics are the gateway's own."
        return Explanation(identity, action, topic, decision, None, change)
    nearest, changes = _nearest(policy, identity, action, asked)
    return Explanation(identity, action, topic, decision, nearest, "; ".join(changes) + ".")


def _without(denying: Rule, rules: tuple[Rule, ...], action: Action, topic: str) -> str:
    change = f"narrow or remove {denying.file}:{denying.line}, for a deny beats every allow"
    asked = unshared(topic)
    allows = [rule for rule in rules if rule.effect is Effect.ALLOW and action in rule.actions]
    if not any(covers(rule.topic, asked) for rule in allows):
        change += "; and write an allow, for there is none"
    return change + "."


def _nearest(policy: Policy, identity: Identity, action: Action, asked: str) -> tuple[Rule | None, list[str]]:
    """The allow rule with the fewest changes; of equals, the one that shares most levels from the left."""
    values = template_values(identity)
    own_rule = f'write an [[allow]] with actions = ["{action}"] and topics = ["{asked}"]'
    best: tuple[tuple[int, int], Rule | None, list[str]] = ((1_000_000, 0), None, [own_rule])
    for role in policy.roles.values():
        for rule in role.rules:
            if rule.effect is not Effect.ALLOW:
                continue
            changes, shared = _level_changes(rule, asked, values)
            if action not in rule.actions:
                changes.append(f'add "{action}" to the actions of the rule')
            # A level is an edit of one rule; a role brings all its other rights with it.
            cost = 2 * len(changes)
            if len(changes) > 2:
                changes = [own_rule]
            if role.name not in identity.roles:
                changes.insert(0, f'give the device the role "{role.name}", with all its rights')
                cost += 3
            if (cost, -shared) < best[0]:
                best = ((cost, -shared), rule, changes)
    return best[1], best[2]


def _level_changes(rule: Rule, asked: str, values: dict[str, str]) -> tuple[list[str], int]:
    """What the topic of a rule lacks to cover `asked`, and how many levels agree from the left."""
    mine, mine_open = split_filter(rule.topic)
    theirs, theirs_open = split_filter(asked)
    changes = []
    shared = 0
    for number, (level, other) in enumerate(zip(mine, theirs, strict=False), start=1):
        if number == 1 and other[:1] == "$" and level != other:
            changes.append(f'level 1 of the rule has to be "{other}" itself: nothing else reaches a $ topic')
        elif level[:1] == "{" and level not in values:
            changes.append(f"the device needs a value for {level} that is one whole level")
        elif values.get(level, level) not in {"+", other}:
            means = f" (here: {values[level]})" if level in values else ""
            changes.append(f'level {number} of the rule has to be "{other}", not "{level}"{means}')
        elif not changes:
            shared += 1
    if theirs_open and not mine_open:
        changes.append(f"the rule has to end in /# after level {min(len(mine), len(theirs))}")
    elif len(theirs) < len(mine):
        changes += [f'"{level}" at the end of the rule has to go' for level in mine[len(theirs) :]]
    elif len(theirs) > len(mine) and not mine_open:
        rest = "/".join(theirs[len(mine) :])
        changes.append(f'the rule has to go on with "/{rest}", or end in /#')
    return changes, shared


def _describe(rule: Rule) -> str:
    conditions = []
    if rule.max_qos < 2:
        conditions.append(f"up to QoS {rule.max_qos}")
    if not rule.retain:
        conditions.append("not retained")
    if rule.max_payload is not None:
        conditions.append(f"at most {rule.max_payload} bytes")
    narrowed = f" ({', '.join(conditions)})" if conditions else ""
    verb = "allows" if rule.effect is Effect.ALLOW else "denies"
    actions = ", ".join(sorted(rule.actions))
    return f'{rule.file}:{rule.line} {verb} {actions} on "{rule.topic}"{narrowed}'
