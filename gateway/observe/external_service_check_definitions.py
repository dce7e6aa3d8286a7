"""What monitoring.toml asks to have checked: services that the gateway or its users need, and devices.

Owns what a check is; when it is run, and what becomes of the answer, is for `health_check_scheduler`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gateway.system.ip_address_blocks import Address

OUR_CHECKS = frozenset(
    {
        "audit",
        "bus",
        "bus authority",
        "certificates",
        "disk",
        "keys",
        "listener",
        "loop",
        "monitoring",
        "policy",
        "saving",
        "services",
        "store",
        "validity",
        "workers",
    }
)
"""The names of the gateway's own checks: no check in monitoring.toml may have one of these."""


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """Asks for a page: healthy is a status of 200 to 299."""

    name: str
    interval: int
    """Seconds between two checks; `timeout` is in seconds, too."""
    timeout: int
    url: str


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """Connects to a port: healthy if that succeeds."""

    name: str
    interval: int
    timeout: int
    address: Address


@dataclass(frozen=True, slots=True)
class DeviceCheck:
    """A device: healthy while it is connected, or was heard from on a topic within a time."""

    name: str
    interval: int
    timeout: int
    device_id: str
    topic: str | None
    """A topic filter; None: it is enough that it is connected."""
    within: int | None
    """Seconds; given together with `topic`."""


ServiceCheck: TypeAlias = HttpCheck | TcpCheck | DeviceCheck
