"""The login of one connection: takes its credentials to the login gate, and the gate's answer back.

Stands between `gateway.net.device_side` and `gateway.auth.login_gate`. Decides nothing: the gate says which
device it is, the registry whether there is room.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

from gateway.auth.credentials import Admission, Credentials, LoginRefused
from gateway.auth.login_gate import Peer
from gateway.connection.audit_vocabulary import Origin
from gateway.connection.commands import Authenticate
from gateway.connection.events import (
    Authenticated,
    AuthenticationFailed,
    Reauthenticated,
    ReauthenticationFailed,
)
from gateway.connection.transition_table import State
from gateway.net.data_plane_parts import DataPlane
from gateway.net.fault_containment import contain
from gateway.net.live_connections import LiveConnection
from gateway.net.peer_disconnect_check import has_left
from gateway.net.tls_contexts import client_certificate


class LoggingIn(LiveConnection, Protocol):
    """A connection that logs in: `gateway.net.device_side.DeviceSide`."""

    plane: DataPlane
    transport: asyncio.Transport | None
    waiting_for: asyncio.Task[None] | None
    """The task that the connection waits for, to be cancelled when the device leaves."""
    method: str
    """How it logged in: `secret`, `token` or `certificate`."""


def authenticate(side: LoggingIn, command: Authenticate) -> None:
    """Ask the gate which device this is: at once if it knows the credentials, else in a task."""
    shown = Credentials(username=command.username, password=command.password, token=command.token)
    tls = side.transport.get_extra_info("ssl_object") if side.transport else None
    certificate = client_certificate(tls, side.plane.context.now())
    if certificate is not None:
        shown.certificate_id, shown.certificate_ends, shown.certificate_fault = certificate
    try:
        admission = side.plane.login.recognise(shown, _peer(side, side.plane.reports.stranger(side)))
    except LoginRefused as refused:
        _refuse(side, refused)
        return
    if admission is not None:
        _admit(side, admission)
    else:
        side.waiting_for = side.plane.tasks.start(contain(side, partial(_verify, side, shown)))


async def _verify(side: LoggingIn, shown: Credentials) -> None:
    try:
        admission = await side.plane.login.verify(shown, _peer(side, side.plane.reports.stranger(side)))
    except LoginRefused as refused:
        _refuse(side, refused)
        return
    finally:
        side.waiting_for = None  # a task holds a kibibyte
    _admit(side, admission)


def reauthenticate(side: LoggingIn, token: bytes) -> None:
    """Ask the gate about a new token of the same device (MQTT 5, 4.12.1)."""
    device = side.connection.device
    if device is None:
        return
    try:
        admission = side.plane.login.renew(
            device.device_id, token, _peer(side, side.plane.reports.origin(side))
        )
    except LoginRefused:
        side.receive(ReauthenticationFailed("The token is not good."))
        return
    if admission.grant is not None:
        side.receive(Reauthenticated(admission.device, admission.grant))


def _peer(side: LoggingIn, origin: Origin) -> Peer:
    return Peer(host=side.host, origin=origin, has_left=lambda: has_left(side.transport))


def _refuse(side: LoggingIn, refused: LoginRefused) -> None:
    side.claimed = refused.device_id
    side.receive(AuthenticationFailed(refused.reason))


def _admit(side: LoggingIn, admission: Admission) -> None:
    device = admission.device
    if side.connection.state is not State.AUTHENTICATING:
        return  # it did not wait for the answer
    no_room = side.plane.registry.admit(side, device.device_id)
    if no_room is not None:
        side.claimed = device.device_id
        side.plane.reports.no_room(side, device.device_id, *no_room)
        side.receive(AuthenticationFailed(no_room.reason))
        return
    side.method = admission.method
    side.receive(Authenticated(device, admission.grant, admission.certificate_ends))
