"""What all device links of a process use: who decides on logins, where the bus is, whom to tell.

Also the register of live connections, so that a decision reaches them at once (promise 6).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from gateway.auth.login_gate import LoginGate
from gateway.connection.audit_event_kinds import Origin, Report, Source, refused_login, refused_session
from gateway.connection.commands import Call
from gateway.connection.context import Context
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import AccessWithdrawn, Answer, Event, PolicyChanged
from gateway.connection.state_table import State
from gateway.mqtt.reasons import Reason
from gateway.net.connection_log import ConnectionLog
from gateway.net.fair_queue import Crowd
from gateway.net.refusal_log_limit import RefusedStrangers
from gateway.net.tasks import Tasks
from gateway.net.turns import Turns
from gateway.net.unread_answers import UnreadAnswers
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.logs import get_logger
from gateway.policy.engine.identity import Device, Grant, Identity
from gateway.system.addresses import network_of, shown

_NEWCOMERS_MAX = 512
"""Peers that may take their time over a CONNECT at once: with 220 KiB each, when it has its longest size, it
bounds their memory."""
_TOLD_TOGETHER = 64
"""Connections told of a change in one go: about a millisecond."""


class LiveConnection(Protocol):
    """One of those that are registered: `gateway.net.device_side.DeviceSide`."""

    connection: DeviceConnection
    address: str
    """Of the peer, `host:port`."""
    connection_id: str
    """Ties together what is logged of this connection."""
    claimed: str | None
    """The device it says it is, if that is a device id at all."""
    turn: int
    """In which part of a second it gets its tick."""

    @property
    def host(self) -> str:
        """The IP address, without the port."""

    def receive(self, event: Event) -> None:
        """Give the connection an event and do what it says."""

    def tick(self, now: float, second: int) -> None:
        """A second went by: the one of this number."""

    def fault(self, error: Exception) -> None:
        """A fault of ours: it ends this connection and no other."""

    def turn_away(self, why: str) -> None:
        """End it before anybody is authenticated."""

    def abort(self, why: str) -> None:
        """End it now, whatever is still to be written. `why` is for the log."""

    def unwritten(self) -> bool:
        """Whether bytes for the bus are still to leave, the last of which may be a goodbye."""


@dataclass(slots=True)
class Bus:
    """Where Mosquitto is, and whether it answered when it was last asked."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    reachable: bool = False
    detail: str = "not asked yet"

    def answered(self) -> None:
        """It took a connection."""
        self.reachable, self.detail = True, shown(self.host, self.port)

    def failed(self, why: str) -> None:
        """It did not."""
        self.reachable, self.detail = False, f"{shown(self.host, self.port)}: {why}"


@dataclass(slots=True)
class ConnectionRegistry:
    """One for all links of a process."""

    context: Context
    bus: Bus
    login: LoginGate
    audit: Audit
    tasks: Tasks
    find: Callable[[str], Device | None]
    """The device of this id as the store has it now."""
    services: Callable[[Call, Identity], Answer]
    """Answers a request to the gateway itself. Must not block, and never raises for what a device asks."""
    turns: Turns = field(init=False)
    unread: UnreadAnswers = field(default_factory=UnreadAnswers)
    may_connect: Callable[[str], bool] = lambda _: True
    """Whether the device of this id may open one more connection now. It counts if it may."""
    room: int = 2**31
    """Established connections for which the system gives file descriptors."""
    connects: ConnectionLog = field(default_factory=ConnectionLog)
    """What of connections that come and go is told."""
    log: FilteringBoundLogger = field(default_factory=lambda: get_logger().bind())
    """For what is written of each connection: made once, for to make one takes longer than most lines."""
    turned_away: RefusedStrangers = field(default_factory=RefusedStrangers)
    """What of strangers is told."""
    links: set[LiveConnection] = field(default_factory=set)
    """All connections, from the end of the TLS handshake on."""
    _newcomers: Crowd[LiveConnection] = field(default_factory=Crowd)
    """Those of them that have not said who they are."""
    _by_device: dict[str, set[LiveConnection]] = field(default_factory=dict)
    _admitted: dict[LiveConnection, str] = field(default_factory=dict)
    """Those that were let in, and the device of each."""

    def __post_init__(self) -> None:
        self.turns = Turns(self.context.budgets.work)

    def arrived(self, link: LiveConnection) -> None:
        """A peer is there, and nobody knows who. Of too many the oldest of the largest crowd goes."""
        if len(self._newcomers) >= _NEWCOMERS_MAX:
            crowded_out, _ = self._newcomers.first_to_go()
            self._newcomers.remove(crowded_out)
            crowded_out.turn_away("others wait, and it has not said who it is")
        self.links.add(link)
        self._newcomers.add(link, network_of(link.host))

    def introduced(self, link: LiveConnection) -> None:
        """Its CONNECT is there."""
        self._newcomers.remove(link)

    def admit(self, link: LiveConnection, device: Device) -> Reason | None:
        """Take a device in; a reason, which is told within bounds, when there is no room for it."""
        limits = self.context.policy.limits
        same = self._by_device.get(device.device_id, ())
        if not self.may_connect(device.device_id):
            why = "more connects a minute than acl/limits.toml allows"
            return self._turn_away(link, device, Reason.CONNECTION_RATE_EXCEEDED, why)
        full = len(self._admitted) >= min(limits.connections, self.room)
        if full or len(same) >= limits.connections_per_device:
            why = "as many connections as acl/limits.toml allows"
            return self._turn_away(link, device, Reason.QUOTA_EXCEEDED, why)
        self._by_device.setdefault(device.device_id, set()).add(link)
        self._admitted[link] = device.device_id
        return None

    def _turn_away(self, link: LiveConnection, device: Device, reason: Reason, why: str) -> Reason:
        if self.connects.first_turned_away(device.device_id, reason):
            self.tell(link, refused_login(why), proven=True)
        return reason

    def forget(self, link: LiveConnection) -> None:
        """The connection is gone."""
        self.links.discard(link)
        self._newcomers.remove(link)
        device_id = self._admitted.pop(link, None)
        if device_id is None:
            return
        same = self._by_device[device_id]
        same.discard(link)
        if not same:
            del self._by_device[device_id]

    async def policy_changed(self) -> None:
        """Another policy is in force: every live connection is judged by it from its next packet on."""

        def tell(link: LiveConnection) -> None:
            if link.connection.device is not None:
                link.receive(PolicyChanged(link.connection.device))

        await _each(list(self._admitted), tell)

    def devices_changed(self, touched: frozenset[str]) -> None:
        """These devices were added, changed or removed in the store: their connections are told.

        Nobody comes in by what was before: `find` says what is now.
        """
        live = [link for device_id in touched for link in self._by_device.get(device_id, ())]
        if live:
            self.tasks.start(_each(live, self._device_changed))

    def _device_changed(self, link: LiveConnection) -> None:
        was = link.connection.device
        if was is None or link.connection.state is State.CLOSED:
            return
        consequence = self._consequence(link, was, self.find(was.device_id))
        if isinstance(consequence, AccessWithdrawn):
            self.tell(link, refused_session(consequence.why))
        link.receive(consequence)

    async def keys_changed(self, distrust: Callable[[Grant], str]) -> None:
        """Other keys verify tokens: end the connections whose token is not good any more.

        `distrust` says why one is not; empty when it is. Whoever comes in meanwhile is judged by those keys.
        """
        why = "The key that signed the token was destroyed, or its time is over."

        def tell(link: LiveConnection) -> None:
            grant = link.connection.identity.grant if link.connection.identity is not None else None
            if grant is not None and link.connection.state is not State.CLOSED and distrust(grant):
                self.tell(link, refused_session(why))
                link.receive(AccessWithdrawn(why))

        await _each(list(self._admitted), tell)

    def _consequence(self, link: LiveConnection, was: Device, device: Device | None) -> Event:
        if device is None:
            return AccessWithdrawn("The device was removed.")
        if not device.enabled:
            return AccessWithdrawn("The device was disabled.")
        if device.version != was.version:
            return AccessWithdrawn("The device has another secret.")
        identity = link.connection.identity
        if identity is not None and identity.grant is not None and device.has_revoked(identity.grant):
            return AccessWithdrawn("The token was revoked.")
        return PolicyChanged(device)

    def turn_away(self, link: LiveConnection, why: str) -> None:
        """Tell that nobody was authenticated on this link, unless the same was told of the same network."""
        if self.turned_away.first(link.host, why):
            self.tell(link, refused_login(why))

    def tell(self, link: LiveConnection, report: Report, *, proven: bool = False) -> None:
        """Make an audit event of a report. `proven`: the device has shown who it is, and was not let in."""
        self.audit.emit(AuditEvent.of(report, self.origin(link, proven=proven), self.context.now()))

    def origin(self, link: LiveConnection, *, proven: bool = False) -> Origin:
        """Of whom a report of this connection tells."""
        identity: Identity | None = link.connection.identity
        known = proven or link.connection.device is not None
        return Origin(
            source=Source.DEVICE if known else Source.STRANGER,
            device=identity.device_id if identity else link.claimed,
            address=link.address,
            connection=link.connection_id,
        )

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return asyncio.get_running_loop().time()


async def _each(links: Sequence[LiveConnection], tell: Callable[[LiveConnection], None]) -> None:
    """Tell each of them, some at a time, so that no message waits for all. A fault ends its own link."""
    for number, link in enumerate(links, 1):
        try:
            tell(link)
        except Exception as error:  # noqa: BLE001 - the others are to hear of the change all the same
            link.fault(error)
        if number % _TOLD_TOGETHER == 0:
            await asyncio.sleep(0)
