"""Whether a statement holds for a policy, whoever comes: decided, not tried out.

For each allow rule that meets the filter of the statement, `gateway.policy.analysis.witnesses` gives the
identities and topics that stand for all others, and the decision of the data path,
`gateway.policy.engine.policy`, is asked about them. So what is shown as a counterexample is allowed indeed,
and what is not found is not there.

A role is asked about by its own rules. Another role that a device has beside it can take away by a deny, and
what it adds is its own doing; so what holds for each role holds for a device with any of them. A condition of
a rule admits some message still: the rule counts. A token only narrows, so nothing is asked about tokens.

For example, `no role:guest subscribe locks/#`, where guest has `allow locks/{device}` and `deny locks/door`.
The allow meets the filter. Its witness is an identity whose id stands in no rule, `device-1`, with the topic
`locks/device-1`; the decision is asked for: allowed, by that rule, and the deny does not match it. So the
assertion does not hold, and that is the counterexample. With `deny locks/#` the same witness is refused, and
since it stands for all others, nobody may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gateway.mqtt.topics import split_filter
from gateway.policy.analysis.assertions import ANY, Assertion, AssertionFault
from gateway.policy.analysis.why import describe
from gateway.policy.analysis.witnesses import Holder, Template, Witness, Witnesses, overlap
from gateway.policy.engine.identity import Device
from gateway.policy.engine.policy import Action, Effect, Policy, Rule

_MISSED_MAX = 3
_MAY = {
    Action.PUBLISH: 'may publish to "{}"',
    Action.SUBSCRIBE: 'may receive "{}"',
    Action.ENCRYPT: 'may have payloads sealed for "{}"',
    Action.DECRYPT: 'may have sealed payloads of "{}" opened',
}


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Somebody who may do what the statement says nobody may."""

    witness: Witness
    action: Action
    who: str
    """In words."""
    rules: tuple[Rule, ...]
    """The allow rules that admit it."""
    missed: tuple[Rule, ...]
    """Deny rules that come near, but don't match it: some of them."""

    def __str__(self) -> str:
        return f"{self.who} {_MAY[self.action].format(self.witness.topic)}"

    def text(self) -> Iterator[str]:
        """The rules, a line each."""
        for rule in self.rules:
            yield describe(rule)
        for rule in self.missed:
            yield f"{describe(rule)}, which does not match it"


@dataclass(frozen=True, slots=True)
class Proof:
    """A statement and what speaks against it: a counterexample for each role or device that breaks it."""

    assertion: Assertion
    counterexamples: tuple[Counterexample, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.counterexamples


class Prover:
    """Decides statements about one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rules: dict[str, list[tuple[Rule, Template]]] = {
            role.name: [(rule, split_filter(rule.topic)) for rule in role.rules]
            for role in policy.roles.values()
        }
        every = [template for rules in self._rules.values() for _, template in rules]
        self._instances = Witnesses([*every, split_filter(policy.reserved)], policy.limits)

    def prove(self, assertion: Assertion, devices: Mapping[str, Device]) -> Proof:
        """Decide it. `devices` has those that the statement names, as they are stored.

        Raises AssertionFault for a role that isn't there: a spelling mistake would prove everything. Raises
        Undecided.
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
        holders = [Holder((name,)) for name in roles]
        holders += [Holder.of(devices[device_id]) for device_id in dict.fromkeys(assertion.devices)]
        filters = [split_filter(topics) for topics in (assertion.topics, *assertion.excepted)]
        witnesses = self._instances.also(filters)
        found = (self._against(assertion, holder, filters, witnesses) for holder in holders)
        return Proof(assertion, tuple(one for one in found if one is not None))

    def _against(
        self, assertion: Assertion, holder: Holder, filters: Sequence[Template], witnesses: Witnesses
    ) -> Counterexample | None:
        rules = [
            (rule, template)
            for name in dict.fromkeys(holder.roles)
            for rule, template in self._rules.get(name, ())
            if assertion.action in rule.actions
        ]
        denies = [(rule, template) for rule, template in rules if rule.effect is Effect.DENY]
        asked, *excepted = filters
        escaped = [*excepted, *(template for _, template in denies)]
        longest = max((len(levels) for levels, open_end in escaped if not open_end), default=0)
        for allow, template in rules:
            if allow.effect is Effect.DENY:
                continue
            for witness in witnesses.of(holder, (template, asked), longest):
                grants = self._grants(assertion, witness)
                if grants:
                    near = [rule for rule, other in denies if overlap((template, asked, other), holder.fixed)]
                    return Counterexample(
                        witness,
                        assertion.action,
                        _who(assertion, holder, witness, grants),
                        grants,
                        tuple(near[:_MISSED_MAX]),
                    )
        return None

    def _grants(self, assertion: Assertion, witness: Witness) -> tuple[Rule, ...]:
        """The rules that allow what the statement forbids; none if it isn't allowed, or not spoken of."""
        if self._policy.reserves(witness.topic):
            return ()
        decision = self._policy.rights(witness.identity).decide(assertion.action, witness.topic)
        spoken_of = witness.fits(assertion.topics) and not any(map(witness.fits, assertion.excepted))
        return decision.grants if decision.allowed and spoken_of else ()


def _who(assertion: Assertion, holder: Holder, witness: Witness, grants: tuple[Rule, ...]) -> str:
    named = witness.named([assertion.topics, *assertion.excepted, *(rule.topic for rule in grants)])
    if holder.fixed is not None:
        client = [one for one in named if one.startswith("client id")]  # the rest is as stored
        return f'device "{witness.identity.device_id}"' + "".join(f" with {one}" for one in client)
    role = f'device with the role "{holder.roles[0]}"'
    return f"a {role} ({', '.join(named)})" if named else f"any {role}"
