"""The access of an established connection changes: other rules, a new token, a device changed or disabled.

Whoever may not stay learns why, and the bus hears a DISCONNECT: the will of a device without rights is not
to be published.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.connection.audit_vocabulary import Report, refused_login, refused_session, refused_will
from gateway.connection.commands import SendToBus, SendToDevice
from gateway.connection.connect import METHOD_PROPERTY
from gateway.connection.established import EstablishedConnection
from gateway.connection.events import (
    AccessWithdrawn,
    Kicked,
    PolicyChanged,
    Reauthenticated,
    ReauthenticationFailed,
    ShuttingDown,
    Tick,
)
from gateway.connection.transition_outcomes import Over, Result
from gateway.mqtt.encode import DISCONNECT, encode_auth
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.rules import Action

EXPIRED = "The token has expired."
"""What device and admins learn of it."""


def will_refused(established: EstablishedConnection) -> Report | None:
    """Judge and record its will anew. A report says why the bus may not keep it."""
    will, authorizer = established.terms.will, established.authorizer
    if will is None:
        return None
    on_topic, decision = authorizer.will(will)
    authorizer.record(Action.PUBLISH, will.topic, on_topic)
    if decision.allowed:
        return None
    if not on_topic.with_message(will.qos, will.retain, will.size).allowed:
        authorizer.take_back(will)
    return refused_will(decision.reason, will.topic, decision.rule_location)


def policy_changed(established: EstablishedConnection, event: PolicyChanged) -> Result:
    """Other rules are in force, or the device was changed."""
    established.take_device(event.device)
    refused = will_refused(established)
    return [] if refused is None else _send_away(established, refused.reason, refused)


def renewed(established: EstablishedConnection, event: Reauthenticated) -> Result:
    """A new token took the place of the one before (MQTT 5, 4.12.1)."""
    identity = established.identity
    if replace(identity, grant=event.grant).namespace != identity.namespace:
        why = "The token was narrowed otherwise than that of the session."
        return _send_away(established, why, refused_login(why))
    established.take_rules(event.device, event.grant)
    refused = will_refused(established)
    if refused is not None:
        return _send_away(established, refused.reason, refused)
    return [SendToDevice(encode_auth(Reason.SUCCESS, [METHOD_PROPERTY]))]


def withdrawn(established: EstablishedConnection, event: AccessWithdrawn | ReauthenticationFailed) -> Result:
    """The device may not stay."""
    return _send_away(established, event.why)


def kicked(established: EstablishedConnection, event: Kicked) -> Result:
    """An administrator ends the connection: as if it had broken, so that the bus publishes the will."""
    return established.farewell(Reason.ADMINISTRATIVE_ACTION, event.why)


def tick(established: EstablishedConnection, event: Tick) -> Result:
    """A second went by, and perhaps the time of the token it was opened with, or that renewed it."""
    return expired(established) if established.authorizer.expired else established.tick(event)


def expired(established: EstablishedConnection) -> Over:
    """The time of its token is over."""
    report = refused_session(EXPIRED)
    return established.farewell(Reason.NOT_AUTHORIZED, EXPIRED, report, SendToBus(DISCONNECT))


def stop(established: EstablishedConnection, _: ShuttingDown) -> Result:
    """The gateway stops: a plan of ours is no reason to publish a will, and the bus keeps the session."""
    return established.farewell(Reason.SERVER_SHUTTING_DOWN, "the gateway stops", SendToBus(DISCONNECT))


def _send_away(established: EstablishedConnection, why: str, *reports: Report) -> Over:
    return established.farewell(Reason.NOT_AUTHORIZED, why, SendToBus(DISCONNECT), *reports)
