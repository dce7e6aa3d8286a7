"""Decides what an identity may do on a topic.

Built from rules that `gateway.policy.files.loader` has read and checked; knows no file, no socket and no
clock. The rules of all roles are compiled once, into one tree of topics per action. A `Rights` is the policy
as it applies to one identity: it copies nothing, for there is one per connection. It doesn't remember
decisions either: connections cache them, and drop them when the policy changes.

Closed by default: without a matching rule, without a role, with a role that the policy lacks, or on an
invalid topic the decision is a denial, and nothing here raises for what a peer can send.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from gateway.mqtt.topics import (
    covers,
    filter_fault,
    intersection,
    join_filter,
    name_fault,
    split_filter,
    unshared,
)
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.placeholders import (
    PlaceholderKeys,
    has_one_value_each,
    placeholder_keys,
    placeholder_values,
    resolved_topics,
    rule_topic_fault,
    tree_keys,
)
from gateway.policy.engine.role_set import SETS_OF_ROLES_KEPT, RoleSet
from gateway.policy.engine.rules import Action, Decision, Effect, Role, Rule
from gateway.policy.engine.service_names import Service
from gateway.policy.engine.topic_tree import TopicTree

__all__ = ["Action", "Decision", "Effect", "Policy", "Rights", "Role", "Rule"]


def _refused(reason: str, rule: Rule | None = None) -> Decision:
    return Decision(allowed=False, reason=reason, rule=rule)


NO_RULE = {
    Action.PUBLISH: _refused("No rule allows the device to publish to this topic."),
    Action.SUBSCRIBE: _refused("No rule allows the device to receive this topic."),
    Action.ENCRYPT: _refused("No rule allows the device to encrypt for this topic."),
    Action.DECRYPT: _refused("No rule allows the device to decrypt this topic."),
}
NO_ROLE = _refused("The device has no role that gives it rights.")
MISSING_ROLE = _refused("The policy lacks a role of the device, so the device may do nothing.")
NOT_IN_TOKEN = {
    Action.PUBLISH: _refused("The token does not allow the device to publish to this topic."),
    Action.SUBSCRIBE: _refused("The token does not allow the device to receive this topic."),
    Action.ENCRYPT: _refused("The token does not allow the device to encrypt for this topic."),
    Action.DECRYPT: _refused("The token does not allow the device to decrypt this topic."),
}
IN_PART = "No rule allows all of it: each message is decided by its topic."
"""The reason for granting a filter of which only a part is allowed."""
_BY_RULES = (NO_ROLE, MISSING_ROLE, *NO_RULE.values())
"""Refusals that are due to the rules alone."""
RESERVED = _refused("This topic belongs to the gateway itself.")
SERVICE = Decision(
    allowed=True,
    reason="Every device may use the gateway's services.",
    rule=None,
    allow_rules=(Rule(Effect.ALLOW, frozenset({Action.PUBLISH, Action.SUBSCRIBE}), ""),),
)


def passes_when_observed(topic: str, refusal: Decision) -> bool:
    """Whether a refused message or filter passes nevertheless while its device is observed.

    It passes if a rule refused it, or no rule allowed it; not if a limit, a token or the prefix of the
    service topics was the reason. This is as if the device had a role with all rights on `#`, which does not
    match $CONTROL, the administration of the bus [MQTT-4.7.2-1].
    """
    by_rules = refusal.rule is not None or any(refusal is one for one in _BY_RULES)
    return by_rules and topic[0] != "$"


class Policy(RoleSet):
    """All roles, the sensitive topics and the limits: compiled, and never changed afterwards."""

    __slots__ = (
        "_responses",
        "_role_needs_sealing",
        "_roles_need_sealing",
        "_sensitive",
        "_services",
        "_trees",
        "digest",
        "groups",
        "reserved",
        "sensitive_filters",
    )

    def __init__(
        self,
        roles: Iterable[Role],
        *,
        sensitive: Iterable[str],
        limits: Limits,
        reserved: str,
        groups: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> None:
        """Compile the rules. Raises ValueError for an invalid topic, which the loader reports with its line.

        `sensitive` are topic filters. `reserved` is the prefix of the service topics, without a slash at its
        end. `groups` are those of `topics.toml`, by name; the rules already have their filters.
        """
        if fault := name_fault(reserved) or ("ends with a slash" if reserved[-1] == "/" else None):
            raise ValueError(f'the service prefix "{reserved}" {fault}')
        super().__init__(roles, limits)
        self.sensitive_filters = tuple(sensitive)
        self.groups = groups
        self.reserved = reserved
        self._role_needs_sealing: dict[str, bool] = {}
        self._roles_need_sealing: dict[tuple[str, ...], bool] = {}
        """Remembered answers of `may_need_sealing`, by roles; above, what they follow from, by role."""
        self._services = {f"{reserved}/{service}": service for service in Service}
        self._responses = frozenset(f"{topic}_response" for topic in self._services)
        self._trees: dict[Action, TopicTree[Rule]] = {action: TopicTree() for action in Action}
        for role in self.roles.values():
            for rule in role.rules:
                if fault := rule_topic_fault(rule.topic):
                    raise ValueError(f"{rule.file}:{rule.line}: the topic {fault}")
                levels, open_end = split_filter(rule.topic)
                for action in rule.actions:
                    keys = tree_keys(levels)
                    self._trees[action].add(keys, rule, owner=role.name, open_end=open_end)
        self._sensitive: TopicTree[str] = TopicTree()
        for topic_filter in self.sensitive_filters:
            if fault := filter_fault(topic_filter):
                raise ValueError(f"the sensitive topic {fault}")
            levels, open_end = split_filter(topic_filter)
            self._sensitive.add(levels, topic_filter, owner="", open_end=open_end)
        self.digest = self._digest()
        """In hex. Policies with the same digest decide alike: it ignores the locations of rules in their
        files."""

    def rights(self, identity: Identity) -> Rights:
        """The rights of one identity. Cheap: nothing is compiled or copied."""
        return Rights(self, identity)

    def sensitive(self, topic: str) -> bool:
        """Whether payloads on this topic name are sealed before they reach the bus."""
        return bool(self._sensitive.find(topic, ("",), {}))

    def may_need_sealing(self, roles: tuple[str, ...]) -> bool:
        """Whether one of these roles has a rule that may allow publishing to a sensitive topic."""
        found = self._roles_need_sealing.get(roles)
        if found is None:
            found = any(self._touches_sensitive(name) for name in self.expanded(roles))
            if len(self._roles_need_sealing) >= SETS_OF_ROLES_KEPT:
                self._roles_need_sealing.clear()
            self._roles_need_sealing[roles] = found
        return found

    def _touches_sensitive(self, name: str) -> bool:
        found = self._role_needs_sealing.get(name)
        if found is None:
            rules = self.roles[name].rules if name in self.roles else ()
            # A placeholder may stand for any level.
            filters = {
                "/".join("+" if level[:1] == "{" else level for level in rule.topic.split("/"))
                for rule in rules
                if rule.effect is Effect.ALLOW and Action.PUBLISH in rule.actions
            }
            found = self._role_needs_sealing[name] = any(
                intersection(one, other) is not None for one in filters for other in self.sensitive_filters
            )
        return found

    def reserves(self, topic: str) -> bool:
        """Whether this topic, or every topic of this filter, is at or below the service prefix."""
        return topic.startswith(self.reserved) and topic[len(self.reserved) :][:1] in {"", "/"}

    def service(self, topic: str) -> Service | None:
        """The service that takes its requests on this topic name, if any."""
        return self._services.get(topic)

    def service_right(self, action: Action, topic_filter: str, device_id: str) -> Decision:
        """What every device may do at or below the service prefix, without a rule."""
        is_request = action is Action.PUBLISH and topic_filter in self._services
        is_for_answers = action is Action.SUBSCRIBE and (
            topic_filter in self._responses or covers(f"{self.reserved}/reply/{device_id}/#", topic_filter)
        )
        return SERVICE if is_request or is_for_answers else RESERVED

    def matching(
        self,
        action: Action,
        topic_filter: str,
        roles: Iterable[str],
        placeholder_keys: Mapping[str, tuple[str, ...]],
    ) -> list[Rule]:
        """The rules of these roles, allow and deny, that cover a valid filter (or match a topic name).

        `placeholder_keys` gives, for a level of the topic, the keys (see `tree_keys`) of the placeholders
        that stand for it.
        """
        return self._trees[action].find(topic_filter, roles, placeholder_keys)

    def limit_fault(self, topic: str) -> str | None:
        """Which limit a topic or filter exceeds, as the end of a sentence; None if it exceeds none."""
        if topic.count("/") >= self.limits.topic_levels:
            return f"has more than {self.limits.topic_levels} levels"
        if len(topic.encode()) > self.limits.topic_length:
            return f"is longer than {self.limits.topic_length} bytes"
        return None

    def _digest(self) -> str:
        roles = {
            role.name: sorted(
                json.dumps(
                    [
                        rule.effect,
                        sorted(rule.actions),
                        rule.topic,
                        rule.max_qos,
                        rule.retain,
                        rule.max_payload,
                    ]
                )
                for rule in role.rules
            )
            for role in self.roles.values()
        }
        content = {
            "roles": roles,
            "wills": {role.name: role.will for role in self.roles.values() if role.will is not None},
            "subscribe": {role.name: role.subscribe for role in self.roles.values()},
            "includes": {role.name: sorted(role.includes) for role in self.roles.values()},
            "role_limits": {role.name: dict(role.limits) for role in self.roles.values()},
            "groups": {name: sorted(filters) for name, filters in self.groups.items()},
            "sensitive": sorted(self.sensitive_filters),
            "limits": dataclasses.asdict(self.limits),
            "reserved": self.reserved,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Rights:
    """What one identity may do under one policy."""

    __slots__ = ("_identity", "_keys", "_policy")

    def __init__(self, policy: Policy, identity: Identity) -> None:
        self._policy = policy
        self._identity = identity
        self._keys: PlaceholderKeys | None = None
        """Made once, for the first topic that rules decide on: there may be a thousand topics a second."""

    def decide(self, action: Action, topic: str) -> Decision:
        """Decide on an action on one topic name. An invalid name is denied.

        For `publish` the decision may depend on the message: see `Decision.with_message`.
        """
        if fault := name_fault(topic) or self._policy.limit_fault(topic):
            return _refused(f"The topic name {fault}.")
        return self._decide(action, topic)

    def decide_filter(self, topic_filter: str) -> Decision:
        """Decide on the filter of a SUBSCRIBE; of a shared one, on what follows `$share/<group>/`.

        One allow rule has to cover all of it, unless a role grants such filters in part, and no deny may
        cover all of it. A filter that is denied in part is allowed: each delivery is decided again by its
        topic. An invalid filter is denied.
        """
        if fault := filter_fault(topic_filter) or self._policy.limit_fault(topic_filter):
            return _refused(f"The topic filter {fault}.")
        asked = unshared(topic_filter)
        if asked != topic_filter and self._policy.reserves(asked):
            return RESERVED  # answers go to one connection: there is nothing to share
        decision = self._decide(Action.SUBSCRIBE, asked)
        if decision.allowed or decision.rule is not None or asked != topic_filter:
            # Never for $share: the bus would give this member messages in the place of others, to be lost.
            return decision
        if decision is NO_RULE[Action.SUBSCRIBE] or decision is NOT_IN_TOKEN[Action.SUBSCRIBE]:
            return self._decide_in_part(asked) or decision
        return decision

    def _decide_in_part(self, asked: str) -> Decision | None:
        """Grant it if a role of the device has `subscribe = "filter"`, and part of it is allowed."""
        policy, identity = self._policy, self._identity
        if not policy.grants_in_part(identity.roles) or policy.missing(identity.roles):
            return None
        by_rules = self._by_rules(Action.SUBSCRIBE, asked)
        if by_rules.rule is not None and by_rules.rule.effect is Effect.DENY:
            return None  # all of it is denied
        wanted: Iterable[str] = (asked,)
        if identity.grant is not None:
            granted = identity.grant.permissions.get(Action.SUBSCRIBE, ())
            wanted = [both for one in granted if (both := intersection(one, asked)) is not None]
        # No rule gives anything at or below the service prefix.
        filters = policy.overlap_tree(identity, f"{policy.reserved}/#")
        asked_of_rules = [one for one in wanted if not policy.reserves(one)]
        overlapping = [rule for one in asked_of_rules if (rule := filters.overlapping(one)) is not None]
        if not overlapping:
            return None
        rule = max(overlapping, key=lambda one: one.max_qos)
        return Decision(allowed=True, reason=IN_PART, rule=rule, allow_rules=(rule,), is_partial=True)

    def rules(self) -> tuple[Rule, ...]:
        """Every rule for this identity, with its placeholders replaced, in the order of its roles.

        A rule with a label that has several values appears once per value. Rules with a placeholder that has
        no value for this identity match nothing and are left out.
        """
        values = placeholder_values(self._identity)
        return tuple(
            dataclasses.replace(rule, topic=topic)
            for rule in self._policy.rules_of(self._roles())
            for topic in resolved_topics(rule.topic, values)
        )

    def permissions(self) -> dict[str, tuple[str, ...]]:
        """The topic filters of each action that a token for this identity carries.

        They are those of the allow rules, with `{client}` as `+`, because a token outlives the connection
        with that client id. Left out are filters that a deny covers, what exceeds the token that the identity
        logged in with, and filters that another one covers.
        """
        values = {**placeholder_values(self._identity), "{client}": ("+",)}
        return {action.value: self._permitted(action, values) for action in Action}

    def _permitted(self, action: Action, values: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        allowed: dict[str, None] = {}
        denied: TopicTree[str] = TopicTree()
        for rule in self._policy.rules_of(self._roles()):
            for topic in resolved_topics(rule.topic, values) if action in rule.actions else ():
                if rule.effect is Effect.ALLOW:
                    levels, open_end = split_filter(topic)
                    allowed[join_filter(levels, open_end=open_end)] = None
                elif "{client}" not in rule.topic:  # as `+` it would deny more than it says
                    _add_filter(denied, topic)
        grant = self._identity.grant
        if grant is not None:
            granted = grant.permissions.get(action, ())
            allowed = {
                both: None
                for topic in allowed
                for other in ((topic,) if topic in granted else granted)
                if (both := intersection(topic, other)) is not None
            }
        kept: TopicTree[str] = TopicTree()
        for topic in allowed:
            _add_filter(kept, topic)
        return tuple(
            topic
            for topic in allowed
            if not denied.find(topic, ("",), {})
            and not any(other != topic for other in kept.find(topic, ("",), {}))
        )

    def _roles(self) -> tuple[str, ...]:
        roles = self._identity.roles
        return () if self._policy.missing(roles) else roles

    def _decide(self, action: Action, topic_filter: str) -> Decision:
        policy = self._policy
        roles = self._identity.roles
        if policy.reserves(topic_filter):
            return policy.service_right(action, topic_filter, self._identity.device_id)
        if self._identity.grant is not None and not self._identity.grant.allows(action, topic_filter):
            return NOT_IN_TOKEN[action]
        if not roles:
            return NO_ROLE
        if policy.missing(roles):
            return MISSING_ROLE
        return self._by_rules(action, topic_filter)

    def _by_rules(self, action: Action, topic_filter: str) -> Decision:
        policy = self._policy
        keys = self._keys = self._keys or placeholder_keys(self._identity)
        rules = policy.matching(action, topic_filter, policy.expanded(self._identity.roles), keys.by_level)
        if keys.some_has_several:
            rules = [rule for rule in rules if has_one_value_each(rule.topic, topic_filter)]
        for rule in rules:
            if rule.effect is Effect.DENY:
                return _refused("A rule denies this to the device.", rule)
        if not rules:
            return NO_RULE[action]
        chosen = next((rule for rule in rules if rule.unconditional), rules[0])
        return Decision(allowed=True, reason="A rule allows it.", rule=chosen, allow_rules=tuple(rules))


def _add_filter(tree: TopicTree[str], topic_filter: str) -> None:
    levels, open_end = split_filter(topic_filter)
    tree.add(levels, topic_filter, owner="", open_end=open_end)
