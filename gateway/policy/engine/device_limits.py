"""The limits of one device: those of its roles (`[limits]` in a role file), never above `acl/limits.toml`.

If several roles of a device set the same limit, the largest value counts; roles that don't set it are
ignored. A role may set only what applies after the login: before it, nobody knows whose limits apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto

from gateway.policy.engine.limits import LIMITS_FILE, Limits
from gateway.policy.engine.rules import Role


class CountedLimit(StrEnum):
    """The limits that devices reach in normal operation: a metric counts how often each was reached."""

    MESSAGES_PER_SECOND = auto()
    BYTES_PER_SECOND = auto()
    PACKET_SIZE = auto()
    SUBSCRIPTIONS = auto()
    CONNECTIONS_PER_DEVICE = auto()
    UNFINISHED_BYTES_PER_DEVICE = auto()


ROLE_LIMIT_NAMES = (
    "messages_per_second",
    "bytes_per_second",
    "packet_size",
    "subscriptions",
    "connections_per_device",
    "connects_per_minute",
    "sessions",
    "retained_topics",
    "in_flight",
    "packet_seconds",
    "unfinished_bytes_per_device",
    "service_requests_per_second",
    "tokens_per_minute",
)
"""The limits that a role may set."""
NOT_IN_ROLES = {
    "unfinished_bytes": "it is of the whole gateway",
    "connections": "it is of the whole gateway; of one device it is connections_per_device",
    "connect_properties": "it counts before anybody has logged in",
    "login_failures_per_minute": "it counts before anybody has logged in",
    "login_failures_per_minute_address": "it counts before anybody has logged in",
    "topic_levels": "it holds for all rules and proofs of the policy",
    "topic_length": "it holds for all rules and proofs of the policy",
}
"""Those of limits.toml that no role may set, and why."""

_EFFORT_OF_A_MESSAGE = 10
"""Units of effort that a message may cost when it has to be decoded."""
_EFFORT_MIN = 10_000
"""Units of effort per second, about a hundredth of a second of work: a device that may send few messages may
still subscribe, and seal a large payload."""


@dataclass(frozen=True, slots=True)
class DeviceLimits(Limits):
    """The limits of a device that has at least one of them from a role."""

    of_gateway: Limits = field(default_factory=Limits)
    """Those of limits.toml."""
    role_locations: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)
    """For each limit that a role sets: the location (`file:line`) of the line that takes effect."""

    @property
    def effort_per_second(self) -> int:
        """What its packets may cost, in units of effort: enough to decode every one of its messages."""
        own = max(self.messages_per_second * _EFFORT_OF_A_MESSAGE, _EFFORT_MIN)
        return min(self.of_gateway.effort_per_second, own)

    @property
    def heard_effort_per_second(self) -> int:
        """What its deliveries may cost. No role bounds it: a device does not choose what others send."""
        return self.of_gateway.heard_effort_per_second

    @property
    def subscriptions_in_all(self) -> int | None:
        """Subscriptions over all connections of the device, if a role sets `subscriptions`.

        The value in limits.toml applies per session.
        """
        return self.subscriptions if "subscriptions" in self.role_locations else None

    def location(self, key: str) -> str:
        """Where the limit in force is set: a file, or `file:line`."""
        return self.role_locations.get(key, LIMITS_FILE)


def limits_of(roles: Iterable[Role], of_gateway: Limits) -> Limits:
    """The limits of a device with just these roles, which have to contain the roles that they include.

    `of_gateway` are those of limits.toml.
    """
    highest: dict[str, int] = {}
    role_locations: dict[str, str] = {}
    for role in roles:
        for key, value in role.limits.items():
            if value > highest.get(key, 0):
                highest[key], role_locations[key] = value, role.locations.get(key, role.name)
    if not highest:
        return of_gateway
    values = {key: min(value, getattr(of_gateway, key)) for key, value in highest.items()}
    role_locations |= {key: LIMITS_FILE for key, value in highest.items() if value > values[key]}
    bounded = replace(of_gateway, **values)
    plain = {name: getattr(bounded, name) for name in Limits.__slots__}
    return DeviceLimits(**plain, of_gateway=of_gateway, role_locations=role_locations)
