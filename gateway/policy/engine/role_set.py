"""The roles of a policy: which rules, limits and settings a device gets from its roles.

A role may include others; whoever has it gets their rules, limits and settings, too. Knows no topics: rules
are matched by `gateway.policy.engine.policy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from gateway.mqtt.topics import covers
from gateway.policy.engine.device_limits import limits_of
from gateway.policy.engine.filter_overlap_tree import FilterOverlapTree
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.placeholders import placeholder_values, resolved_topics
from gateway.policy.engine.rules import Action, Effect, OnDeniedWill, OnWideSubscribe, Role, Rule

SETS_OF_ROLES_KEPT = 1_024
"""Combinations of roles whose joint limits, effort and the like are cached."""
_RULES_PER_EFFORT_UNIT = 4
"""Rules that can be compared for one unit of effort."""
_OVERLAP_TREES_MAX = 64
"""Results of `overlap_tree` that are cached."""


class RoleSet:
    """All roles, and the limits that none of them may exceed."""

    __slots__ = ("_efforts", "_included", "_limits", "_overlap_trees", "limits", "roles")

    def __init__(self, roles: Iterable[Role], limits: Limits) -> None:
        self.limits = limits
        self.roles: Mapping[str, Role] = MappingProxyType({role.name: role for role in roles})
        self._included = {
            name: _closure(name, self.roles) for name, role in self.roles.items() if role.includes
        }
        self._limits: dict[tuple[str, ...], Limits] = {}
        self._efforts: dict[tuple[str, ...], int] = {}
        self._overlap_trees: dict[object, FilterOverlapTree] = {}

    def missing(self, roles: Iterable[str]) -> list[str]:
        """Those that the policy lacks. A device with such a role may do nothing, as its denies are lost."""
        return [role for role in roles if role not in self.roles]

    def on_denied_will(self, roles: tuple[str, ...], otherwise: OnDeniedWill) -> OnDeniedWill:
        """What happens to a CONNECT whose will is refused, of a device with these roles.

        DROP if any role says so; `otherwise` if no role says anything.
        """
        settings = {role.will for role in self._existing(roles)}
        return next((one for one in (OnDeniedWill.DROP, OnDeniedWill.REFUSE) if one in settings), otherwise)

    def expanded(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        """These roles and those that they include, each once. Unchanged if none of them includes any."""
        if not self._included or self._included.keys().isdisjoint(roles):
            return roles
        return tuple(dict.fromkeys(one for name in roles for one in self._included.get(name, (name,))))

    def rules_of(self, roles: Iterable[str]) -> Iterator[Rule]:
        """The rules of these roles and of those that they include, each once. Unknown roles are skipped."""
        for name in self.expanded(tuple(dict.fromkeys(roles))):
            if name in self.roles:
                yield from self.roles[name].rules

    def limits_of(self, roles: tuple[str, ...]) -> Limits:
        """The limits of a device with just these roles."""
        found = self._limits.get(roles)
        if found is None:
            found = limits_of(self._existing(roles), self.limits)
            if len(self._limits) >= SETS_OF_ROLES_KEPT:
                self._limits.clear()
            self._limits[roles] = found
        return found

    def grants_in_part(self, roles: tuple[str, ...]) -> bool:
        """Whether one of these roles lets its devices subscribe to more than a rule covers."""
        return any(role.subscribe is OnWideSubscribe.FILTER for role in self._existing(roles))

    def filter_effort(self, roles: tuple[str, ...]) -> int:
        """The most that it may cost to decide on a filter that no rule covers, in units of effort."""
        found = self._efforts.get(roles)
        if found is None:
            granting = self._existing(roles) if self.grants_in_part(roles) else ()
            rules = sum(len(role.rules) for role in granting)
            if len(self._efforts) >= SETS_OF_ROLES_KEPT:
                self._efforts.clear()
            found = self._efforts[roles] = rules // _RULES_PER_EFFORT_UNIT
        return found

    def overlap_tree(self, identity: Identity, without: str) -> FilterOverlapTree:
        """The filters that this identity may receive, to find those that overlap a wide one.

        Filters that `without` covers are left out; since results are cached, it has to be the same each time.
        """
        values = placeholder_values(identity)
        rules = [
            rule
            for rule in self.rules_of(identity.roles)
            if rule.effect is Effect.ALLOW and Action.SUBSCRIBE in rule.actions
        ]
        used = {
            level
            for rule in rules
            if "{" in rule.topic
            for level in rule.topic.split("/")
            if level[:1] == "{"
        }
        key = (identity.roles, *((name, values.get(name)) for name in sorted(used)))
        found = self._overlap_trees.get(key)
        if found is None:
            found = FilterOverlapTree(
                (topic, rule)
                for rule in rules
                for topic in resolved_topics(rule.topic, values)
                if not covers(without, topic)
            )
            if len(self._overlap_trees) >= _OVERLAP_TREES_MAX:
                self._overlap_trees.clear()
            self._overlap_trees[key] = found
        return found

    def _existing(self, roles: tuple[str, ...]) -> Iterator[Role]:
        """Those of these roles, and of the roles that they include, that the policy has."""
        return (self.roles[name] for name in self.expanded(roles) if name in self.roles)


def _closure(name: str, roles: Mapping[str, Role]) -> tuple[str, ...]:
    """A role and all that it includes, directly or not; names that are not roles are left out."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop(0)
        if one in roles and one not in found:
            found[one] = None
            waiting += roles[one].includes
    return tuple(found)
