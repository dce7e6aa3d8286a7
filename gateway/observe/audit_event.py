"""The audit event in its final form: what it says, and about whom.

No event holds a payload, a secret or a token (promise 3).
"""

from __future__ import annotations

import msgspec

from gateway.connection.audit_vocabulary import Kind, Origin, Outcome, Report, Source
from gateway.policy.engine.rules import Action

_ACTIONS = frozenset(action.value for action in Action)
_TOPIC_MAX = 1_024
ADMISSION = Kind.LOGIN, Outcome.DONE
"""Kind and outcome of a successful login."""


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that somebody may have to account for.

    A msgspec struct, for each login makes one: a frozen dataclass takes ten times as long to make.
    """

    time: int
    """Unix milliseconds."""
    kind: Kind
    outcome: Outcome
    reason: str
    """Why, in words for administrators. It is never sent to the peer, which may not learn all of it."""
    device: str | None = None
    address: str | None = None
    """That of the peer, `host:port`; for an administrator, `gateway-admin:name`.

    For a gateway that makes its own first keys and certificates, `gateway`.
    """
    connection: str | None = None
    """The id of a device's connection: the same as in the log lines "connected" and "closed"."""
    request_id: str | None = None
    """The same in all events of one request."""
    topic: str | None = None
    action: str | None = None
    rule: str | None = None
    """`file:line` of the deciding rule."""
    id: str | None = None
    """Given by `Audit.emit` to what the policy refused a device: `gateway-admin acl why ID` explains it.

    Given by `gateway-admin` to what an administrator did: by it the event is in the audit trail only once.
    """
    kept_from: int | None = None
    """In an event about the audit trail: the number of the first entry that is still kept."""

    count: int = 1
    """How many events this one stands for: more than one if there were too many to write one by one."""
    source: Source = Source.DEVICE
    """Who caused it, which decides what rate limit it is subject to. Not written."""

    @classmethod
    def of(cls, report: Report, origin: Origin, time: int) -> AuditEvent:
        """The event of what was reported, about whom (`origin`), at `time` (Unix milliseconds)."""
        return cls(
            time=time,
            kind=report.kind,
            outcome=report.outcome,
            reason=report.reason,
            device=origin.device,
            address=origin.address,
            connection=origin.connection,
            request_id=origin.request_id,
            topic=report.topic or None,
            action=report.action or None,
            rule=report.rule or None,
            kept_from=report.kept_from,
            count=report.count,
            source=origin.source,
        )

    @property
    def explicable(self) -> bool:
        """Whether `acl why` can explain it: a limit, or a refused action on a topic that is short enough."""
        if self.kind is Kind.LIMIT:
            return self.outcome is Outcome.REFUSED and bool(self.device)
        refused = self.outcome is Outcome.REFUSED and self.action in _ACTIONS
        return refused and bool(self.device and self.topic and len(self.topic) <= _TOPIC_MAX)
