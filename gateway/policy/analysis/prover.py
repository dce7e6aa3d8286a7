"""Whether an assertion holds for a policy, for all identities and topics: decided, not tried on some.

For each allow rule that meets the filter of the assertion, `gateway.policy.analysis.representative_cases`
gives the identities and topics that stand for all others, and the decision of the data path,
`gateway.policy.engine.policy`, is asked about them. So what is shown as a counterexample is allowed indeed,
and what is not found is not there.

A role is decided by its own rules and those of the roles that it includes. A second role of a device can only
take rights away by a deny, or add rights of its own; so what holds for each role holds for a device with any
of them. A rule with conditions still admits some messages, so it counts. A token only narrows, so tokens are
left out.

For example, `no role:guest subscribe locks/#`, where guest has `allow locks/{device}` and `deny locks/door`.
The allow meets the filter. Its witness is an identity whose id stands in no rule, `device-1`, with the topic
`locks/device-1`; the decision is asked for: allowed, by that rule, and the deny does not match it. So the
assertion does not hold, and that is the counterexample. With `deny locks/#` the same witness is refused, and
since it stands for all others, nobody may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from gateway.mqtt.topics import split_filter
from gateway.policy.analysis.assertion_syntax import ANY, Assertion, AssertionFault
from gateway.policy.analysis.decision_explanation import describe
from gateway.policy.analysis.representative_cases import Principal, SplitFilter, Witness, Witnesses, overlap
from gateway.policy.engine.identity import Device
from gateway.policy.engine.policy import Action, Effect, Policy, Rule
from gateway.policy.engine.rules import is_group

_NEAR_MISSES_MAX = 3
_MAY = {
    Action.PUBLISH: 'may publish to "{}"',
    Action.SUBSCRIBE: 'may receive "{}"',
    Action.ENCRYPT: 'may have payloads sealed for "{}"',
    Action.DECRYPT: 'may have sealed payloads of "{}" opened',
}


@dataclass(frozen=True, slots=True)
class Counterexample:
    """An identity that may do what the assertion says none may."""

    witness: Witness
    action: Action
    who: str
    """In words."""
    rules: tuple[Rule, ...]
    """The allow rules that admit it."""
    near_misses: tuple[Rule, ...]
    """Deny rules that overlap the allow rule, but don't match the witness: some of them."""

    def __str__(self) -> str:
        return f"{self.who} {_MAY[self.action].format(self.witness.topic)}"

    def text(self) -> Iterator[str]:
        """The rules, a line each."""
        for rule in self.rules:
            yield describe(rule)
        for rule in self.near_misses:
            yield f"{describe(rule)}, which does not match it"


@dataclass(frozen=True, slots=True)
class Proof:
    """An assertion and what speaks against it: a counterexample for each role or device that breaks it."""

    assertion: Assertion
    counterexamples: tuple[Counterexample, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.counterexamples


@dataclass(frozen=True, slots=True)
class _AssertedTopics:
    """The filters of the topics that an assertion is about, with those of its groups in place of `@name`."""

    topics: tuple[str, ...]
    excepted: tuple[str, ...]


class Prover:
    """Decides assertions about one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        rules = [rule for role in policy.roles.values() for rule in role.rules]
        self._split_filters: dict[str, SplitFilter] = {rule.topic: split_filter(rule.topic) for rule in rules}
        every = self._split_filters.values()
        self._witnesses = Witnesses([*every, split_filter(policy.reserved)], policy.limits)

    def prove(self, assertion: Assertion, devices: Mapping[str, Device]) -> Proof:
        """Decide it. `devices` has those that the assertion names, as they are stored.

        Raises AssertionFault for a role that isn't there: a spelling mistake would prove everything. Raises
        `representative_cases.Undecided`: there are too many cases to ask about.
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
        principals = [Principal((name,)) for name in roles]
        principals += [Principal.of(devices[device_id]) for device_id in dict.fromkeys(assertion.devices)]
        asserted = _AssertedTopics(
            self._groups_expanded(assertion.topics), self._groups_expanded(*assertion.excepted)
        )
        witnesses = self._witnesses.also(map(split_filter, (*asserted.topics, *asserted.excepted)))
        found = (self._against(assertion, asserted, principal, witnesses) for principal in principals)
        return Proof(assertion, tuple(one for one in found if one is not None))

    def _groups_expanded(self, *topics: str) -> tuple[str, ...]:
        """These filters, and for `@name` those of the group.

        Raises AssertionFault for a group that isn't there: it would prove anything.
        """
        groups = self._policy.groups
        for one in topics:
            if is_group(one) and one[1:] not in groups:
                known = ", ".join(f"@{name}" for name in sorted(groups)) or "there are none"
                raise AssertionFault(f'there is no group "{one}" in topics.toml; known: {known}')
        return tuple(each for one in topics for each in (groups[one[1:]] if is_group(one) else (one,)))

    def _against(
        self, assertion: Assertion, asserted: _AssertedTopics, principal: Principal, witnesses: Witnesses
    ) -> Counterexample | None:
        allows: list[SplitFilter] = []
        denies: list[tuple[Rule, SplitFilter]] = []
        for rule in self._policy.rules_of(principal.roles):
            if assertion.action in rule.actions:
                for split in self._filters_of(rule.topic, principal):
                    if rule.effect is Effect.ALLOW:
                        allows.append(split)
                    else:
                        denies.append((rule, split))
        asserted_filters = [one for topics in asserted.topics for one in self._filters_of(topics, principal)]
        excepted = [one for topics in asserted.excepted for one in self._filters_of(topics, principal)]
        # What a witness must not fit, to be allowed and asserted. One with more levels than `longest` does
        # not.
        to_avoid = [*excepted, *(split for _, split in denies)]
        longest = max((len(levels) for levels, open_end in to_avoid if not open_end), default=0)
        for split, one in product(allows, asserted_filters):
            for witness in witnesses.of(principal, (split, one), longest):
                allow_rules = self._allow_rules(assertion.action, asserted, witness)
                if allow_rules:
                    near = dict.fromkeys(
                        rule for rule, other in denies if overlap((split, one, other), principal.fixed)
                    )
                    return Counterexample(
                        witness,
                        assertion.action,
                        _who(asserted, principal, witness, allow_rules),
                        allow_rules,
                        tuple(near)[:_NEAR_MISSES_MAX],
                    )
        return None

    def _filters_of(self, rule_filter: str, principal: Principal) -> list[SplitFilter]:
        """A rule filter as it is for this principal: of a device one for each value of its labels."""
        filters = principal.filters(rule_filter)
        return [self._split_filters.get(one) or split_filter(one) for one in filters]

    def _allow_rules(self, action: Action, asserted: _AssertedTopics, witness: Witness) -> tuple[Rule, ...]:
        """The rules that allow what the assertion forbids; none if it isn't allowed, or not asserted."""
        if self._policy.reserves(witness.topic):
            return ()
        decision = self._policy.rights(witness.identity).decide(action, witness.topic)
        is_asserted = any(map(witness.fits, asserted.topics)) and not any(
            map(witness.fits, asserted.excepted)
        )
        return decision.allow_rules if decision.allowed and is_asserted else ()


def _who(
    asserted: _AssertedTopics, principal: Principal, witness: Witness, allow_rules: tuple[Rule, ...]
) -> str:
    named = witness.named([*asserted.topics, *asserted.excepted, *(rule.topic for rule in allow_rules)])
    if principal.device is not None:
        client = [one for one in named if one.startswith("client id")]  # the rest is as stored
        return f'device "{witness.identity.device_id}"' + "".join(f" with {one}" for one in client)
    role = f'device with the role "{principal.roles[0]}"'
    return f"a {role} ({', '.join(named)})" if named else f"any {role}"
