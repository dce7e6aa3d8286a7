"""What is reported of connections: their audit events and their log lines, within bounds.

Must not know which connections there are (`gateway.net.live_connections`) nor why one is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.connection.audit_vocabulary import Origin, Report, Source, refused_login
from gateway.connection.device_connection import DeviceConnection
from gateway.mqtt.reason_codes import Reason
from gateway.net.connection_log_limit import ConnectionLog
from gateway.net.refusal_log_limit import RefusedStrangers
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.logs import get_logger


class Reported(Protocol):
    """What a report needs to know of a connection."""

    connection: DeviceConnection
    address: str
    connection_id: str
    claimed: str | None
    host: str
    """The IP address, without the port."""


def named(connection: Reported) -> str | None:
    """The device id for reports of a connection: the authenticated one, or else the claimed one."""
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
        """`now` gives Unix milliseconds.

        `refused_again` is called with device, address and reason of a login that was refused like one before.
        """
        self._audit = audit
        self._now = now
        self._refused_again = refused_again
        self.connects = ConnectionLog()
        """Which connections that come and go get a log line."""
        self.strangers = RefusedStrangers()
        """Which refusals of strangers are reported."""
        self.log = get_logger().bind()
        """For the lines of all connections: making a logger takes longer than most lines."""

    def report(self, connection: Reported, report: Report, *, proven: bool = False) -> None:
        """Make an audit event of a report. `proven`: the device is authenticated, but was not let in."""
        self._audit.emit(AuditEvent.of(report, self.origin(connection, proven=proven), self._now()))

    def turned_away(self, connection: Reported, why: str) -> None:
        """A peer was refused before it was authenticated: reported once per place, reason and minute."""
        if self.strangers.first(connection.host, why):
            self.report(connection, refused_login(why))
        else:
            self._refused_again(connection.claimed or "", connection.host, why)

    def no_room(self, connection: Reported, device_id: str, reason: Reason, why: str) -> None:
        """There was no room for an authenticated device: reported once per device, reason and minute."""
        if self.connects.first_turned_away(device_id, reason):
            self.report(connection, refused_login(why), proven=True)
        else:
            self._refused_again(device_id, connection.host, why)

    def stranger(self, connection: Reported) -> Origin:
        """The origin for reports of this connection while it is not authenticated."""
        return Origin(
            source=Source.STRANGER,
            device=connection.claimed,
            address=connection.address,
            connection=connection.connection_id,
        )

    def origin(self, connection: Reported, *, proven: bool = False) -> Origin:
        """The origin for reports of this connection."""
        known = proven or connection.connection.device is not None
        return Origin(
            source=Source.DEVICE if known else Source.STRANGER,
            device=named(connection),
            address=connection.address,
            connection=connection.connection_id,
        )
