"""The limits of `acl/limits.toml`: what a peer, a device and the process may use.

Promise 7: memory, time and rate of a peer are bounded before and after authentication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ANY_SIZE = 268_435_455 + 5
"""The longest packet that MQTT allows, in bytes (MQTT 5, 1.5.5); stands for no limit."""
CONNECT_BYTES_MAX = 65_536
"""How many bytes a peer may send before it is authenticated."""
CONNACK_BYTES_MAX = 262_144
"""Longest CONNACK that is accepted from the bus, in bytes: room for its longest strings (an assigned client
id, a reason, a server reference)."""
LIMITS_FILE = "acl/limits.toml"
CONNECT_DEADLINE = 10.0
"""Seconds within which a new connection has to finish its TLS handshake and send its whole CONNECT."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The value of each limit, as loaded from `acl/limits.toml`."""

    packet_size: int = 16_777_216
    """Longest MQTT packet from or to a device, in bytes, including its fixed header."""
    messages_per_second: int = 100_000
    """PUBLISH packets and acknowledgements from one device, over all its connections. Above it reading
    pauses; nothing is dropped. A packet that has to be decoded (SUBSCRIBE, QoS 2, a refused or a new
    topic) counts as at least ten; one that is sealed or opened, as five plus one per 256 bytes."""
    bytes_per_second: int = 134_217_728
    """Bytes from one device, over all its connections. Above it reading pauses."""
    unfinished_bytes_per_device: int = 33_554_432
    """Bytes of incomplete packets, and of messages that wait because their device does not read them, of one
    device over all its connections. At most a quarter of it may be QoS 0 messages."""
    unfinished_bytes: int = 134_217_728
    """The same for all devices of this process; each may hold 64 KiB whatever the others do."""
    packet_seconds: int = 60
    """Seconds that one packet may take from its first byte to its last."""
    connect_properties: int = 256
    """MQTT 5 properties of a CONNECT, and as many again of its will."""
    subscriptions: int = 1_000
    """Topic filters of one session, those of its earlier connections included."""
    sessions: int = 16
    """Sessions of one device that outlive their connection: the bus keeps them, and queues for them."""
    retained_topics: int = 1_000
    """Topics on which one device has a retained message on the bus."""
    in_flight: int = 1_024
    """QoS 1 and 2 messages and subscriptions that await an acknowledgement through the gateway, per
    connection and direction. A device's larger Receive Maximum is lowered to this for the bus."""
    topic_levels: int = 201
    """Levels of a topic name or filter."""
    topic_length: int = 65_535
    """Bytes of a topic name or filter."""
    connections: int = 8_000
    """Established connections of this process; each takes two file descriptors here and one on the bus."""
    connections_per_device: int = 64
    """Established connections of one device in this process."""
    connects_per_minute: int = 600
    """Connections that one device may open in a minute; further ones are refused."""
    login_failures_per_minute: int = 30
    """Wrong logins of one device from one address; further ones are refused without hashing."""
    login_failures_per_minute_address: int = 300
    """Wrong logins from one address, whatever device they name. Above it the address is refused, except for
    devices that logged in from it before. Foreign tokens have a count of their own, with the same limit."""
    service_requests_per_second: int = 1_000
    """Requests of one caller to the service topics; further ones are refused."""
    tokens_per_minute: int = 60
    """Tokens issued to one device; further ones are refused."""

    @property
    def effort_per_second(self) -> int:
        """Units of effort for packets of one device, as `gateway.connection.device_budgets` counts them."""
        return self.messages_per_second

    @property
    def heard_effort_per_second(self) -> int:
        """The same for what the bus sends to it."""
        return self.messages_per_second

    @property
    def subscriptions_in_all(self) -> int | None:
        """Filters of one device over all its connections; None: only those of each session are bounded."""
        return None

    @property
    def role_locations(self) -> Mapping[str, str]:
        """For each limit that a role sets: the location (`file:line`) of the line that takes effect."""
        return {}

    def location(self, key: str) -> str:  # noqa: ARG002 - for `DeviceLimits`
        """Where the limit in force is set: a file, or `file:line`."""
        return LIMITS_FILE
