"""The bounds of one connection (`acl/limits.toml`).

Promise 7: memory, time and rate of a peer are bounded before and after authentication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ANY_SIZE = 268_435_455 + 5
"""The longest packet there can be, in bytes: for no limit (MQTT 5, 1.5.5)."""
CONNECT_BYTES_MAX = 65_536
"""What a peer may send before it is authenticated, in bytes."""
CONNACK_BYTES_MAX = 262_144
"""Of the bus's answer to a CONNECT, in bytes: room for its longest strings (an assigned client id, a reason,
a server reference). For more nobody waits."""
LIMITS_FILE = "acl/limits.toml"
CONNECT_DEADLINE = 10.0
"""How long it may take for that, in seconds, the TLS handshake included."""


@dataclass(frozen=True, slots=True)
class Limits:
    """One value of each bound, for every connection. Loaded from `acl/limits.toml`."""

    packet_size: int = 16_777_216
    """Longest MQTT packet from or to a device, in bytes, fixed header included."""
    messages_per_second: int = 100_000
    """PUBLISH packets and acknowledgements from one device, over all its connections; above it reading
    pauses, nothing is dropped. A packet that has to be taken apart (SUBSCRIBE, QoS 2, a refused or a new
    topic) counts as ten at least, one that is sealed or opened as five and one for each 256 bytes."""
    bytes_per_second: int = 134_217_728
    """Bytes from one device, over all its connections; above it reading pauses."""
    unfinished_bytes_per_device: int = 33_554_432
    """Bytes of packets that have begun and not ended, and of messages that wait because their device does not
    take them, of one device over all its connections. Of QoS 0 no more than a quarter waits."""
    unfinished_bytes: int = 134_217_728
    """The same of this process; each device may hold 64 KiB whatever the others do."""
    packet_seconds: int = 60
    """How long one packet may take from its first byte to its last."""
    connect_properties: int = 256
    """MQTT 5 properties of a CONNECT, and as many of its will."""
    subscriptions: int = 1_000
    """Topic filters of one session, those of its earlier connections included."""
    sessions: int = 16
    """Sessions of one device that outlive their connection: the bus keeps them, and queues for them."""
    retained_topics: int = 1_000
    """Topics on which one device has a retained message on the bus."""
    in_flight: int = 1_024
    """Handshakes of QoS 1 and 2 and subscriptions that wait for the gateway, a connection and direction. A
    larger Receive Maximum of a device is lowered to it for the bus."""
    topic_levels: int = 201
    """Levels of a topic name or filter."""
    topic_length: int = 65_535
    """Bytes of a topic name or filter."""
    connections: int = 8_000
    """Established connections of this process; each takes two file descriptors here and one on the bus."""
    connections_per_device: int = 64
    """Established connections of one device in this process."""
    connects_per_minute: int = 600
    """Connections that one device may open; above it they are refused."""
    login_failures_per_minute: int = 30
    """Wrong logins of one device from one address; above it they are refused unhashed."""
    login_failures_per_minute_address: int = 300
    """Wrong logins from one address, whatever device they name; above it unknown devices are refused there,
    and not those that logged in from it before. As many tokens that we never signed are counted apart."""
    service_requests_per_second: int = 1_000
    """Requests of one caller to the service topics; above it they are refused."""
    tokens_per_minute: int = 60
    """Tokens issued to one device; above it they are refused."""

    @property
    def effort_per_second(self) -> int:
        """What the packets of one device may cost, as `gateway.connection.device_budgets` counts it."""
        return self.messages_per_second

    @property
    def heard_effort_per_second(self) -> int:
        """The same of what the bus sends for it."""
        return self.messages_per_second

    @property
    def subscriptions_in_all(self) -> int | None:
        """Filters of one device over all its connections; None: only each session is bounded."""
        return None

    @property
    def role_locations(self) -> Mapping[str, str]:
        """By key, where the line of a role stands that counts: `file:line`."""
        return {}

    def location(self, key: str) -> str:  # noqa: ARG002 - for `DeviceLimits`
        """Where the bound in force stands: a file, or `file:line`."""
        return LIMITS_FILE
