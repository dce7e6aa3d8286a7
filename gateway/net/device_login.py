"""The login of one connection: what the device showed goes to the gate, and its answer to the connection.

Stands between `gateway.net.device_side` and `gateway.auth.login_gate`. Decides nothing: the gate says who is
there, the registry whether there is room.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

from gateway.auth.login import Admission, Credentials, LoginRefused
from gateway.auth.login_gate import Peer
from gateway.connection.audit_vocabulary import Origin
from gateway.connection.commands import Authenticate
from gateway.connection.events import (
    Authenticated,
    AuthenticationFailed,
    Reauthenticated,
    ReauthenticationFailed,
)
from gateway.connection.state_table import State
from gateway.net.connection_registry import LiveConnection
from gateway.net.data_plane_parts import DataPlane
from gateway.net.fault_containment import contain
from gateway.net.peer_disconnect_check import has_left
from gateway.net.tls_contexts import certificate_name


class LoggingIn(LiveConnection, Protocol):
    """A connection that asks who is there: `gateway.net.device_side.DeviceSide`."""

    plane: DataPlane
    transport: asyncio.Transport | None
    waiting_for: asyncio.Task[None] | None
    """What the connection waits for, to be cancelled when the device leaves."""
    method: str
    """How it logged in: `secret`, `token` or `certificate`."""


def authenticate(link: LoggingIn, command: Authenticate) -> None:
    """Ask the gate who is there: at once if it knows what was shown, else in a task."""
    shown = Credentials(
        username=command.username,
        password=command.password,
        certificate_id=certificate_name(
            link.transport.get_extra_info("ssl_object") if link.transport else None
        ),
        token=command.token,
    )
    try:
        admission = link.plane.login.recognise(shown, _peer(link, link.plane.reports.stranger(link)))
    except LoginRefused as refused:
        _refuse(link, refused)
        return
    if admission is not None:
        _admit(link, admission)
    else:
        link.waiting_for = link.plane.tasks.start(contain(link, partial(_verify, link, shown)))


async def _verify(link: LoggingIn, shown: Credentials) -> None:
    try:
        admission = await link.plane.login.verify(shown, _peer(link, link.plane.reports.stranger(link)))
    except LoginRefused as refused:
        _refuse(link, refused)
        return
    finally:
        link.waiting_for = None  # a task is a kibibyte
    _admit(link, admission)


def reauthenticate(link: LoggingIn, token: bytes) -> None:
    """Ask the gate about another token of the same device (MQTT 5, 4.12.1)."""
    device = link.connection.device
    if device is None:
        return
    try:
        admission = link.plane.login.renew(
            device.device_id, token, _peer(link, link.plane.reports.origin(link))
        )
    except LoginRefused:
        link.receive(ReauthenticationFailed("The token is not good."))
        return
    if admission.grant is not None:
        link.receive(Reauthenticated(admission.device, admission.grant))


def _peer(link: LoggingIn, origin: Origin) -> Peer:
    return Peer(host=link.host, origin=origin, has_left=lambda: has_left(link.transport))


def _refuse(link: LoggingIn, refused: LoginRefused) -> None:
    link.claimed = refused.device_id
    link.receive(AuthenticationFailed(refused.reason))


def _admit(link: LoggingIn, admission: Admission) -> None:
    device = admission.device
    if link.connection.state is not State.AUTHENTICATING:
        return  # it did not wait for the answer
    no_room = link.plane.registry.admit(link, device.device_id)
    if no_room is not None:
        link.claimed = device.device_id
        link.plane.reports.no_room(link, device.device_id, *no_room)
        link.receive(AuthenticationFailed(no_room.reason))
        return
    link.method = admission.method
    link.receive(Authenticated(device, admission.grant))
