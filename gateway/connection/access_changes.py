"""The access of an established connection changes: other rules, a new token, a device changed or disabled.

A device that may not stay learns why, and the bus gets a DISCONNECT: the will of a device without rights must
not be published.
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
from gateway.connection.handler_outcomes import Ended, Result
from gateway.mqtt.encode import DISCONNECT, encode_auth
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.rules import Action


def will_refused(established: EstablishedConnection) -> Report | None:
    """Decide about its will once more. A report, which says why, if the bus may not keep it; else None."""
    will, authorizer = established.terms.will, established.authorizer
    if will is None:
        return None
    on_topic, decision = authorizer.will(will)
    authorizer.record(Action.PUBLISH, will.topic, on_topic)
    if decision.allowed:
        return None
    if not on_topic.with_message(will.qos, will.retain, will.size).allowed:
        authorizer.revoke_will(will)
    return refused_will(decision.reason, will.topic, decision.rule_location)


def policy_changed(established: EstablishedConnection, event: PolicyChanged) -> Result:
    """Other rules are in force, or the device was changed."""
    established.take_device(event.device)
    refused = will_refused(established)
    return [] if refused is None else _send_away(established, refused.reason, refused)


def renewed(established: EstablishedConnection, event: Reauthenticated) -> Result:
    """A new token takes the place of the one before (MQTT 5, 4.12.1)."""
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
    """An administrator ends it, without a DISCONNECT to the bus, so that the bus publishes the will."""
    return established.disconnect_device(Reason.ADMINISTRATIVE_ACTION, event.why)


def tick(established: EstablishedConnection, event: Tick) -> Result:
    """A second has passed: its token or certificate may have ended."""
    why = established.authorizer.expired
    return expired(established, why) if why else established.tick(event)


def expired(established: EstablishedConnection, why: str) -> Ended:
    """End it because its token or certificate has ended, as `why` says."""
    report = refused_session(why)
    return established.disconnect_device(Reason.NOT_AUTHORIZED, why, report, SendToBus(DISCONNECT))


def stop(established: EstablishedConnection, _: ShuttingDown) -> Result:
    """The gateway stops: the bus gets a DISCONNECT, for this is no reason to publish wills."""
    return established.disconnect_device(
        Reason.SERVER_SHUTTING_DOWN, "the gateway stops", SendToBus(DISCONNECT)
    )


def _send_away(established: EstablishedConnection, why: str, *reports: Report) -> Ended:
    return established.disconnect_device(Reason.NOT_AUTHORIZED, why, SendToBus(DISCONNECT), *reports)
