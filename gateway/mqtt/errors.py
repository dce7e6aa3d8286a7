"""The one error tree of the data path.

Each error carries the MQTT reason code and what the peer may learn: `str(error)` goes into a Reason String.
Its class says what went wrong. `gateway.connection` turns it into commands.
"""

from __future__ import annotations

from gateway.mqtt.reason_codes import Reason


class MqttError(Exception):
    """A connection can't go on. `reason` is the code that a v5 peer gets."""

    reason: Reason = Reason.UNSPECIFIED_ERROR

    def __init__(self, message: str, reason: Reason | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class MalformedPacket(MqttError):
    """The bytes can't be parsed according to the standard (MQTT 5, 4.13.1)."""

    reason = Reason.MALFORMED_PACKET


class ProtocolError(MqttError):
    """A packet that may not come here or now, or says two things at once (MQTT 5, 4.13.1)."""

    reason = Reason.PROTOCOL_ERROR


class Unanswerable(MqttError):
    """Closed without an answer, as on Mosquitto: what came is not MQTT, not a CONNECT, or a second one."""

    reason = Reason.PROTOCOL_ERROR


class PacketTooLarge(MqttError):
    """A packet longer than the receiver's limit (MQTT 5, 3.1.2.11.4)."""

    reason = Reason.PACKET_TOO_LARGE


class PacketOverLimit(PacketTooLarge):
    """The same, where the limit is the gateway's own (acl/limits.toml), which the peer was not told."""


class LimitExceeded(MqttError):
    """A peer exceeded a limit of the gateway (acl/limits.toml)."""

    reason = Reason.QUOTA_EXCEEDED


class Refused(MqttError):
    """The gateway refused something, and ends the connection for it; the reason code says why."""

    reason = Reason.NOT_AUTHORIZED
