"""The audit event in its final shape: what it says, and of whom.

No event holds a payload, a secret or a token (promise 3).
"""

from __future__ import annotations

import msgspec

from gateway.connection.audit_vocabulary import Kind, Origin, Outcome, Report, Source
from gateway.policy.engine.rules import Action

_ACTIONS = frozenset(action.value for action in Action)
_TOPIC_MAX = 1_024
ADMISSION = Kind.LOGIN, Outcome.DONE
"""What is reported of a login that was let in."""


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that somebody may have to account for.

    A struct, for there is one for each login: a frozen dataclass takes ten times as long to make.
    """

    time: int
    """Unix milliseconds."""
    kind: Kind
    outcome: Outcome
    reason: str
    """Why, in words for the administrator; never what a peer may not learn sent to that peer."""
    device: str | None = None
    address: str | None = None
    """Of the peer, `host:port`; of an administrator, `gateway-admin:name`."""
    connection: str | None = None
    """Of a device: the same as in the lines "connected" and "closed"."""
    request_id: str | None = None
    """What ties this event to others of the same request."""
    topic: str | None = None
    action: str | None = None
    rule: str | None = None
    """`file:line` of the deciding rule."""
    id: str | None = None
    """Of what the policy refused a device: `gateway-admin acl why ID` explains it. `Audit.emit` gives it.

    Of what an administrator did: by it the event is in the audit trail once.
    """
    kept_from: int | None = None
    """Of the audit trail: the first entry that is still kept."""

    count: int = 1
    """How many this one stands for; more than one only where they were too many to be written one by one."""
    source: Source = Source.DEVICE
    """Not written, but what it costs is set against it."""

    @classmethod
    def of(cls, report: Report, origin: Origin, time: int) -> AuditEvent:
        """What was reported, of whom, at this time (Unix milliseconds)."""
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
        """Whether a device was refused an action on a topic, one that is short enough to be kept."""
        if self.kind is Kind.LIMIT:
            return self.outcome is Outcome.REFUSED and bool(self.device)
        refused = self.outcome is Outcome.REFUSED and self.action in _ACTIONS
        return refused and bool(self.device and self.topic and len(self.topic) <= _TOPIC_MAX)
