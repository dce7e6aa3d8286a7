"""The round of the alerts, once a second: evaluate rules, record what changed, group it, save it, deliver it.

Owns the order of these. A message is saved first and then delivered, so that a SIGKILL at any moment neither
loses it nor sends it under two ids. If the store fails, it is delivered unsaved after two seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.alerts.alert_persistence import AlertKeeper
from gateway.alerts.alert_states import Alert, AlertStates, Changes, Key, Phase
from gateway.alerts.current_silences import Silences
from gateway.alerts.delivery import Deliveries
from gateway.alerts.notification_grouping import Grouping, Listed, Message, State, message_of
from gateway.alerts.readings_protocol import Readings
from gateway.alerts.rules import Rule
from gateway.connection.audit_vocabulary import HOUSE, Report, fired_alert, resolved_alert
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.logs import get_logger
from gateway.system.aligned_timers import until_next_multiple_of

_ROUND_SECONDS = 1.0
_READS_SILENCES = 30
"""Rounds after which silences are read even if there is nothing to announce."""
_ONE_BY_ONE = 20
"""Alerts of a rule that fire, or end, in one round and have an audit event each; all others share one."""
_REMOVED = "(The rule is no longer in force.)"

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """The times that alerts need, and whether there is something new to evaluate."""

    now: Callable[[], int]
    """Unix milliseconds."""
    steady: Callable[[], float]
    """Seconds, of a clock that never goes back."""
    is_measured: Callable[[], bool]
    """Whether the readings are of this moment. While they are not, nothing is evaluated."""
    news: Callable[[], object] | None = None
    """A value that differs from the last one if a rule may come out differently now; None: not known."""


class Alerting:
    """The alerts of a gateway, round by round."""

    def __init__(
        self,
        rules: Sequence[Rule],
        readings: Readings,
        clocks: Clocks,
        *,
        silences: Silences,
        deliveries: Deliveries,
        keeper: AlertKeeper,
        audit: Audit,
        node: str,
    ) -> None:
        self._readings = readings
        self._clocks = clocks
        self._silences = silences
        self._deliveries = deliveries
        self._keeper = keeper
        self._audit = audit
        self._node = node
        self._states = AlertStates(rules)
        self._grouping = Grouping()
        self._unannounced: set[Key] = set()
        """Alerts that fire, and of which nobody was notified yet."""
        self._ended: dict[Key, Alert] = {}
        """Alerts that are over, until people are notified of it; also those whose rule is gone."""
        self._began = self._last = clocks.steady()
        self._seen: object = None
        """What `Clocks.news` gave in the last round."""
        self._looks = 0
        self._left_out: frozenset[str] = frozenset()
        """Rules for some of whose alerts there was no room in the last round."""

    def use(self, rules: Sequence[Rule]) -> None:
        """These rules are in force from now on."""
        self._states.use(rules)

    def current(self) -> list[Alert]:
        """All there are, also those that are over and still remembered (`alert_states`)."""
        return list(self._states)

    async def load(self, last_alive: int) -> Sequence[Alert]:
        """Go on where the last process ended, which ran until `last_alive` (Unix milliseconds).

        Return the alerts that fire.
        """
        alerts, messages = await self._keeper.load()
        self._states.load(alerts, self._clocks.now(), last_alive)
        self._unannounced = {one.key for one in alerts if one.phase is Phase.FIRING and not one.notified}
        for one in alerts:
            if one.notified and one.phase is not Phase.FIRING:
                self._announce_end(one, int(self._clocks.steady() * 1_000))
        for channel, message in messages:
            self._deliveries.put(channel, message)
        return [one for one in alerts if one.phase is Phase.FIRING]

    async def run(self) -> None:
        """A round every second, for ever."""
        while True:
            await self.round()
            await until_next_multiple_of(_ROUND_SECONDS)

    async def round(self) -> None:
        """Evaluate the rules, and see that people are notified of what has changed."""
        steady = self._clocks.steady()
        if self._looks % _READS_SILENCES == 0:
            await self._silences.look()  # so that the newest are known, should the store fail
        self._looks += 1
        elapsed, self._last = int((steady - self._last) * 1_000), steady
        if self._clocks.is_measured():
            now = self._clocks.now()
            # By the clock as it is now: it may have been set, and the times of the readings with it.
            began = now - int((steady - self._began) * 1_000)
            changes = self._states.look(self._readings, now, elapsed, began=began, news=self._is_news())
            self._record(changes)
            if changes.fired or self._unannounced:
                await self._silences.look()
            self._sort(changes, int(steady * 1_000))
            for key in changes.changed:
                self._keeper.note(key, self._states.find(key) or self._ended.get(key))
        await self._send(int(steady * 1_000))

    def _is_news(self) -> bool:
        """Whether a rule may come out differently than at the last look.

        To evaluate all costs a millisecond, and there is a sample every ten seconds: in between only the
        readings change that are newer than a sample (`history_and_live_readings`).
        """
        before, self._seen = self._seen, self._clocks.news() if self._clocks.news is not None else None
        return self._seen is None or self._seen != before

    def _sort(self, changes: Changes, steady_ms: int) -> None:
        """Group what people are to be notified of: what has changed, and what is no longer silenced."""
        for alert in changes.fired:
            if self._ended.pop(alert.key, None) is None:
                self._unannounced.add(alert.key)
            else:
                # It fires again before anybody was notified of its end: people know that it fires.
                self._grouping.drop(State.RESOLVED, alert.key)
                alert.notified = True
        for alert in changes.resolved:
            self._unannounced.discard(alert.key)
            if alert.notified or self._grouping.waits(State.FIRING, alert.key):
                self._announce_end(alert, steady_ms)
        for key in self._unannounced:
            fires = self._states.find(key)
            if fires is None or self._silences.fit(fires.rule, dict(fires.labels)):
                self._grouping.drop(State.FIRING, key)
            else:
                self._grouping.add(State.FIRING, fires, steady_ms)

    def _announce_end(self, alert: Alert, steady_ms: int) -> None:
        note = "" if self._states.has_rule(alert.rule) else _REMOVED
        self._grouping.add(State.RESOLVED, alert, steady_ms, note=note)
        if self._grouping.waits(State.RESOLVED, alert.key):
            self._ended[alert.key] = alert

    async def _send(self, steady_ms: int) -> None:
        addressed: list[tuple[str, Message]] = []
        for state, group in self._grouping.take(steady_ms):
            message = message_of(state, list(group.values()), node=self._node, at=self._clocks.now())
            addressed += self._deliveries.addressed(message).items()
            if state is State.FIRING:
                self._mark_notified(group)
            else:
                self._mark_ended(group)
        for channel, message in addressed:
            self._keeper.add(channel, message)
        await self._keeper.keep()
        for channel, message in addressed:
            self._deliveries.put(channel, message)

    def _mark_notified(self, group: Mapping[Key, Listed]) -> None:
        for key in group:
            self._unannounced.discard(key)
            alert = self._states.find(key)
            if alert is not None:
                alert.notified = True
                self._keeper.note(key, alert)

    def _mark_ended(self, group: Mapping[Key, Listed]) -> None:
        for key in group:
            self._ended.pop(key).notified = False
            self._keeper.note(key, self._states.find(key))

    def _record(self, changes: Changes) -> None:
        """Emit audit events for what fires or is over, which the log has too; log what found no room."""
        self._emit(changes.fired, fired_alert)
        self._emit(changes.resolved, resolved_alert)
        left_out = self._states.left_out
        for rule in sorted(left_out.keys() - self._left_out):
            reason = "this rule has as many at once as others leave it room for"
            _log.error("alerts left out", reason=reason, rule=rule, alerts=left_out[rule])
        self._left_out = frozenset(left_out)

    def _emit(self, alerts: Iterable[Alert], report: Callable[[str, str, str], Report]) -> None:
        by_rule: dict[str, list[Alert]] = {}
        for alert in alerts:
            by_rule.setdefault(alert.rule, []).append(alert)
        now = self._clocks.now()
        for of_rule in by_rule.values():
            for alert in of_rule[:_ONE_BY_ONE]:
                one = report(alert.rule, alert.severity, _words(alert))
                self._audit.emit(AuditEvent.of(one, HOUSE, now))
            if more := of_rule[_ONE_BY_ONE:]:
                one = report(more[0].rule, more[0].severity, f"{more[0].summary} So for {len(more)} more.")
                one.count = len(more)
                self._audit.emit(AuditEvent.of(one, HOUSE, now))


def _words(alert: Alert) -> str:
    labels = "".join(f", {label} {value}" for label, value in alert.labels)
    return f"{alert.summary} Value {alert.value:g}{labels}."
