"""Which alerts there are, and what becomes of them: pending, firing, over.

A look evaluates the rules, once a second.

Sans-I/O: rules, readings and time come in, what has changed goes out; others decide whom to notify.
Durations are measured in what the caller says has gone by, so that a clock that jumps makes no alert and
ends none; what is shown and kept is Unix time.

A value that goes up and down must not wake anybody every few minutes. So an alert is over only when its
condition has not held for a while, and that while grows with every time the alert fires again soon after
(`_CALM`): people are notified a few times of an alert that flaps; then it goes on firing until its condition
has not held for an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.alerts.readings_protocol import Labels, Readings
from gateway.alerts.rules import Rule, Severity

ALERTS_MAX = 10_000
"""Alerts at once, over all rules: some 10 MB. Of one half each rule has its share, whatever others have; the
other half is for whichever comes first."""
_CALM = (60_000, 300_000, 900_000, 3_600_000)
"""Milliseconds for which the condition must not hold until an alert is over: one that fired once, twice,
three times, more often."""
_REMEMBERED = (3_600_000, 3_600_000, 3_600_000, 14_400_000)
"""Milliseconds after its end within which an alert that fires again is the same one, and counts as often more
(`Alert.times`); the places are those of `_CALM`."""
_GAP_MAX = 300_000
"""Milliseconds that a gateway may have been down for pending alerts to go on; after more they begin anew."""

_UNMEASURED = "(It can't be measured now; the value is the last one.)"

Key = tuple[str, Labels]


class Phase(StrEnum):
    """How far an alert has come."""

    PENDING = "pending"
    """The condition holds, but not for its duration yet."""
    FIRING = "firing"
    OVER = "over"
    """Resolved, and remembered for a while, so that one that fires again is known to be the same."""


@dataclass(slots=True)
class Alert:
    """One rule, for one set of labels."""

    rule: str
    labels: Labels
    severity: Severity
    summary: str
    phase: Phase
    since: int
    """When the condition began to hold, Unix milliseconds."""
    changed_at: int
    """When it entered its phase, Unix milliseconds."""
    value: float
    """The last reading for which the condition held."""
    times: int = 0
    """How often it fired, each time soon after the last."""
    notified: bool = False
    """Whether people were notified that it fires, and not yet that it is over."""
    held: int = 0
    """Milliseconds for which the condition has held."""
    calm: int = 0
    """Milliseconds for which the condition has not held."""

    @property
    def key(self) -> Key:
        """What distinguishes it from all others."""
        return self.rule, self.labels


@dataclass(slots=True)
class Changes:
    """What one look found."""

    fired: list[Alert] = field(default_factory=list)
    resolved: list[Alert] = field(default_factory=list)
    changed: set[Key] = field(default_factory=set)
    """All whose phase or summary has changed, for whoever saves them; some of these alerts are gone."""


class AlertStates:
    """All alerts of one gateway."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._by_rule: dict[str, dict[Labels, Alert]] = {}
        self._waited: dict[str, tuple[int, int]] = {}
        """Of rules that are not evaluated in each look: looks and milliseconds since the last time."""
        self._stale = set(self._rules)
        """Rules to be evaluated again when they are next due: their readings may have changed."""
        self._holds: dict[str, Mapping[Labels, float] | None] = {}
        """For which labels the condition of each rule holds, as it was last evaluated; None: nobody knows."""
        self.left_out: dict[str, int] = {}
        """By rule, how many alerts found no room at its last look; rules with none are not here."""

    def __iter__(self) -> Iterator[Alert]:
        for of_rule in self._by_rule.values():
            yield from of_rule.values()

    def find(self, key: Key) -> Alert | None:
        """The alert, if there is one."""
        return self._by_rule.get(key[0], {}).get(key[1])

    def use(self, rules: Sequence[Rule]) -> None:
        """These rules are in force from now on; alerts of others are over at the next look."""
        self._rules = {rule.name: rule for rule in rules}
        self._holds, self._stale, self.left_out = {}, set(self._rules), {}

    def has_rule(self, name: str) -> bool:
        """Whether a rule of this name is in force."""
        return name in self._rules

    def load(self, alerts: Iterable[Alert], now: int, last_alive: int) -> None:
        """Go on from what was saved.

        `last_alive`: when the last process was last known to run, Unix milliseconds.
        """
        short = 0 <= now - last_alive <= _GAP_MAX
        for alert in alerts:
            if alert.phase is Phase.PENDING:
                alert.held = max(0, now - alert.since) if short else 0
                alert.since = alert.since if short else now
            elif alert.phase is Phase.OVER:
                alert.calm = max(0, now - alert.changed_at)
            self._add(alert)

    def look(self, readings: Readings, now: int, elapsed: int, *, began: int, news: bool = True) -> Changes:
        """Evaluate every rule that is due.

        `now` in Unix milliseconds; `elapsed` is since the last look, in milliseconds. `began` is when the
        counters of this process began at 0, Unix milliseconds by the clock as it is now.

        Without `news` in the readings, conditions hold for what they held for before, and only time goes by.
        """
        changes = Changes()
        if news:
            self._stale.update(self._rules)
        elif not self._stale and not self._by_rule:
            return changes  # nothing fires, and nothing grows older
        for name in self._by_rule.keys() - self._rules.keys():
            self._end_all(name, now, changes)
        for rule in self._rules.values():
            waited = self._waited.pop(rule.name, (0, 0))
            looks, gone_by = waited[0] + 1, waited[1] + elapsed
            if looks < rule.looks:
                self._waited[rule.name] = looks, gone_by
                continue
            if rule.name in self._stale:
                self._holds[rule.name] = rule.condition.holds(readings, now=now, began=began)
                self._stale.remove(rule.name)  # afterwards: what raises is evaluated at the next look
            found = self._holds[rule.name]
            judged, holds = self._unmeasured(rule) if found is None else (rule, found)
            if holds or rule.name in self._by_rule or rule.name in self.left_out:
                self._apply(judged, holds, now, gone_by, changes)
        return changes

    def _unmeasured(self, rule: Rule) -> tuple[Rule, Mapping[Labels, float]]:
        """Its reading can't be had: an alert that fires goes on and says so, for nothing says it is over."""
        alert = self.find((rule.name, ()))
        if alert is None or alert.phase is not Phase.FIRING:
            return rule, {}
        return replace(rule, summary=f"{rule.summary} {_UNMEASURED}"), {(): alert.value}

    def _apply(
        self, rule: Rule, holds: Mapping[Labels, float], now: int, elapsed: int, changes: Changes
    ) -> None:
        room, left_out = self._room(rule.name), 0
        for labels, value in holds.items():
            alert = self.find((rule.name, labels))
            if alert is None:
                if len(self._by_rule.get(rule.name, ())) >= room:
                    left_out += 1
                    continue
                alert = self._add(
                    Alert(rule.name, labels, rule.severity, rule.summary, Phase.PENDING, now, now, value)
                )
                changes.changed.add(alert.key)
            elif alert.phase is Phase.OVER:
                alert.phase, alert.since, alert.changed_at, alert.held = Phase.PENDING, now, now, 0
                changes.changed.add(alert.key)
            elif not alert.calm:
                alert.held += elapsed
            alert.value, alert.calm = value, 0
            alert.severity = rule.severity
            self._describe(alert, rule, changes)
            if alert.phase is Phase.PENDING and alert.held >= rule.duration * 1_000:
                alert.phase, alert.changed_at, alert.notified = Phase.FIRING, now, False
                alert.times += 1
                changes.fired.append(alert)
                changes.changed.add(alert.key)
        self.left_out.pop(rule.name, None)
        if left_out:
            self.left_out[rule.name] = left_out
        for labels, alert in list(self._by_rule.get(rule.name, {}).items()):
            if labels not in holds:
                self._describe(alert, rule, changes)
                self._calm(alert, now, elapsed, changes)

    def _describe(self, alert: Alert, rule: Rule, changes: Changes) -> None:
        if alert.summary != rule.summary:
            alert.summary = rule.summary
            changes.changed.add(alert.key)

    def _room(self, name: str) -> int:
        """How many alerts this rule may have: its share, and what others leave of the other half."""
        share = ALERTS_MAX // (2 * len(self._rules))
        beyond = sum(max(0, len(of) - share) for other, of in self._by_rule.items() if other != name)
        # Different rules make different shares, which end none of the alerts that there are.
        return max(share, ALERTS_MAX - share * (len(self._rules) - 1) - beyond)

    def _calm(self, alert: Alert, now: int, elapsed: int, changes: Changes) -> None:
        """The condition does not hold now."""
        alert.calm += elapsed
        index = min(alert.times, len(_CALM)) - 1
        if alert.phase is Phase.PENDING:
            changes.changed.add(alert.key)
            if alert.times:
                alert.phase, alert.changed_at = Phase.OVER, now
            else:
                self._remove(alert)
        elif alert.phase is Phase.FIRING and alert.calm >= _CALM[index]:
            self._resolve(alert, now, changes)
        elif alert.phase is Phase.OVER and alert.calm >= _REMEMBERED[index]:
            changes.changed.add(alert.key)
            self._remove(alert)

    def _resolve(self, alert: Alert, now: int, changes: Changes) -> None:
        alert.phase, alert.changed_at, alert.calm = Phase.OVER, now, 0
        changes.resolved.append(alert)
        changes.changed.add(alert.key)

    def _end_all(self, name: str, now: int, changes: Changes) -> None:
        """The rule is gone, and with it its alerts."""
        for alert in list(self._by_rule[name].values()):
            if alert.phase is Phase.FIRING:
                self._resolve(alert, now, changes)
            changes.changed.add(alert.key)
            self._remove(alert)

    def _add(self, alert: Alert) -> Alert:
        self._by_rule.setdefault(alert.rule, {})[alert.labels] = alert
        return alert

    def _remove(self, alert: Alert) -> None:
        of_rule = self._by_rule[alert.rule]
        del of_rule[alert.labels]
        if not of_rule:
            del self._by_rule[alert.rule]
