"""Who gets an audit event, and what the log says of it.

Must not know how a decision was made. Each consumer gets every event, and bounds what it does with it by a
rate limit of its own. The log and the audit trail are one consumer: what has a line in the log has an entry
in the trail.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Container, Mapping

from msgspec.structs import replace

from gateway.connection.audit_vocabulary import Origin, Outcome, Source, done_login
from gateway.connection.process_counters import Counters
from gateway.observe.audit_event import ADMISSION, AuditEvent
from gateway.observe.audit_rate_limit import AuditRateLimit, LeftOutCounts
from gateway.observe.logs import get_logger

__all__ = ["Audit", "AuditEvent", "AuditLog", "Consumer", "KeepInTrail"]

_ADMISSIONS_MAX = 64
"""Logins that are held back, at most, to be handed on together."""
LEFT_OUT_LINES = 50
"""Lines per second that count events which got none of their own; what finds no room there waits a second."""

Consumer = Callable[[AuditEvent], None]
KeepInTrail = Callable[[Mapping[str, object], Source], None]
"""Puts the fields of a line into the audit trail; the second argument is the source of its event."""


class Audit:
    """Counts each event by kind and outcome and hands it to every consumer, in order.

    A successful login (an admission) is held back for a fifth of a second, or until there is another event.
    It is the one event that an honest device causes, it comes between CONNECT and CONNACK, and several that
    are reported together cost less than each alone, for which none of this code is in the processor's cache.
    """

    def __init__(
        self,
        counters: Counters,
        *consumers: Consumer,
        watched: Container[str] = frozenset(),
        holds: Callable[[], None] = lambda: None,
    ) -> None:
        """`watched`: the devices that are traced now (`control.traces`), of which no login is held back.

        `holds` is called when a first login is held back: `hand_on_admissions` then has to be called soon.
        """
        self._holds = holds
        self._counters = counters
        self._consumers = consumers
        self._watched = watched
        self._admissions: list[tuple[str, str, Origin, int]] = []

    def add(self, consumer: Consumer) -> None:
        """Hand every event to this one, too."""
        self._consumers = (*self._consumers, consumer)

    def emit(self, event: AuditEvent) -> None:
        """Hand the event to every consumer. Called on the data path: consumers must not block."""
        if self._admissions:
            self.hand_on_admissions()
        self._hand_on(event)

    def admitted(self, method: str, device_id: str, origin: Origin, now: int) -> None:
        """A device has logged in, by `secret`, `certificate` or `token`, at `now` (Unix milliseconds)."""
        if not self._admissions:
            self._holds()
        self._admissions.append((method, device_id, origin, now))
        if len(self._admissions) >= _ADMISSIONS_MAX or device_id in self._watched:
            self.hand_on_admissions()

    def hand_on_admissions(self) -> None:
        """Hand the logins that are held back to every consumer."""
        admissions, self._admissions = self._admissions, []
        for method, device_id, origin, time in admissions:
            known = Origin(
                source=Source.DEVICE,
                device=device_id,
                address=origin.address,
                connection=origin.connection,
                request_id=origin.request_id,
            )
            self._hand_on(AuditEvent.of(done_login(method), known, time))

    def _hand_on(self, event: AuditEvent) -> None:
        if event.explicable:
            event = replace(event, id=secrets.token_hex(5))
        self._counters.audit_events[event.kind, event.outcome] += event.count
        for consumer in self._consumers:
            consumer(event)


class AuditLog:
    """The consumer that writes log lines and entries of the trail, as many as an `AuditRateLimit` allows.

    `now` gives Unix milliseconds. A successful login is in the trail alone: the log has `connected` for it.

    An attack can neither fill the disk, nor have the gateway spend its time on writing, nor use up the lines
    of anybody else. What got no line of its own (was left out) is counted in lines of the next second, as
    `suppressed`.
    """

    def __init__(
        self,
        counters: Counters,
        now: Callable[[], int],
        rate_limit: AuditRateLimit | None = None,
        keep: KeepInTrail = lambda *_: None,
    ) -> None:
        self._keep = keep
        self._counters = counters
        self._now = now
        self._rate_limit = rate_limit or AuditRateLimit()
        # A limit of its own: a thousand devices that come back must not use up the lines of refusals.
        self._of_logins = AuditRateLimit()
        self._left_out = LeftOutCounts()
        self._second = 0
        self._log = get_logger()

    def __call__(self, event: AuditEvent) -> None:
        """Write one line, `info` for what was done and `warning` for all else, or count it as left out."""
        now = self._now()
        if now // 1_000 != self._second:
            self._second = now // 1_000
            self.log_left_out()
        rate_limit = self._of_logins if (event.kind, event.outcome) == ADMISSION else self._rate_limit
        if not rate_limit.admits(event, now):
            self._left_out.count(event)
            self._counters.audit_suppressed += event.count
            return
        self._write(
            event.source,
            time=event.time,
            kind=event.kind,
            outcome=event.outcome,
            reason=event.reason,
            device=event.device,
            address=event.address,
            connection=event.connection,
            request_id=event.request_id,
            topic=event.topic,
            action=event.action,
            rule=event.rule,
            id=event.id,
            kept_from=event.kept_from,
        )

    def log_left_out(self, most: int = LEFT_OUT_LINES) -> None:
        """Write how many events were left out since the last time: a line per device or place, and kind."""
        now = self._now()
        for left_out, count in self._left_out.take(most):
            self._write(
                Source.DEVICE,
                time=now,
                kind=left_out.kind,
                outcome=left_out.outcome,
                reason="more of these than are written one by one",
                device=left_out.device,
                network=left_out.place,
                suppressed=count,
            )

    def _write(self, source: Source, **fields: object) -> None:
        self._keep(fields, source)
        if (fields["kind"], fields["outcome"]) == ADMISSION:
            return
        harmless = fields["outcome"] in {Outcome.BEGUN, Outcome.DONE}
        write = self._log.info if harmless else self._log.warning
        write("audit", **fields)
