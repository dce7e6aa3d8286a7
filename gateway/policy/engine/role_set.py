"""The roles of a policy: which rules, limits and settings a device has by the roles it has.

A role may include others; who has it has their rules, limits and settings, too. Knows no topics: rules are
matched by `gateway.policy.engine.policy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from gateway.mqtt.topics import covers
from gateway.policy.engine.device_limits import limits_of
from gateway.policy.engine.filter_overlap_tree import PartialFilters
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.placeholders import meanings, placeholder_values
from gateway.policy.engine.rules import Action, Effect, OnDeniedWill, OnWideSubscribe, Role, Rule

SETS_OF_ROLES_KEPT = 1_024
"""Sets of roles for which what follows from all of them together is remembered."""
_RULES_PER_EFFORT_UNIT = 4
"""Rules that are looked at for one unit of effort."""
_PARTIAL_FILTERS_MAX = 64
"""Trees of what an identity may receive that are remembered."""


class RoleSet:
    """All roles, and the limits that none of them may exceed."""

    __slots__ = ("_efforts", "_included", "_limits", "_partial", "limits", "roles")

    def __init__(self, roles: Iterable[Role], limits: Limits) -> None:
        self.limits = limits
        self.roles: Mapping[str, Role] = MappingProxyType({role.name: role for role in roles})
        self._included = {
            name: _closure(name, self.roles) for name, role in self.roles.items() if role.includes
        }
        self._limits: dict[tuple[str, ...], Limits] = {}
        self._efforts: dict[tuple[str, ...], int] = {}
        self._partial: dict[object, PartialFilters] = {}

    def missing(self, roles: Iterable[str]) -> list[str]:
        """Those that the policy does not have. A device with one may do nothing: its denies are missing."""
        return [role for role in roles if role not in self.roles]

    def on_denied_will(self, roles: tuple[str, ...], otherwise: OnDeniedWill) -> OnDeniedWill:
        """What becomes of a CONNECT with a refused will, of a device of these roles.

        DROP if one role says so; `otherwise` if none says anything.
        """
        settings = {role.will for role in self._existing(roles)}
        return next((one for one in (OnDeniedWill.DROP, OnDeniedWill.REFUSE) if one in settings), otherwise)

    def expanded(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        """These roles and those that they include, each once if there are any."""
        if not self._included or self._included.keys().isdisjoint(roles):
            return roles
        return tuple(dict.fromkeys(one for name in roles for one in self._included.get(name, (name,))))

    def rules_of(self, roles: Iterable[str]) -> Iterator[Rule]:
        """The rules of these roles as far as they are there, and of those that they include, each once."""
        for name in self.expanded(tuple(dict.fromkeys(roles))):
            if name in self.roles:
                yield from self.roles[name].rules

    def limits_of(self, roles: tuple[str, ...]) -> Limits:
        """The bounds of a device with just these roles."""
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
        """Units of effort that it costs at most to decide on a filter that no rule covers."""
        found = self._efforts.get(roles)
        if found is None:
            granting = self._existing(roles) if self.grants_in_part(roles) else ()
            rules = sum(len(role.rules) for role in granting)
            if len(self._efforts) >= SETS_OF_ROLES_KEPT:
                self._efforts.clear()
            found = self._efforts[roles] = rules // _RULES_PER_EFFORT_UNIT
        return found

    def partial_filters(self, identity: Identity, without: str) -> PartialFilters:
        """What this identity may receive, for questions about filters that no rule covers.

        Less what the filter `without` covers. It is the same at each call.
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
        found = self._partial.get(key)
        if found is None:
            found = PartialFilters(
                (topic, rule)
                for rule in rules
                for topic in meanings(rule.topic, values)
                if not covers(without, topic)
            )
            if len(self._partial) >= _PARTIAL_FILTERS_MAX:
                self._partial.clear()
            self._partial[key] = found
        return found

    def _existing(self, roles: tuple[str, ...]) -> Iterator[Role]:
        """These roles and those that they include, as far as the policy has them."""
        return (self.roles[name] for name in self.expanded(roles) if name in self.roles)


def _closure(name: str, roles: Mapping[str, Role]) -> tuple[str, ...]:
    """A role and all that it includes, and those include; a name that is no role is left out."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop(0)
        if one in roles and one not in found:
            found[one] = None
            waiting += roles[one].includes
    return tuple(found)
