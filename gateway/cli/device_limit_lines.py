"""The limits of one device and where they stand, for `gateway-admin acl show` and `acl why ID`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.policy.engine.device_limits import ROLE_LIMIT_NAMES

if TYPE_CHECKING:
    from gateway.policy.engine.identity import Device
    from gateway.policy.engine.policy import Policy

_RAISE = (
    "to have more: raise it there, or give the device a role that says more (`gateway-admin device set`); "
    "none is above acl/limits.toml"
)


def limits_value(policy: Policy, device: Device) -> dict[str, object]:
    """Its limits by name, for a script: each bound, and where a role says it (None: acl/limits.toml does)."""
    limits = policy.limits_of(device.roles)
    return {
        key: {"most": getattr(limits, key), "said_by": limits.role_locations.get(key)}
        for key in ROLE_LIMIT_NAMES
    }


def limit_lines(policy: Policy, device: Device) -> list[str]:
    """The limits that the roles of a device say, one per line."""
    limits = policy.limits_of(device.roles)
    said = [key for key in ROLE_LIMIT_NAMES if key in limits.role_locations]
    width = max(map(len, said), default=0)
    return [f"  {key:<{width}}  {getattr(limits, key):,}  {limits.location(key)}" for key in said]


def reached_limit_lines(policy: Policy, device: Device) -> list[str]:
    """What to say of a limit that a device reached."""
    own = limit_lines(policy, device)
    if not own:
        return ["its roles say no limits: those of acl/limits.toml count", _RAISE]
    return [
        f"limits of {device.device_id} as they are now, the others as acl/limits.toml says:",
        *own,
        _RAISE,
    ]
