"""Who may connect: devices are added, kept out, given a new secret, observed and removed.

A running gateway follows within a second, through the store.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from gateway.admin.audit_events import record
from gateway.admin.errors import Refused
from gateway.connection.audit_vocabulary import changed_device
from gateway.policy.engine.identity import (
    LABEL_VALUES_MAX,
    METHODS,
    Device,
    Labels,
    is_device_id,
    is_label,
    is_observed,
)
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.policy.engine.policy import Policy
    from gateway.store import NewDevice, Store


def observed(device: Device) -> str:
    """Until when a device is observed, in words; empty when it is not."""
    seen = is_observed(device.observe_until, datetime.now(UTC).timestamp())
    return f"observed until {utc_text(device.observe_until)}" if seen else ""


def state(device: Device) -> str:
    """Whether it is let in, and whether it is observed, in words."""
    enabled = "enabled" if device.enabled else "disabled"
    return f"{enabled}, {until}" if (until := observed(device)) else enabled


def check_names(device_id: str, labels: Labels) -> None:
    """Raise Refused if a device or its labels can't be called so."""
    if not is_device_id(device_id):
        raise Refused(
            f"{device_id!r} can't be a device id: letters, digits and . _ -, beginning with a letter or "
            "digit, 64 characters at most",
            usage_error=True,
        )
    for name, some in labels.items():
        for value in some:
            if not is_label(name, value):
                text = f"{name}={value}"
                raise Refused(
                    f"--label {text!r} can't be a label: the name has small letters, digits and _, 32 at "
                    "most; the value is one topic level of 64 characters at most, without / + # $",
                    usage_error=True,
                )
        if len(some) > LABEL_VALUES_MAX:
            raise Refused(f"--label {name} has more than {LABEL_VALUES_MAX} values", usage_error=True)


def check_roles(policy: Policy, roles: Sequence[str], acl: Path) -> None:
    """Raise Refused if a role is not in the policy: by it a device could do nothing. `acl` is its folder."""
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
    labels: Labels,
    methods: Sequence[str] = METHODS,
    actor: str,
    how: str = "added",
) -> Device:
    """Add a device, which may log in from now on. `credential` is its secret's hash (`secret_rules.hashed`).

    `how` is a word for the audit event. Raises DeviceExists; Refused for an id or a label that is not
    allowed. Whether the policy has the roles is not checked here (an import may bring both): `check_roles`
    does that.
    """
    check_names(device_id, labels)
    async with store.transaction() as tx:
        device = await tx.devices.add(
            device_id, credential=credential, roles=roles, labels=labels, methods=methods
        )
        given = f"with the roles {', '.join(roles)}" if roles else "without roles"
        await record(tx, changed_device(f"{how} {given}"), device=device_id, actor=actor)
        return device


async def add_all(store: Store, wanted: Sequence[NewDevice], *, actor: str) -> list[Device]:
    """Add devices: all of them, or none. Raises InvalidValue; Refused if some exist already."""
    async with store.transaction() as tx:
        there = [one.device_id for one in wanted if await tx.devices.find(one.device_id) is not None]
        if there:
            raise Refused("nothing was added", [f"device {one} exists already" for one in there])
        made = await tx.devices.add_all(wanted)
        for device in made:
            reason = f"added with the roles {', '.join(device.roles)}"
            if not device.enabled:
                reason += ", disabled"
            await record(tx, changed_device(reason), device=device.device_id, actor=actor)
        return made


async def change(
    store: Store,
    device_id: str,
    *,
    roles: Sequence[str] | None = None,
    labels: Mapping[str, Sequence[str]] = MappingProxyType({}),
    without: Collection[str] = (),
    methods: Sequence[str] | None = None,
    actor: str,
) -> Device:
    """Give a device other roles or methods, and these labels beside those it has, `without` some.

    Its connections go on with its new rights; those that logged in by a method that it no longer has end.
    Raises UnknownDevice; Refused for a label that is not allowed, or one in `without` that it does not have.
    """
    check_names(device_id, {name: tuple(some) for name, some in labels.items()})
    async with store.transaction() as tx:
        before = await tx.devices.get(device_id)
        if unknown := [name for name in without if name not in before.labels]:
            raise Refused(f"device {device_id} has no label {', '.join(unknown)}; nothing was changed")
        kept = {name: some for name, some in before.labels.items() if name not in without}
        given = {**kept, **{name: tuple(some) for name, some in labels.items()}}
        device = await tx.devices.set(
            device_id, roles=roles, labels=given if given != before.labels else None, methods=methods
        )
        await record(tx, changed_device(_changed(before, device)), device=device_id, actor=actor)
        return device


def _changed(before: Device, after: Device) -> str:
    """What was changed of a device, in words."""
    said = []
    if after.roles != before.roles:
        said.append(f"roles {', '.join(before.roles) or 'none'}, now {', '.join(after.roles) or 'none'}")
    if after.labels != before.labels:
        said.append(f"labels {label_text(before.labels) or 'none'}, now {label_text(after.labels) or 'none'}")
    if after.methods != before.methods:
        said.append(f"methods {', '.join(before.methods)}, now {', '.join(after.methods)}")
    return "; ".join(said) or "set to what it was"


def label_text(labels: Labels) -> str:
    """Labels in one line: `floor=2, room=kitchen, room=hall`."""
    return ", ".join(f"{name}={value}" for name, some in sorted(labels.items()) for value in some)


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


async def set_next_secret(store: Store, device_id: str, secret: bytes, seconds: int, *, actor: str) -> Device:
    """Give a device a next secret: the one it has ends when the next was used, or after `seconds`.

    Until then both are valid; its connections and tokens end with the old one. It takes as long as a login.
    Raises UnknownDevice; Refused if the two can't be hashed alike, so that one hash would check both, or are
    the same.
    """
    from gateway.auth.dual_secrets import hash_like

    before = await store.devices.get(device_id)
    try:
        credential = hash_like(secret, before.credential)
    except ValueError:
        raise Refused(
            f"the secret of {device_id} is still kept as Mosquitto's hash, and two are hashed alike: have it "
            "log in once, or rotate without --overlap, which ends the old secret at once"
        ) from None
    if credential == before.credential:
        raise Refused(f"{device_id} has this secret already: give it a new one")
    async with store.transaction() as tx:
        if (await tx.devices.get(device_id)).credential != before.credential:
            raise Refused(f"{device_id} was given a different secret at this moment: call this again")
        device = await tx.devices.set_next_credential(device_id, credential, seconds)
        reason = (
            f"given a new secret; the old one is good until it was used, or {utc_text(device.overlap_until)}"
        )
        await record(tx, changed_device(reason), device=device_id, actor=actor)
        return device


async def end_overlap(store: Store, device: Device, why: str, *, actor: str) -> Device | None:
    """End the old one of a device's two secrets, with its connections and tokens.

    Return the device then; None if it was changed meanwhile.
    """
    async with store.transaction() as tx:
        ended = await tx.devices.end_overlap(device.device_id, device.version)
        if ended is not None:
            reason = f"the old secret ended: {why}"
            await record(tx, changed_device(reason), device=device.device_id, actor=actor)
        return ended


async def observe(store: Store, device_id: str, seconds: int, *, actor: str) -> Device:
    """Let pass and report, for `seconds`, what the rules refuse a device; 0 ends that.

    Raises UnknownDevice; InvalidValue for longer than OBSERVE_MAX.
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
