"""Who may connect: devices are added, kept out, given a new secret, observed and removed.

A running gateway follows within a second, through the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.admin.audit_events import record
from gateway.admin.errors import Refused
from gateway.connection.audit_event_kinds import changed_device
from gateway.policy.engine.identity import Device, is_device_id, is_label, is_observed
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.policy.engine.policy import Policy
    from gateway.store import Store


def observed(device: Device) -> str:
    """Until when a device is observed, in words; empty when it is not."""
    seen = is_observed(device.observe_until, datetime.now(UTC).timestamp())
    return f"observed until {utc_text(device.observe_until)}" if seen else ""


def state(device: Device) -> str:
    """Whether it is let in, and whether it is observed, in words."""
    enabled = "enabled" if device.enabled else "disabled"
    return f"{enabled}, {until}" if (until := observed(device)) else enabled


def check_names(device_id: str, labels: Mapping[str, str]) -> None:
    """What a device and its labels may be called. Raises Refused."""
    if not is_device_id(device_id):
        raise Refused(
            f"{device_id!r} can't be a device id: letters, digits and . _ -, beginning with a letter or "
            "digit, 64 characters at most",
            senseless=True,
        )
    for name, value in labels.items():
        text = f"{name}={value}"
        if not is_label(name, value):
            raise Refused(
                f"--label {text!r} can't be a label: the name has small letters, digits and _, 32 at "
                "most; the value is one topic level of 64 characters at most, without / + # $",
                senseless=True,
            )


def check_roles(policy: Policy, roles: Sequence[str], acl: Path) -> None:
    """A device with a role that has no rules may do nothing. `acl` is the policy's folder. Raises Refused."""
    if unknown := policy.missing(roles):
        raise Refused(
            f"there is no role {', '.join(map(repr, unknown))} in {acl / 'roles'}; "
            f"the roles are: {', '.join(sorted(policy.roles))}"
        )


async def add(
    store: Store,
    device_id: str,
    *,
    credential: str,
    roles: Sequence[str],
    labels: Mapping[str, str],
    actor: str,
    how: str = "added",
) -> Device:
    """Add a device, which may log in from now on. `credential` is `device_secrets.hashed`.

    `how` is for the audit. Raises DeviceExists; Refused for an id or a label that may not be. Roles are not
    looked up, for an import brings its own: `check_roles` does that.
    """
    check_names(device_id, labels)
    async with store.transaction() as tx:
        device = await tx.devices.add(device_id, credential=credential, roles=roles, labels=labels)
        given = f"with the roles {', '.join(roles)}" if roles else "without roles"
        await record(tx, changed_device(f"{how} {given}"), device=device_id, actor=actor)
        return device


async def enable(store: Store, device_id: str, *, actor: str) -> Device:
    """Let a disabled device in again, with the secret it had. Raises UnknownDevice."""
    return await _set_enabled(store, device_id, enabled=True, actor=actor)


async def disable(store: Store, device_id: str, *, actor: str) -> Device:
    """Keep a device out: its connections end and its logins are refused. Raises UnknownDevice."""
    return await _set_enabled(store, device_id, enabled=False, actor=actor)


async def _set_enabled(store: Store, device_id: str, *, enabled: bool, actor: str) -> Device:
    async with store.transaction() as tx:
        device = await tx.devices.set_enabled(device_id, enabled=enabled)
        await record(tx, changed_device(state(device)), device=device_id, actor=actor)
        return device


async def set_credential(store: Store, device_id: str, credential: str, *, actor: str) -> Device:
    """Give a device a new secret: connections and all tokens of the old one end. Raises UnknownDevice."""
    async with store.transaction() as tx:
        device = await tx.devices.set_credential(device_id, credential)
        await record(tx, changed_device("given a new secret"), device=device_id, actor=actor)
        return device


async def observe(store: Store, device_id: str, seconds: int, *, actor: str) -> Device:
    """Let pass and report, for so long, what the rules refuse a device; 0 ends it.

    Raises UnknownDevice; InvalidValue for longer than OBSERVE_MOST.
    """
    async with store.transaction() as tx:
        device = await tx.devices.observe(device_id, seconds)
        reason = observed(device) or "no longer observed"
        await record(tx, changed_device(reason), device=device_id, actor=actor)
        return device


async def remove(store: Store, device_id: str, *, actor: str) -> None:
    """Forget a device: its connections end, and its tokens. There is no way back. Raises UnknownDevice."""
    async with store.transaction() as tx:
        await tx.devices.remove(device_id)
        await record(tx, changed_device("removed"), device=device_id, actor=actor)
