"""What all device links of a process use: who decides on logins, where the bus is, whom to tell.

Also the register of live connections, so that a decision reaches them at once (promise 6).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.core.addresses import shown
from gateway.core.bridge import Phase
from gateway.core.commands import Call, Report
from gateway.core.events import AccessWithdrawn, Answer, Event, PolicyChanged
from gateway.core.identity import Device, Grant, Identity
from gateway.core.shared import Shared
from gateway.mqtt.reasons import Reason
from gateway.net.tasks import Tasks
from gateway.net.turns import Turns
from gateway.net.unread import Unread
from gateway.observe.audit import Audit, AuditEvent, Kind, Outcome
from gateway.security.login import Login

if TYPE_CHECKING:
    from gateway.net.device_link import DeviceLink

_NEWCOMERS_MAX = 1024
"""Peers that may take their time over a CONNECT at once: with its longest size it bounds their memory."""
_TOLD_TOGETHER = 64
"""Connections told of a change in one go: about a millisecond."""


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
class Door:
    """One for all links of a process."""

    shared: Shared
    bus: Bus
    login: Login
    audit: Audit
    tasks: Tasks
    find: Callable[[str], Device | None]
    """The device of this id as the store has it now."""
    services: Callable[[Call, Identity], Answer]
    """Answers a request to the gateway itself. Must not block, and never raises for what a device asks."""
    turns: Turns = field(init=False)
    unread: Unread = field(default_factory=Unread)
    links: set[DeviceLink] = field(default_factory=set)
    """All connections, from the end of the TLS handshake on."""
    _newcomers: dict[DeviceLink, None] = field(default_factory=dict)
    """Those of them that have not said who they are, oldest first."""
    _by_device: dict[str, set[DeviceLink]] = field(default_factory=dict)
    _admitted: int = 0

    def __post_init__(self) -> None:
        self.turns = Turns(self.shared.budgets.work)

    def arrived(self, link: DeviceLink) -> None:
        """A peer is there, and nobody knows who. When there are too many of those, the oldest goes."""
        if len(self._newcomers) >= _NEWCOMERS_MAX:
            oldest = next(iter(self._newcomers))
            del self._newcomers[oldest]
            oldest.abort("others wait, and it has not said who it is")
        self.links.add(link)
        self._newcomers[link] = None

    def introduced(self, link: DeviceLink) -> None:
        """Its CONNECT is there."""
        self._newcomers.pop(link, None)

    def admit(self, link: DeviceLink, device: Device) -> Reason | None:
        """Take a device in; a reason when there is no room for it."""
        limits = self.shared.policy.limits
        same = self._by_device.get(device.device_id, ())
        if self._admitted >= limits.connections or len(same) >= limits.connections_per_device:
            return Reason.QUOTA_EXCEEDED
        self._by_device.setdefault(device.device_id, set()).add(link)
        self._admitted += 1
        return None

    def forget(self, link: DeviceLink) -> None:
        """The connection is gone."""
        self.links.discard(link)
        self._newcomers.pop(link, None)
        if link.device is None:
            return
        same = self._by_device.get(link.device.device_id)
        if same is not None and link in same:
            same.discard(link)
            self._admitted -= 1
            if not same:
                del self._by_device[link.device.device_id]

    async def policy_changed(self) -> None:
        """Another policy is in force: every live connection is judged by it from its next packet on.

        Some at a time: with thousands of them no message waits for all.
        """
        async for link in self._some_at_a_time([link for same in self._by_device.values() for link in same]):
            if link.device is not None:
                link.receive(PolicyChanged(link.device))

    def devices_changed(self, touched: frozenset[str]) -> None:
        """These devices were added, changed or removed in the store: tell their connections, some at a time.

        Nobody comes in by what was before: `find` says what is now.
        """
        self.tasks.start(self._tell_devices(touched))

    async def _tell_devices(self, touched: frozenset[str]) -> None:
        live = [link for device_id in touched for link in self._by_device.get(device_id, ())]
        async for link in self._some_at_a_time(live):
            if link.device is None or link.bridge.phase is Phase.CLOSED:
                continue
            consequence = self._consequence(link, self.find(link.device.device_id))
            if isinstance(consequence, AccessWithdrawn):
                self.tell(link, Report("session", "refused", consequence.why))
            link.receive(consequence)

    @staticmethod
    async def _some_at_a_time(links: Sequence[DeviceLink]) -> AsyncIterator[DeviceLink]:
        for number, link in enumerate(links, 1):
            yield link
            if number % _TOLD_TOGETHER == 0:
                await asyncio.sleep(0)

    async def keys_changed(self, distrust: Callable[[Grant], str]) -> None:
        """Other keys verify tokens: end the connections whose token is not good any more, some at a time.

        `distrust` says why one is not; empty when it is. Whoever comes in meanwhile is judged by those keys.
        """
        why = "The key that signed the token was destroyed, or its time is over."
        async for link in self._some_at_a_time([link for same in self._by_device.values() for link in same]):
            grant = link.bridge.identity.grant if link.bridge.identity is not None else None
            if grant is not None and link.bridge.phase is not Phase.CLOSED and distrust(grant):
                self.tell(link, Report("session", "refused", why))
                link.receive(AccessWithdrawn(why))

    def _consequence(self, link: DeviceLink, device: Device | None) -> Event:
        if device is None:
            return AccessWithdrawn("The device was removed.")
        if not device.enabled:
            return AccessWithdrawn("The device was disabled.")
        if link.device is not None and device.version != link.device.version:
            return AccessWithdrawn("The device has another secret.")
        identity = link.bridge.identity
        if identity is not None and identity.grant is not None and device.has_revoked(identity.grant):
            return AccessWithdrawn("The token was revoked.")
        link.device = device
        return PolicyChanged(device)

    def tell(self, link: DeviceLink, report: Report) -> None:
        """Make an audit event of a report."""
        reason = report.reason if report.count == 1 else f"{report.reason} ({report.count})"
        identity: Identity | None = link.bridge.identity
        self.audit.emit(
            AuditEvent(
                time=self.shared.now(),
                kind=Kind(report.kind),
                outcome=Outcome(report.outcome),
                reason=reason,
                device=identity.device_id if identity else link.claimed,
                address=link.address,
                request_id=link.connection_id,
                topic=report.topic or None,
                action=report.action or None,
                rule=report.rule or None,
            )
        )

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return asyncio.get_running_loop().time()
