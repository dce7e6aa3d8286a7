"""Whether an assertion holds for a policy: proved for all identities and topics, not tried on a few.

For each allow rule that overlaps the filter of the assertion, `gateway.policy.analysis.representative_cases`
gives the identities and topics that stand for all others, and `gateway.policy.engine.policy`, which decides
on the data path, is asked about them. So a counterexample that is shown is indeed allowed, and if none is
found there is none.

Each role is examined on its own, with the roles that it includes. A second role of a device can only take
rights away by a deny, or add rights of its own; so what holds for each role holds for a device with any of
them. A rule with conditions still admits some messages, so it counts. A token only narrows rights, so tokens
are ignored.

For example, `no role:guest subscribe locks/#`, where guest has `allow locks/{device}` and `deny locks/door`.
The allow overlaps the filter. Its representative case is an identity whose id appears in no rule, `device-1`,
with the topic `locks/device-1`. The policy decides: allowed by that rule, since the deny does not match. So
the assertion does not hold, and this is the counterexample. With `deny locks/#` the same case is refused, and
since it stands for all others, nobody may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from gateway.mqtt.topics import split_filter
from gateway.policy.analysis.assertion_syntax import ANY, Assertion, AssertionFault
from gateway.policy.analysis.decision_explanation import describe
from gateway.policy.analysis.representative_cases import (
    RepresentativeCase,
    RepresentativeCases,
    RightsHolder,
    SplitFilter,
    overlap,
)
from gateway.policy.engine.identity import Device
from gateway.policy.engine.policy import Action, Effect, Policy, Rule
from gateway.policy.engine.rules import is_group

_NEAR_MISSES_MAX = 3
"""Deny rules shown with a counterexample."""
_MAY = {
    Action.PUBLISH: 'may publish to "{}"',
    Action.SUBSCRIBE: 'may receive "{}"',
    Action.ENCRYPT: 'may have payloads sealed for "{}"',
    Action.DECRYPT: 'may have sealed payloads of "{}" opened',
}


@dataclass(frozen=True, slots=True)
class Counterexample:
    """An identity that may do what the assertion says nobody may."""

    case: RepresentativeCase
    action: Action
    who: str
    """The identity in words, as the subject of a sentence."""
    rules: tuple[Rule, ...]
    """The allow rules that admit it."""
    near_misses: tuple[Rule, ...]
    """At most `_NEAR_MISSES_MAX` of the deny rules that overlap the allow rule, but don't match the case."""

    def __str__(self) -> str:
        return f"{self.who} {_MAY[self.action].format(self.case.topic)}"

    def text(self) -> Iterator[str]:
        """The rules, a line each."""
        for rule in self.rules:
            yield describe(rule)
        for rule in self.near_misses:
            yield f"{describe(rule)}, which does not match it"


@dataclass(frozen=True, slots=True)
class Proof:
    """An assertion, and a counterexample for each role or device that violates it."""

    assertion: Assertion
    counterexamples: tuple[Counterexample, ...]

    @property
    def holds(self) -> bool:
        """Whether there is no counterexample."""
        return not self.counterexamples


@dataclass(frozen=True, slots=True)
class _AssertedTopics:
    """The filters of an assertion, with each `@name` replaced by the filters of that group."""

    topics: tuple[str, ...]
    excepted: tuple[str, ...]


class Prover:
    """Decides assertions about one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        rules = [rule for role in policy.roles.values() for rule in role.rules]
        self._split_filters: dict[str, SplitFilter] = {rule.topic: split_filter(rule.topic) for rule in rules}
        every = self._split_filters.values()
        self._cases = RepresentativeCases([*every, split_filter(policy.reserved)], policy.limits)

    def prove(self, assertion: Assertion, devices: Mapping[str, Device]) -> Proof:
        """Decide the assertion. `devices` has, by id, those that it names.

        Raises AssertionFault for an unknown role, for otherwise a misspelt assertion would be "proved".
        Raises `representative_cases.Undecided` if too many cases would have to be asked about.
        """
        policy = self._policy
        for name in assertion.roles:
            if name != ANY and name not in policy.roles:
                raise AssertionFault(f'there is no role "{name}"; known: {", ".join(sorted(policy.roles))}')
        if policy.reserves(assertion.topics):
            raise AssertionFault(
                f'the topics "{assertion.topics}" are the gateway\'s own: every device has the same rights '
                "there, and no rule gives or takes any"
            )
        named = policy.roles.keys() if ANY in assertion.roles else dict.fromkeys(assertion.roles)
        roles = [name for name in policy.roles if name not in named] if assertion.only else list(named)
        holders = [RightsHolder((name,)) for name in roles]
        holders += [RightsHolder.of(devices[device_id]) for device_id in dict.fromkeys(assertion.devices)]
        asserted = _AssertedTopics(
            self._groups_expanded(assertion.topics), self._groups_expanded(*assertion.excepted)
        )
        cases = self._cases.also(map(split_filter, (*asserted.topics, *asserted.excepted)))
        found = (self._against(assertion, asserted, holder, cases) for holder in holders)
        return Proof(assertion, tuple(one for one in found if one is not None))

    def _groups_expanded(self, *topics: str) -> tuple[str, ...]:
        """These filters, with each `@name` replaced by the filters of that group.

        Raises AssertionFault for an unknown group, for the same reason as for an unknown role.
        """
        groups = self._policy.groups
        for one in topics:
            if is_group(one) and one[1:] not in groups:
                known = ", ".join(f"@{name}" for name in sorted(groups)) or "there are none"
                raise AssertionFault(f'there is no group "{one}" in topics.toml; known: {known}')
        return tuple(each for one in topics for each in (groups[one[1:]] if is_group(one) else (one,)))

    def _against(
        self,
        assertion: Assertion,
        asserted: _AssertedTopics,
        holder: RightsHolder,
        cases: RepresentativeCases,
    ) -> Counterexample | None:
        allows: list[SplitFilter] = []
        denies: list[tuple[Rule, SplitFilter]] = []
        for rule in self._policy.rules_of(holder.roles):
            if assertion.action in rule.actions:
                for split in self._filters_of(rule.topic, holder):
                    if rule.effect is Effect.ALLOW:
                        allows.append(split)
                    else:
                        denies.append((rule, split))
        asserted_filters = [one for topics in asserted.topics for one in self._filters_of(topics, holder)]
        excepted = [one for topics in asserted.excepted for one in self._filters_of(topics, holder)]
        # To be a counterexample a case must fit none of these. One with more levels than `longest` fits none.
        to_avoid = [*excepted, *(split for _, split in denies)]
        longest = max((len(levels) for levels, open_end in to_avoid if not open_end), default=0)
        for split, one in product(allows, asserted_filters):
            for case in cases.of(holder, (split, one), longest):
                allow_rules = self._allow_rules(assertion.action, asserted, case)
                if allow_rules:
                    near = dict.fromkeys(
                        rule for rule, other in denies if overlap((split, one, other), holder.fixed)
                    )
                    return Counterexample(
                        case,
                        assertion.action,
                        _who(asserted, holder, case, allow_rules),
                        allow_rules,
                        tuple(near)[:_NEAR_MISSES_MAX],
                    )
        return None

    def _filters_of(self, rule_filter: str, holder: RightsHolder) -> list[SplitFilter]:
        """A rule filter as it applies to this holder: of a particular device, one per value of a label."""
        filters = holder.filters(rule_filter)
        return [self._split_filters.get(one) or split_filter(one) for one in filters]

    def _allow_rules(
        self, action: Action, asserted: _AssertedTopics, case: RepresentativeCase
    ) -> tuple[Rule, ...]:
        """The rules that allow what the assertion forbids; none if it isn't allowed, or not forbidden."""
        if self._policy.reserves(case.topic):
            return ()
        decision = self._policy.rights(case.identity).decide(action, case.topic)
        is_asserted = any(map(case.fits, asserted.topics)) and not any(map(case.fits, asserted.excepted))
        return decision.allow_rules if decision.allowed and is_asserted else ()


def _who(
    asserted: _AssertedTopics, holder: RightsHolder, case: RepresentativeCase, allow_rules: tuple[Rule, ...]
) -> str:
    named = case.named([*asserted.topics, *asserted.excepted, *(rule.topic for rule in allow_rules)])
    if holder.device is not None:
        client = [one for one in named if one.startswith("client id")]  # id and labels are the device's own
        return f'device "{case.identity.device_id}"' + "".join(f" with {one}" for one in client)
    role = f'device with the role "{holder.roles[0]}"'
    return f"a {role} ({', '.join(named)})" if named else f"any {role}"
