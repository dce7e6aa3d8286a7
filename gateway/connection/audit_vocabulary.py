"""The audit language: the kinds of audit events, and the reports that become one, each made here.

A report says what happened, an `Origin` whose doing it was; `gateway.observe.audit_event` makes an event of
both. Nobody else names a kind or an outcome: there is a function for each thing that is reported, with its
fields. Kinds, outcomes and fields are public, in log lines and metrics: none is renamed. No report holds a
payload, a secret or a token (promise 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto

from gateway.policy.engine.rules import Action
from gateway.policy.engine.service_names import Service


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
    """A token was issued, revoked, or refused."""
    KEY = auto()
    """A sealing or signing key was made, rotated, destroyed, exported or imported."""
    SERVICE = auto()
    """A call of a service topic."""
    DEVICE = auto()
    """A device was added, changed or removed."""
    OBSERVE = auto()
    """What the policy would refuse passed, for its device is observed."""
    HEALTH = auto()
    """A check of health found something different from before."""
    POLICY = auto()
    """A changed policy is in force, or was refused."""
    CERTIFICATE = auto()
    """A certificate was made or taken up, or could not be."""
    ALERT = auto()
    """An alert began or is over."""
    GATEWAY = auto()
    """The gateway started or stopped."""
    AUDIT = auto()
    """Of the audit trail itself: it began, was repaired, or dropped what is too old."""
    LIMIT = auto()
    """A device reached one of its limits: it is read more slowly, or its connection ended."""


class Outcome(StrEnum):
    """What came of it."""

    BEGUN = auto()
    """It is about to be done: a later event says what came of it, unless the process was killed meanwhile."""
    DONE = auto()
    REFUSED = auto()
    FAILED = auto()


class Source(StrEnum):
    """Who caused it: each source has a bound of its own on the number of events."""

    DEVICE = auto()
    """The device named, which is authenticated."""
    STRANGER = auto()
    """A peer that is not authenticated: the device named is only claimed."""
    HOUSE = auto()
    """The gateway itself or its administrators: unbounded."""


@dataclass(slots=True, kw_only=True)
class Origin:
    """Whom a report is about, and what ties it to other lines of the log.

    Never changed once it is made; not frozen, for that would take three times as long at each login.
    """

    source: Source
    device: str | None = None
    address: str | None = None
    """Of the peer, `host:port`; of an administrator, `gateway-admin:name`."""
    connection: str | None = None
    """Of a device: the same as in the lines "connected" and "closed"."""
    request_id: str | None = None
    """What ties this event to others of the same request."""


HOUSE = Origin(source=Source.HOUSE)


@dataclass(slots=True)
class Report:
    """What admins are to learn: it becomes an audit event. A topic is a peer's word, and may be anything."""

    kind: Kind
    outcome: Outcome
    reason: str
    """Why, in words for the administrator. A peer gets it only where it may learn that."""
    action: str = ""
    topic: str = ""
    rule: str = ""
    """`file:line` of the deciding rule."""
    count: int = 1
    """How many times it happened since it was last reported."""
    kept_from: int | None = None
    """Of the audit trail: the first entry that is still kept."""


# Who may come in, and who has to go


def refused_login(why: str, through: str = "") -> Report:
    """A login was refused. `through` names the way in, if it was not a CONNECT."""
    return Report(Kind.LOGIN, Outcome.REFUSED, why, through)


def done_login(method: str) -> Report:
    """A device was let in: by `secret`, `certificate` or `token`."""
    return Report(Kind.LOGIN, Outcome.DONE, f"by {method}", method)


def refused_session(why: str) -> Report:
    """A device that was let in can't stay, or has no room for its session."""
    return Report(Kind.SESSION, Outcome.REFUSED, why)


# Messages


def refused_will(why: str, topic: str, rule: str = "") -> Report:
    """A will is not taken, or not any more."""
    return Report(Kind.WILL, Outcome.REFUSED, why, Action.PUBLISH, topic, rule)


def refused_publish(why: str, topic: str, rule: str = "") -> Report:
    """A message of a device does not pass."""
    return Report(Kind.PUBLISH, Outcome.REFUSED, why, Action.PUBLISH, topic, rule)


def refused_subscribe(why: str, topic_filter: str, rule: str = "") -> Report:
    """One filter of a SUBSCRIBE is not granted."""
    return Report(Kind.SUBSCRIBE, Outcome.REFUSED, why, Action.SUBSCRIBE, topic_filter, rule)


def refused_delivery(why: str, topic: str, rule: str = "") -> Report:
    """A message of the bus is not for this device."""
    return Report(Kind.DELIVERY, Outcome.REFUSED, why, Action.SUBSCRIBE, topic, rule)


def failed_delivery(why: str) -> Report:
    """A message of the bus was too long to be read, or had too many properties; its topic is not known."""
    return Report(Kind.DELIVERY, Outcome.FAILED, why)


def failed_open(why: str, topic: str) -> Report:
    """A message on a sensitive topic is no sealed message of ours."""
    return Report(Kind.OPEN, Outcome.FAILED, why, Action.DECRYPT, topic)


def observed(why: str, action: Action, topic: str, rule: str) -> Report:
    """What would be refused passed: the device is observed."""
    return Report(Kind.OBSERVE, Outcome.DONE, f"Would be refused: {why}", action, topic, rule)


def reached_limit(why: str, location: str) -> Report:
    """A device reached a limit; `location` is where the limit stands, `file:line` if a role sets it."""
    return Report(Kind.LIMIT, Outcome.REFUSED, why, rule=location)


def left_out(kind: Kind, outcome: Outcome, count: int) -> Report:
    """This many reports of a kind and outcome were only counted."""
    return Report(kind, outcome, "more of these than are reported one by one", count=count)


# The gateway itself


def failed_health(why: str) -> Report:
    """A check of health finds what is not well, or not any more."""
    return Report(Kind.HEALTH, Outcome.FAILED, why)


def restored_health(why: str) -> Report:
    """A check of health finds all well again."""
    return Report(Kind.HEALTH, Outcome.DONE, why)


# Services and tokens


def refused_service(why: str, service: Service, topic: str, rule: str) -> Report:
    """A call of a service is not granted."""
    return Report(Kind.SERVICE, Outcome.REFUSED, why, service, topic, rule)


def failed_service(why: str, service: Service, topic: str, rule: str) -> Report:
    """A call of a service could not be answered as it should."""
    return Report(Kind.SERVICE, Outcome.FAILED, why, service, topic, rule)


def issued_token(token_id: str, through: str) -> Report:
    """A device has a token; `through` is what gave it, the service `auth` or the `api`."""
    return Report(Kind.TOKEN, Outcome.DONE, f"issued {token_id}", through)


def refused_token(why: str, through: str = "") -> Report:
    """No token was issued."""
    return Report(Kind.TOKEN, Outcome.REFUSED, why, through)


# What the gateway and its administrators do


def changed_device(what: str) -> Report:
    """A device was added, changed or removed."""
    return Report(Kind.DEVICE, Outcome.DONE, what)


def kicked_device(what: str) -> Report:
    """An administrator ends the connections of a device."""
    return Report(Kind.SESSION, Outcome.DONE, what)


def traced_device(what: str) -> Report:
    """An administrator begins to look at a device's packets."""
    return Report(Kind.DEVICE, Outcome.DONE, what)


def changed_token(what: str) -> Report:
    """An administrator issued tokens or revoked them."""
    return Report(Kind.TOKEN, Outcome.DONE, what)


def changed_key(what: str) -> Report:
    """A key was made, rotated, destroyed, exported or imported."""
    return Report(Kind.KEY, Outcome.DONE, what)


def begun_key_change(what: str) -> Report:
    """What is about to be done to keys, or with them."""
    return Report(Kind.KEY, Outcome.BEGUN, what)


def begun_certificate_change(what: str) -> Report:
    """What is about to be done to certificates, their keys or a CA."""
    return Report(Kind.CERTIFICATE, Outcome.BEGUN, what)


def failed_change(begun: Report, why: str) -> Report:
    """What was begun failed, at least in part."""
    return Report(begun.kind, Outcome.FAILED, f"{begun.reason}: {why}")


def saved_all() -> Report:
    """A backup of the whole gateway was written."""
    return Report(Kind.KEY, Outcome.DONE, "all keys, devices and the policy exported to a backup")


def restored_all(what: str) -> Report:
    """The gateway was brought back from a backup: of which moment, and what of it."""
    return Report(Kind.KEY, Outcome.DONE, f"restored from a backup: {what}")


def put_policy_in_force(digest: str) -> Report:
    """A changed policy is in force."""
    return Report(Kind.POLICY, Outcome.DONE, f"policy {digest} is in force")


def refused_policy(why: str) -> Report:
    """A changed policy has problems; the one before it stays in force."""
    return Report(Kind.POLICY, Outcome.REFUSED, why)


def changed_certificate(what: str) -> Report:
    """A certificate, its key or a CA was made or taken up."""
    return Report(Kind.CERTIFICATE, Outcome.DONE, what)


def failed_certificate(why: str) -> Report:
    """A changed certificate can't be used; the one before it stays in force."""
    return Report(Kind.CERTIFICATE, Outcome.FAILED, why)


def fired_alert(name: str, severity: str, summary: str) -> Report:
    """An alert began. No value that a peer chose in `summary`."""
    return Report(Kind.ALERT, Outcome.FAILED, f"{name} ({severity}): {summary}", name)


def resolved_alert(name: str, severity: str, summary: str) -> Report:
    """An alert is over."""
    return Report(Kind.ALERT, Outcome.DONE, f"{name} ({severity}) is over: {summary}", name)


def changed_silence(what: str) -> Report:
    """An administrator silenced alerts, or ended a silence."""
    return Report(Kind.ALERT, Outcome.DONE, what)


def changed_gateway(what: str) -> Report:
    """The gateway started or stops."""
    return Report(Kind.GATEWAY, Outcome.DONE, what)


def changed_trail(what: str, kept_from: int | None = None) -> Report:
    """The audit trail began, or what is too old was dropped from it."""
    return Report(Kind.AUDIT, Outcome.DONE, what, kept_from=kept_from)


def failed_trail(what: str) -> Report:
    """Something is, or was, wrong with the audit trail or the clock it goes by."""
    return Report(Kind.AUDIT, Outcome.FAILED, what)


def report_of_admin(kind: str, outcome: str, reason: str) -> Report:
    """What `gateway-admin` left in the store, made above in its process. Raises ValueError for any other."""
    return Report(Kind(kind), Outcome(outcome), reason)
