"""The audit event in its final shape: what it says, and of whom.

No event holds a payload, a secret or a token (promise 3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, auto

from gateway.policy.engine.rules import Action

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


class Source(StrEnum):
    """Whose doing it is, which says what bounds its number."""

    DEVICE = auto()
    """Of the device named, which has proven that it is that device."""
    STRANGER = auto()
    """Of a peer that has proven nothing: a device named is a claim."""
    HOUSE = auto()
    """Of the gateway itself or its administrators. There are never too many of these."""


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
    connection: str | None = None
    """Of a device: the same as in the lines "connected" and "closed"."""
    request_id: str | None = None
    """What ties this event to others of the same request."""
    topic: str | None = None
    action: str | None = None
    rule: str | None = None
    """`file:line` of the deciding rule."""
    id: str | None = None
    """Of what the policy refused a device: `gateway-admin acl why ID` explains it. `Audit.emit` gives it."""

    count: int = 1
    """How many this one stands for; more than one only where they were too many to be told one by one."""
    source: Source = field(default=Source.DEVICE, compare=False)
    """Not told, but what it costs is set against it."""

    @property
    def explicable(self) -> bool:
        """Whether a device was refused an action on a topic, one that is short enough to be kept."""
        refused = self.outcome is Outcome.REFUSED and self.action in _ACTIONS
        return refused and bool(self.device and self.topic and len(self.topic) <= _TOPIC_MAX)
