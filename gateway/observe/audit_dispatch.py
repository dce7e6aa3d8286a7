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
"""Logins that are held back to be handed on together."""
LEFT_OUT_LINES = 50
"""Lines a second for what got none; what finds no room there has its line in the next."""

Consumer = Callable[[AuditEvent], None]
KeepInTrail = Callable[[Mapping[str, object], Source], None]
"""Puts into the audit trail what a line says, of an event that has this source."""


class Audit:
    """Counts each event by kind and outcome and hands it to every consumer, in order.

    A login that was let in is held back for a fifth of a second, or until there is another event. It is the
    one event of an honest device that comes, it falls between CONNECT and CONNACK, and reports that are made
    together cost less than those that find all of this code cold.
    """

    def __init__(
        self,
        counters: Counters,
        *consumers: Consumer,
        watched: Container[str] = frozenset(),
        holds: Callable[[], None] = lambda: None,
    ) -> None:
        """`watched`: the devices that somebody looks at now; nothing of theirs is held back.

        `holds` is called when something is held back and nothing was: `hand_on_admissions` is due soon.
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
        """A device was let in, by `secret`, `certificate` or `token`, at this time (Unix milliseconds)."""
        if not self._admissions:
            self._holds()
        self._admissions.append((method, device_id, origin, now))
        if len(self._admissions) >= _ADMISSIONS_MAX or device_id in self._watched:
            self.hand_on_admissions()

    def hand_on_admissions(self) -> None:
        """Hand on the logins that are held back."""
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

    `now` is in milliseconds. A login that was let in is in the trail alone: the log says `connected`.

    So an attack can't fill the disk or spend the gateway's time on writing, nor use up the lines of anybody
    else. For what was left out there are lines that carry its number as `suppressed`, in the second after it.
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
        # Apart: a thousand devices that come back must not use up the lines of those that are refused.
        self._of_logins = AuditRateLimit()
        self._left_out = LeftOutCounts()
        self._second = 0
        self._log = get_logger()

    def __call__(self, event: AuditEvent) -> None:
        """Write one line, `info` for what was done and `warning` for the rest, or count it as left out."""
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
        """Write how many events got no line since the last such line, by device or place and by kind."""
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
        write = self._log.info if fields["outcome"] is Outcome.DONE else self._log.warning
        write("audit", **fields)
