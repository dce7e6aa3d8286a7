"""Who gains and who loses what when one policy replaces another: exactly, and with an example of each.

Both policies decide on the same representative cases (`gateway.policy.analysis.representative_cases`).
Somebody gains a message if a rule of the new policy admits it and the old policy refused it. It was refused
either because no rule of the old policy admitted it, and then the representative case of the new rule was
refused, too; or because of a deny, and then the representative case of both rules together was. A loss is a
gain with the two policies exchanged.

Messages count, not only topics: an allow for QoS 1 that becomes one for QoS 2 is a gain. So each case is
asked with the greatest message that the rule admits: the highest QoS, the retain flag and the most bytes. A
policy that admits this message admits lesser ones, too.

If the limits on the levels and the length of topics are lowered, what a rule that ends in `#` loses thereby
is not shown as a loss, but only as a changed limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from gateway.mqtt.topics import covers, split_filter
from gateway.policy.analysis.representative_cases import (
    RepresentativeCase,
    RepresentativeCases,
    RightsHolder,
    SplitFilter,
    overlap,
)
from gateway.policy.engine.device_limits import ROLE_LIMIT_NAMES
from gateway.policy.engine.identity import Device
from gateway.policy.engine.policy import Action, Decision, Effect, Policy, Rule
from gateway.policy.engine.rules import OnWideSubscribe


@dataclass(frozen=True, slots=True)
class Change:
    """What a role or a device may do under one policy and not under the other."""

    gained: bool
    """Whether the new policy allows it; if not, the old one did."""
    action: Action
    topics: str
    """A filter; for a role, with placeholders."""
    within: str | None
    """If given, only those of the topics that this filter matches, too."""
    without: tuple[str, ...]
    """Filters of topics that are no part of the change: they are still refused, or were already allowed."""
    rule: Rule
    """The rule that allows it, of the policy that does."""
    refusal: Decision
    """What the other policy decides on `example`."""
    example: RepresentativeCase


@dataclass(frozen=True, slots=True)
class Difference:
    """All differences between two policies. Roles and devices without a change are left out."""

    roles: Mapping[str, tuple[Change, ...]]
    """By name of the role."""
    devices: Mapping[str, tuple[Change, ...]]
    """By device id."""
    newly_sensitive: tuple[str, ...]
    """Filters with topics that are sensitive now and were not before."""
    no_longer_sensitive: tuple[str, ...]
    """Filters with topics that were sensitive and no longer are."""
    limits: Mapping[str, tuple[int, int]]
    """Changed limits of limits.toml by name: the value before and after."""
    role_limits: Mapping[str, Mapping[str, tuple[int | None, int | None]]]
    """By role, the changed limits that it, or a role that it includes, sets: before and after; None: not
    set."""
    wide: Mapping[str, OnWideSubscribe]
    """By role, the new value of `subscribe` (its own, or that of a role it includes), if it changed."""


def compare(before: Policy, after: Policy, devices: Iterable[Device]) -> Difference:
    """What changes for each role, and for each of these devices."""
    comparison = _Comparison(before, after)
    roles = {
        name: comparison.changes(RightsHolder((name,))) for name in sorted({*before.roles, *after.roles})
    }
    # A rule that changes nothing for any device with these roles changes nothing for this one.
    rules: dict[tuple[str, ...], frozenset[_GainingRule]] = {}
    by_device = {}
    for device in devices:
        if device.roles not in rules:
            rules[device.roles] = comparison.gaining_rules(RightsHolder(device.roles))
        if rules[device.roles]:
            by_device[device.device_id] = comparison.changes(RightsHolder.of(device), rules[device.roles])
    old, new = before.limits, after.limits
    return Difference(
        {name: changes for name, changes in roles.items() if changes},
        {name: changes for name, changes in by_device.items() if changes},
        comparison.newly_sensitive(),
        comparison.no_longer_sensitive(),
        {
            one.name: (getattr(old, one.name), getattr(new, one.name))
            for one in fields(old)
            if getattr(old, one.name) != getattr(new, one.name)
        },
        _role_limits(before, after),
        {
            name: OnWideSubscribe.FILTER if after.grants_in_part((name,)) else OnWideSubscribe.COVER
            for name in sorted(before.roles.keys() & after.roles.keys())
            if before.grants_in_part((name,)) != after.grants_in_part((name,))
        },
    )


def _role_limits(before: Policy, after: Policy) -> Mapping[str, Mapping[str, tuple[int | None, int | None]]]:
    found = {}
    for name in sorted({*before.roles, *after.roles}):
        old, new = ({} if name not in one.roles else _limits_set_by(one, name) for one in (before, after))
        keys = [key for key in ROLE_LIMIT_NAMES if old.get(key) != new.get(key)]
        if keys:
            found[name] = {key: (old.get(key), new.get(key)) for key in keys}
    return found


def _limits_set_by(policy: Policy, name: str) -> Mapping[str, int]:
    limits = policy.limits_of((name,))
    return {key: getattr(limits, key) for key in limits.role_locations}


class _ResolvedRule(NamedTuple):
    """A rule as it applies to a rights holder: one for each value of the labels of a particular device."""

    rule: Rule
    split: SplitFilter
    """`topics` as `split_filter` returns it."""
    topics: str
    """The topic of the rule with labels filled in (`RightsHolder.filters`)."""


_Rules = Sequence[_ResolvedRule]
_Message = tuple[int, bool, int]
"""QoS, retained, bytes of payload."""
_GainingRule = tuple[bool, Action, Rule]
"""Whether it is a gain (else a loss), the action, and the rule that allows it."""


class _Side:
    """One of the two policies."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.limits = (policy.limits.topic_levels, policy.limits.topic_length)
        self._written = {
            rule.topic: split_filter(rule.topic) for role in policy.roles.values() for rule in role.rules
        }
        self.sensitive = [split_filter(topics) for topics in policy.sensitive_filters]

    def filters(self) -> Iterator[SplitFilter]:
        yield from self._written.values()
        yield from self.sensitive

    def rules(self, holder: RightsHolder) -> _Rules:
        if self.policy.missing(holder.roles):
            return []
        return [
            _ResolvedRule(rule, self._written.get(topics) or split_filter(topics), topics)
            for rule in self.policy.rules_of(holder.roles)
            for topics in holder.filters(rule.topic)
        ]

    def of(self, holder: RightsHolder, action: Action, effect: Effect) -> _Rules:
        return [
            resolved
            for resolved in self.rules(holder)
            if resolved.rule.effect is effect and action in resolved.rule.actions
        ]

    def decide(self, action: Action, case: RepresentativeCase, message: _Message) -> Decision:
        return self.policy.rights(case.identity).decide(action, case.topic).with_message(*message)


class _GainQuery:
    """The question what a rights holder gains from the old side to the new one, for one action.

    For losses the sides are exchanged, and `gained` is false.
    """

    def __init__(self, holder: RightsHolder, action: Action, old: _Side, new: _Side, *, gained: bool) -> None:
        self.holder, self.action, self.old, self.new, self.gained = holder, action, old, new, gained
        self.old_allows = old.of(holder, action, Effect.ALLOW)
        self.old_denies = old.of(holder, action, Effect.DENY)
        self.new_allows = new.of(holder, action, Effect.ALLOW)
        self.new_denies = new.of(holder, action, Effect.DENY)
        to_avoid = (resolved.split for resolved in (*self.old_allows, *self.new_denies))
        self.longest = max((len(levels) for levels, open_end in to_avoid if not open_end), default=0)
        """As `RepresentativeCases.of` takes it."""


class _Comparison:
    """Finds the changes between two policies."""

    def __init__(self, before: Policy, after: Policy) -> None:
        self._before, self._after = _Side(before), _Side(after)
        filters = [*self._before.filters(), *self._after.filters(), split_filter(after.reserved)]
        self._cases = {
            side: RepresentativeCases(filters, side.policy.limits) for side in (self._before, self._after)
        }
        named = [
            rule.max_payload or 0
            for policy in (before, after)
            for role in policy.roles.values()
            for rule in role.rules
        ]
        self._unbounded_size = max(named, default=0) + 1
        """Size of a payload, in bytes, that only rules without `max_payload` admit."""

    def changes(
        self, holder: RightsHolder, only: frozenset[_GainingRule] | None = None
    ) -> tuple[Change, ...]:
        """What this rights holder gains and loses; with `only`, by these rules alone."""
        return tuple({_shown_by(change): change for change in self._all(holder, only)}.values())

    def gaining_rules(self, holder: RightsHolder) -> frozenset[_GainingRule]:
        """The rules by which this rights holder gains or loses."""
        return frozenset((one.gained, one.action, one.rule) for one in self._all(holder, None))

    def _all(self, holder: RightsHolder, only: frozenset[_GainingRule] | None) -> Iterator[Change]:
        before, after = self._before, self._after
        if before.limits == after.limits and _content(before.rules(holder)) == _content(after.rules(holder)):
            return
        for action in Action:
            for old, new in ((before, after), (after, before)):
                yield from self._gains(_GainQuery(holder, action, old, new, gained=new is after), only)

    def _gains(self, query: _GainQuery, only: frozenset[_GainingRule] | None) -> Iterator[Change]:
        """What the new side allows and the old one does not."""
        fixed = query.holder.fixed
        for resolved in query.new_allows:
            if only is not None and (query.gained, query.action, resolved.rule) not in only:
                continue
            split, message = resolved.split, self._greatest_message(resolved.rule, query.action)
            admitting = [
                one
                for one in query.old_allows
                if not _objects(one.rule, message) and overlap((split, one.split), fixed)
            ]
            still_denied = [one.topics for one in query.new_denies if overlap((split, one.split), fixed)]
            allowed = [one.topics for one in admitting]
            if found := self._gain(query, message, [split], allowed):
                # If the limits refused it, the old side's rules allowed nothing of it.
                beyond = query.old.policy.limit_fault(found[0].topic)
                yield _change(
                    query, resolved, found, None, still_denied if beyond else [*allowed, *still_denied]
                )
            for denying in query.old_denies:
                if not self._gain(query, message, [split, denying.split]):
                    continue  # for example, if both sides have the deny
                # If no rule of the old side allowed it anyway, the gain has been shown already.
                with_allow = (
                    self._gain(query, message, [split, denying.split, one.split]) for one in admitting
                )
                if found := next(filter(None, with_allow), None):
                    yield _change(query, resolved, found, denying.topics, still_denied)

    def _gain(
        self,
        query: _GainQuery,
        message: _Message,
        filters: Sequence[SplitFilter],
        without: Iterable[str] = (),
    ) -> tuple[RepresentativeCase, Decision] | None:
        """A gain on a topic that fits all of `filters`, with the refusal of the old side; None for none.

        A case that fits one of `without` counts only if it exceeds the limits of the old side.
        """
        for case in self._cases[query.new].of(query.holder, filters, query.longest):
            refusal = query.old.decide(query.action, case, message)
            if refusal.allowed or not query.new.decide(query.action, case, message).allowed:
                continue
            if query.old.policy.limit_fault(case.topic) or not any(map(case.fits, without)):
                return case, refusal
        return None

    def _greatest_message(self, rule: Rule, action: Action) -> _Message:
        """The message with the highest QoS, the retain flag and the most bytes that a rule admits."""
        if action is Action.PUBLISH:
            size = self._unbounded_size if rule.max_payload is None else rule.max_payload
            return rule.max_qos, rule.retain, size
        return (rule.max_qos if action is Action.SUBSCRIBE else 0), False, 0

    def newly_sensitive(self) -> tuple[str, ...]:
        """Sensitive filters of the new policy with a topic that was not sensitive before."""
        return self._sensitive_only_in(self._before, self._after)

    def no_longer_sensitive(self) -> tuple[str, ...]:
        """Sensitive filters of the old policy with a topic that is not sensitive any more."""
        return self._sensitive_only_in(self._after, self._before)

    def _sensitive_only_in(self, old: _Side, new: _Side) -> tuple[str, ...]:
        longest = max((len(levels) for levels, open_end in old.sensitive if not open_end), default=0)
        return tuple(
            topics
            for topics, split in zip(new.policy.sensitive_filters, new.sensitive, strict=True)
            if any(
                not old.policy.sensitive(case.topic)
                for case in self._cases[new].of(RightsHolder(()), (split,), longest)
            )
        )


def _change(
    query: _GainQuery,
    resolved: _ResolvedRule,
    found: tuple[RepresentativeCase, Decision],
    within: str | None,
    without: Iterable[str],
) -> Change:
    topics = resolved.topics
    if within is not None and covers(within, topics):
        within = None
    elif within is not None and covers(topics, within):
        topics, within = within, None
    example, refusal = found
    shown = query.holder.shown
    return Change(
        query.gained,
        query.action,
        shown(topics),
        None if within is None else shown(within),
        tuple(dict.fromkeys(map(shown, without))),
        resolved.rule,
        refusal,
        example,
    )


def _shown_by(change: Change) -> tuple[object, ...]:
    """What distinguishes a change from others; which of two equal rules it comes from does not."""
    topics = (change.topics, change.within, change.without)
    return change.gained, change.action, *topics, *_conditions(change.rule)


def _conditions(rule: Rule) -> tuple[object, ...]:
    return rule.max_qos, rule.retain, rule.max_payload


def _objects(rule: Rule, message: _Message) -> bool:
    qos, retain, size = message
    return bool(rule.objections(qos, size, retain=retain))


def _content(rules: _Rules) -> frozenset[tuple[object, ...]]:
    return frozenset(
        (one.rule.effect, one.rule.actions, one.rule.topic, *_conditions(one.rule)) for one in rules
    )
