"""The registry of live connections, and whether there is room for one more.

Nothing else keeps it. Must not know what is reported of connections
(`gateway.net.connection_audit_and_log`), nor what changes for them (`gateway.net.live_updates`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from itertools import islice, takewhile
from typing import NamedTuple, Protocol

from gateway.connection.device_connection import DeviceConnection
from gateway.connection.events import Event
from gateway.connection.limit_reports import too_many_connections
from gateway.connection.process_counters import Counters
from gateway.mqtt.reason_codes import Reason
from gateway.net.eviction_by_place import PeersByPlace
from gateway.policy.engine.limits import Limits
from gateway.system.ip_address_blocks import place_of

_NEWCOMERS_MAX = 512
"""Newcomers at once. Each may take 220 KiB while its CONNECT comes in, so this bounds their memory."""
_TAKEOVER_SEARCH_MAX = 64
"""How many of the latest connections of a device `is_taken_over` looks at."""


class LiveConnection(Protocol):
    """What the registry knows of a connection, which is a `gateway.net.device_side.DeviceSide`."""

    connection: DeviceConnection
    address: str
    """Of the peer, `host:port`."""
    host: str
    """The IP address of the peer, without the port."""
    connection_id: str
    """Ties together what is logged of this connection."""
    claimed: str | None
    """The device that it named in a login that was refused; None if there was none."""
    tick_phase: int
    """In which part of each second it gets its tick, counted from 0 (`gateway.net.device_port`)."""
    rests_until: int
    """Number of the second until which it rests (`gateway.connection.tick_rests`); 0 after any event."""
    method: str
    """How it logged in: `secret`, `token` or `certificate`; empty before."""
    since: int
    """When it was established, in Unix milliseconds; 0 before that."""

    @property
    def paused_for(self) -> int:
        """Why the device or the bus is not read, as `gateway.net.pause_reasons` says; 0 for no reason."""

    @property
    def transports(self) -> tuple[asyncio.Transport, asyncio.Transport] | None:
        """The device's transport and the bus's, while both are there."""

    def receive(self, event: Event) -> None:
        """Give the connection an event, and carry out its commands."""

    def tick(self, now: float, second: int) -> None:
        """A second has passed. `now` is the loop's clock; `second` as in `gateway.connection.events.Tick`."""

    def fault(self, error: Exception) -> None:
        """A fault of ours: it ends this connection and no other."""

    def turn_away(self, why: str) -> None:
        """Report why a peer that is not authenticated is refused, and end its connection."""

    def abort(self, why: str) -> None:
        """End it now, even if something is still to be written. `why` is for the log."""

    def unwritten(self) -> bool:
        """Whether bytes for the bus are not sent yet: the last of them may be the device's DISCONNECT."""


class NoRoom(NamedTuple):
    """Why an authenticated device can't have one more connection."""

    reason: Reason
    why: str


class ConnectionRegistry:
    """One per process."""

    def __init__(
        self,
        limits: Callable[[], Limits],
        *,
        limits_of: Callable[[str], Limits] | None = None,
        counters: Counters | None = None,
        may_connect: Callable[[str, Limits], bool] = lambda *_: True,
        room: int = 2**31,
    ) -> None:
        """`limits` returns those in force, `limits_of` those of the device with this id.

        `may_connect`: whether the device with this id may open one more connection now, by these limits (its
        connects per minute); if so it is counted.
        `room`: how many established connections the process has file descriptors for.
        """
        self.live: set[LiveConnection] = set()
        """All connections, from the end of the TLS handshake on."""
        self._limits = limits
        self._limits_of = limits_of or (lambda _: limits())
        self._counters = counters or Counters()
        self._may_connect = may_connect
        self._room = room
        self._newcomers: PeersByPlace[LiveConnection] = PeersByPlace()
        """Those whose CONNECT has not come."""
        self._admitted: dict[LiveConnection, str] = {}
        """Those that `admit` let in, with the device id of each."""
        self._by_device: dict[str, tuple[LiveConnection, ...]] = {}
        """Those of each device in the order in which they were let in. Mostly one: a tuple is smallest."""
        self.watched: dict[str, Callable[[LiveConnection], None]] = {}
        """By device id: called with each new connection of the device, right after its login (for traces)."""

    @property
    def devices_connected(self) -> int:
        """How many devices have a connection."""
        return len(self._by_device)

    def arrived(self, connection: LiveConnection) -> None:
        """Register a newcomer. If there are too many, the oldest of the largest crowd is turned away."""
        if len(self._newcomers.all) >= _NEWCOMERS_MAX:
            crowded_out, _ = self._newcomers.first_to_go()
            self._newcomers.remove(crowded_out)
            crowded_out.turn_away("others wait, and it has not said who it is")
        self.live.add(connection)
        self._newcomers.add(connection, place_of(connection.host))

    def connect_arrived(self, connection: LiveConnection) -> None:
        """Its CONNECT has come: it is no newcomer any more."""
        self._newcomers.remove(connection)

    def admit(self, connection: LiveConnection, device_id: str) -> NoRoom | None:
        """Count it as a connection of this device; or why there is no room for it."""
        own = self._limits_of(device_id)
        if not self._may_connect(device_id, own):
            why = "more connects a minute than the device may make (connects_per_minute)"
            return NoRoom(Reason.CONNECTION_RATE_EXCEEDED, why)
        if len(self.of_device(device_id)) >= own.connections_per_device:
            return NoRoom(Reason.QUOTA_EXCEEDED, too_many_connections(own, self._counters))
        if len(self._admitted) >= self._limits().connections:
            return NoRoom(Reason.QUOTA_EXCEEDED, "as many connections as acl/limits.toml allows")
        if len(self._admitted) >= self._room:
            why = "as many connections as the system gives open files for (ulimit -n, LimitNOFILE=)"
            return NoRoom(Reason.QUOTA_EXCEEDED, why)
        self._by_device[device_id] = (*self._by_device.get(device_id, ()), connection)
        self._admitted[connection] = device_id
        if self.watched and (show := self.watched.get(device_id)) is not None:
            show(connection)
        return None

    def forget(self, connection: LiveConnection) -> None:
        """The connection is gone."""
        self.live.discard(connection)
        self._newcomers.remove(connection)
        device_id = self._admitted.pop(connection, None)
        if device_id is None:
            return
        others = tuple(one for one in self._by_device[device_id] if one is not connection)
        if others:
            self._by_device[device_id] = others
        else:
            del self._by_device[device_id]

    def admitted(self) -> list[LiveConnection]:
        """Those that were admitted, the oldest first."""
        return list(self._admitted)

    def of_device(self, device_id: str) -> Collection[LiveConnection]:
        """Those of one device that were admitted, the oldest first."""
        return self._by_device.get(device_id, ())

    def is_taken_over(self, connection: LiveConnection) -> bool:
        """Whether a later connection of its device has the same client id, so that the bus ends this one."""
        identity = connection.connection.identity
        if identity is None:
            return False
        later = reversed(self._by_device.get(identity.device_id, ()))
        for other in takewhile(lambda other: other is not connection, islice(later, _TAKEOVER_SEARCH_MAX)):
            of_other = other.connection.identity
            if (
                of_other is not None
                and of_other.client_id == identity.client_id
                and of_other.namespace == identity.namespace
            ):
                return True
        return False

    def surplus(self, connection: LiveConnection, device_id: str) -> str:
        """Why this connection has to go after the limit of its device was lowered: the latest ones go.

        Empty when it may stay.
        """
        same = self._by_device.get(device_id, ())
        limits = self._limits_of(device_id)
        most = limits.connections_per_device
        if len(same) <= most or connection in islice(same, most):
            return ""
        return f"It has {too_many_connections(limits, self._counters)} by now."
