"""The bounds of one device: those of its roles (`[limits]` in a role file), never above `acl/limits.toml`.

Of the roles of a device that set a limit the largest counts; roles that don't set it have no part in it. Only
what counts after the login may stand in a role: before it nobody knows whose limits they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto

from gateway.policy.engine.limits import LIMITS_FILE, Limits
from gateway.policy.engine.rules import Role


class CountedLimit(StrEnum):
    """The limits that devices reach in everyday life: how often each was reached is counted."""

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
_EFFORT_MIN = 10_000
"""A hundredth of a second of work: a device of few messages may still subscribe, and seal a large one."""


@dataclass(frozen=True, slots=True)
class DeviceLimits(Limits):
    """The limits of a device, at least one of which a role sets."""

    of_gateway: Limits = field(default_factory=Limits)
    """Those of limits.toml."""
    role_locations: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)
    """By name of a limit that a role sets, the location of the line that counts: `file:line`."""

    @property
    def effort_per_second(self) -> int:
        """What its packets may cost: each of its messages may be one that has to be taken apart."""
        own = max(self.messages_per_second * _EFFORT_OF_A_MESSAGE, _EFFORT_MIN)
        return min(self.of_gateway.effort_per_second, own)

    @property
    def heard_effort_per_second(self) -> int:
        """What others send is not its doing, and no role bounds it."""
        return self.of_gateway.heard_effort_per_second

    @property
    def subscriptions_in_all(self) -> int | None:
        """Subscriptions over all connections of the device, where a role sets it.

        That of limits.toml is of each session.
        """
        return self.subscriptions if "subscriptions" in self.role_locations else None

    def location(self, key: str) -> str:
        """The location of the bound in force: a file, or `file:line`."""
        return self.role_locations.get(key, LIMITS_FILE)


def limits_of(roles: Iterable[Role], whole: Limits) -> Limits:
    """The bounds of a device with just these roles, included ones among them."""
    most: dict[str, int] = {}
    role_locations: dict[str, str] = {}
    for role in roles:
        for key, value in role.limits.items():
            if value > most.get(key, 0):
                most[key], role_locations[key] = value, role.locations.get(key, role.name)
    if not most:
        return whole
    values = {key: min(value, getattr(whole, key)) for key, value in most.items()}
    role_locations |= {key: LIMITS_FILE for key, value in most.items() if value > values[key]}
    bounded = replace(whole, **values)
    plain = {name: getattr(bounded, name) for name in Limits.__slots__}
    return DeviceLimits(**plain, of_gateway=whole, role_locations=role_locations)
