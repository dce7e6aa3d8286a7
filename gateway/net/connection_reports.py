"""What is reported of connections: their audit events and their log lines, within bounds.

Must not know who is there (`gateway.net.live_connections`) nor why a connection is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.connection.audit_vocabulary import Origin, Report, Source, refused_login
from gateway.connection.device_connection import DeviceConnection
from gateway.mqtt.reason_codes import Reason
from gateway.net.connection_log import ConnectionLog
from gateway.net.refusal_log_limit import RefusedStrangers
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.logs import get_logger


class Reported(Protocol):
    """Of a connection what a report says."""

    connection: DeviceConnection
    address: str
    connection_id: str
    claimed: str | None
    host: str
    """The IP address, without the port."""


def named(connection: Reported) -> str | None:
    """The device in what is said of a connection: the one it is, or else the one that it named in vain."""
    device = connection.connection.device
    return connection.claimed if device is None else device.device_id


class ConnectionReports:
    """One per process."""

    def __init__(
        self,
        audit: Audit,
        now: Callable[[], int],
        refused_again: Callable[[str, str, str], None] = lambda *_: None,
    ) -> None:
        """`refused_again` counts a login that was refused like one before: device, address, why."""
        self._audit = audit
        self._now = now
        self._refused_again = refused_again
        self.connects = ConnectionLog()
        """Which connections that come and go have a line."""
        self.strangers = RefusedStrangers()
        """Which refusals of peers that nobody knows are reported."""
        self.log = get_logger().bind()
        """For the lines of each connection: made once, for to make one takes longer than most lines."""

    def report(self, connection: Reported, report: Report, *, proven: bool = False) -> None:
        """Make an audit event of it. `proven`: the device has shown who it is, and was not let in."""
        self._audit.emit(AuditEvent.of(report, self.origin(connection, proven=proven), self._now()))

    def turned_away(self, connection: Reported, why: str) -> None:
        """Nobody was authenticated: reported unless the same was reported of the same place."""
        if self.strangers.first(connection.host, why):
            self.report(connection, refused_login(why))
        else:
            self._refused_again(connection.claimed or "", connection.host, why)

    def no_room(self, connection: Reported, device_id: str, reason: Reason, why: str) -> None:
        """A device that has shown who it is found no room: reported once per minute."""
        if self.connects.first_turned_away(device_id, reason):
            self.report(connection, refused_login(why), proven=True)
        else:
            self._refused_again(device_id, connection.host, why)

    def stranger(self, connection: Reported) -> Origin:
        """Of whom a report of this connection speaks while it is not known who is there."""
        return Origin(
            source=Source.STRANGER,
            device=connection.claimed,
            address=connection.address,
            connection=connection.connection_id,
        )

    def origin(self, connection: Reported, *, proven: bool = False) -> Origin:
        """Of whom a report of this connection speaks."""
        known = proven or connection.connection.device is not None
        return Origin(
            source=Source.DEVICE if known else Source.STRANGER,
            device=named(connection),
            address=connection.address,
            connection=connection.connection_id,
        )
