"""What people are notified of: one message for what fires together, and one for what is over together.

Owns when a message leaves, what is in it, and its form while it waits in the store. How a channel writes it
is for the channels. Sans-I/O.

Alerts that come within two seconds make one message, whatever their rules. If a rule goes on finding more,
five messages are sent at once, and then one every five minutes, with all that has come meanwhile.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from gateway.alerts.alert_states import Alert, Key
from gateway.alerts.rules import Severity

_TOGETHER = 2_000
"""Milliseconds that the first alert waits for others."""
_AT_ONCE = 5
"""Messages about a rule that may be sent one after the other."""
_EACH = 300_000
"""Milliseconds until one more may be sent, once that many were."""
LISTED_MAX = 100
"""Alerts that a message lists; of the others it has the number."""


class State(StrEnum):
    """What a message says of its alerts."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Listed(msgspec.Struct, frozen=True):
    """One alert as a message shows it."""

    alert: str
    """The name of its rule."""
    severity: Severity
    summary: str
    value: float
    labels: Mapping[str, str]
    since: int
    """When its condition began to hold, Unix milliseconds."""


class Message(msgspec.Struct, frozen=True):
    """One notification."""

    message_id: str
    """The same however often it is sent."""
    state: State
    node: str
    at: int
    """Unix milliseconds."""
    alerts: tuple[Listed, ...]
    """The gravest first. If there are more than can be listed, some of each rule."""
    counts: Mapping[str, int]
    """How many there are of each rule, listed or not."""

    @property
    def severity(self) -> Severity:
        """That of its gravest alert."""
        return self.alerts[0].severity

    @property
    def count(self) -> int:
        """Its alerts, listed or not."""
        return sum(self.counts.values())


def new_id() -> str:
    """An id that no other message has."""
    return f"msg_{secrets.token_hex(12)}"


def message_of(state: State, alerts: Sequence[Listed], *, node: str, at: int) -> Message:
    """The message about these."""
    ordered = sorted(alerts, key=lambda one: (-one.severity.rank, one.since))
    return Message(new_id(), state, node, at, tuple(_listed(ordered)), Counter(one.alert for one in ordered))


def _listed(alerts: Sequence[Listed]) -> list[Listed]:
    """Those that are listed, some of each rule."""
    if len(alerts) <= LISTED_MAX:
        return list(alerts)
    share = max(1, LISTED_MAX // len({one.alert for one in alerts}))
    seen: Counter[str] = Counter()
    listed = []
    for one in alerts:
        seen[one.alert] += 1
        if seen[one.alert] <= share:
            listed.append(one)
    return listed[:LISTED_MAX]


class Grouping:
    """Alerts that wait to be sent. Times are milliseconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._waiting: dict[State, dict[Key, tuple[Listed, int]]] = {state: {} for state in State}
        self._left: dict[tuple[State, str], tuple[float, int]] = {}
        """The token bucket of each state and rule: how many messages may be sent, and when that was
        reckoned."""

    def add(self, state: State, alert: Alert, now: int, *, note: str = "") -> None:
        """Have this alert sent. One that is over before it was sent as firing is not sent at all."""
        if state is State.RESOLVED and self.waits(State.FIRING, alert.key):
            self.drop(State.FIRING, alert.key)
            return
        listed = Listed(
            alert.rule,
            alert.severity,
            f"{alert.summary} {note}" if note else alert.summary,
            alert.value,
            dict(alert.labels),
            alert.since,
        )
        self._waiting[state].setdefault(alert.key, (listed, now))

    def waits(self, state: State, key: Key) -> bool:
        """Whether this is still to be sent."""
        return key in self._waiting[state]

    def drop(self, state: State, key: Key) -> None:
        """Do not send this."""
        if key in self._waiting[state]:
            del self._waiting[state][key]

    def take(self, now: int) -> list[tuple[State, dict[Key, Listed]]]:
        """What is sent now: at most one group of each state."""
        taken = []
        for state, waiting in self._waiting.items():
            free = {rule for rule in {key[0] for key in waiting} if self._is_free((state, rule), now)}
            ready = {key: listed for key, (listed, _) in waiting.items() if key[0] in free}
            if not ready or now - min(waiting[key][1] for key in ready) < _TOGETHER:
                continue
            for key in ready:
                del waiting[key]
            for rule in {key[0] for key in ready}:
                self._spend((state, rule), now)
            taken.append((state, ready))
        return taken

    def _is_free(self, what: tuple[State, str], now: int) -> bool:
        left, since = self._left.get(what, (_AT_ONCE, now))
        left = min(_AT_ONCE, left + (now - since) / _EACH)
        if left >= _AT_ONCE:
            self._left.pop(what, None)
        return left >= 1

    def _spend(self, what: tuple[State, str], now: int) -> None:
        left, since = self._left.get(what, (_AT_ONCE, now))
        self._left[what] = min(_AT_ONCE, left + (now - since) / _EACH) - 1, now
