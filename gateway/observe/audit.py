"""The audit event in its final shape, and who is told of it.

Owns what an event says and the bound on how many lines it may cost. Must not know how a decision
was made. Each consumer gets every event; the log line is one consumer, and the trail in the store
joins as another. No event holds a payload, a secret or a token (promise 3).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum, auto

from gateway.core.counters import Counters
from gateway.core.rules import Action
from gateway.observe.logs import get_logger

_ACTIONS = frozenset(action.value for action in Action)
_TOPIC_MAX = 1_024


class Kind(StrEnum):
    """What the event is about."""

    LOGIN = auto()
    SESSION = auto()
    """A connection ended because access was withdrawn."""
    WILL = auto()
    PUBLISH = auto()
    SUBSCRIBE = auto()
    DELIVERY = auto()
    OPEN = auto()
    """A message on a sensitive topic did not open."""
    TOKEN = auto()
    """Issued, revoked, or asked for in vain."""
    KEY = auto()
    """A sealing or signing key was made, rotated, destroyed, exported or imported."""
    SERVICE = auto()
    """A call of a service topic."""
    DEVICE = auto()
    """A device was added, changed or removed."""
    OBSERVE = auto()
    """What the policy refuses passed, for its device is observed."""


class Outcome(StrEnum):
    """How it ended."""

    DONE = auto()
    REFUSED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One thing that somebody may have to account for."""

    time: int
    """Unix milliseconds."""
    kind: Kind
    outcome: Outcome
    reason: str
    """Why, in words for the administrator; never what a peer may not learn sent to that peer."""
    device: str | None = None
    address: str | None = None
    """Of the peer, `host:port`; of an administrator, `gateway-admin:name`."""
    request_id: str | None = None
    """What ties this event to others of the same connection or request."""
    topic: str | None = None
    action: str | None = None
    rule: str | None = None
    """`file:line` of the deciding rule."""
    id: str | None = None
    """Of what the policy refused a device: `gateway-admin acl why ID` explains it. `Audit.emit` gives it."""

    @property
    def explicable(self) -> bool:
        """Whether a device was refused an action on a topic, one that is short enough to be kept."""
        refused = self.outcome is Outcome.REFUSED and self.action in _ACTIONS
        return refused and bool(self.device and self.topic and len(self.topic) <= _TOPIC_MAX)


Consumer = Callable[[AuditEvent], None]


class Audit:
    """Counts each event by kind and outcome and hands it to every consumer, in order."""

    def __init__(self, counters: Counters, *consumers: Consumer) -> None:
        self._counters = counters
        self._consumers = consumers

    def emit(self, event: AuditEvent) -> None:
        """Tell everybody. Called on the data path: consumers must not block."""
        if event.explicable:
            event = replace(event, id=secrets.token_hex(5))
        self._counters.audit_events[event.kind, event.outcome] += 1
        for consumer in self._consumers:
            consumer(event)


class AuditLog:
    """The consumer that writes log lines, at most `lines_per_second` of them. `now` is in milliseconds.

    Callers bound what one connection may cost; this bound holds when thousands of connections are
    refused at once, so that an attack can't fill the disk or spend the gateway's time on writing.
    What was left out is counted and its number stands in the next line.
    """

    def __init__(self, counters: Counters, now: Callable[[], int], *, lines_per_second: int = 200) -> None:
        self._counters = counters
        self._now = now
        self._lines_per_second = lines_per_second
        self._second = 0
        self._lines = 0
        self._suppressed = 0
        self._log = get_logger()

    def __call__(self, event: AuditEvent) -> None:
        """Write one line, `info` for what was done and `warning` for the rest, or count it as left out."""
        second = self._now() // 1_000
        if second != self._second:
            self._second = second
            self._lines = 0
        if self._lines >= self._lines_per_second:
            self._suppressed += 1
            self._counters.audit_suppressed += 1
            return
        self._lines += 1
        write = self._log.info if event.outcome is Outcome.DONE else self._log.warning
        write(
            "audit",
            time=event.time,
            kind=event.kind,
            outcome=event.outcome,
            reason=event.reason,
            device=event.device,
            address=event.address,
            request_id=event.request_id,
            topic=event.topic,
            action=event.action,
            rule=event.rule,
            id=event.id,
            suppressed=self._suppressed or None,
        )
        self._suppressed = 0
