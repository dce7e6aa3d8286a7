"""Tokens: issuing one for a device, and revoking. Owns how far a revocation reaches.

The store keeps revocations, and a running gateway follows the store. The token itself is kept nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.admin.audit_events import record
from gateway.admin.errors import Refused
from gateway.auth.tokens import Issued, PermissionsTooLong, Tokens
from gateway.connection.audit_vocabulary import changed_token, refused_token
from gateway.mqtt.topics import covers
from gateway.policy.engine.identity import Device, Identity
from gateway.store import IssuedToken

if TYPE_CHECKING:
    from gateway.auth.device_lookup_protocol import Lookup
    from gateway.policy.engine.policy import Policy
    from gateway.store import Store

Filters = Mapping[str, tuple[str, ...]]
"""Topic filters by action."""
_SEEN_WITHIN = 600
"""Seconds after which no gateway renews a revoked token any more: it has read the store by then, however busy
that is, and clocks may differ by a little."""


async def issue(
    store: Store,
    tokens: Tokens,
    policy: Policy,
    device: Device,
    *,
    ttl: int | None,
    ttl_most: int,
    asked: Filters | None,
    actor: str,
) -> Issued:
    """Issue a token for the device that allows what `asked` names, or else all that the policy allows.

    It is valid for `ttl` seconds, or else for `ttl_most` (JWT_TTL). A refusal has an audit event too. Raises
    Refused, and PermissionsTooLong.
    """
    identity = Identity(device.device_id, device.roles, device.labels, device.device_id)
    allowed = policy.rights(identity).permissions()
    try:
        _check_life(device, ttl, ttl_most)
        permissions = _narrowed(allowed, asked, device.device_id)
        issued = tokens.issue(device, permissions, ttl=ttl, narrowed=asked is not None)
    except (Refused, PermissionsTooLong) as error:
        why = "; ".join([str(error), *getattr(error, "problems", ())])
        async with store.transaction() as tx:
            reason = f"not issued: {why}"
            await record(tx, refused_token(reason), device=device.device_id, actor=actor)
        raise
    async with store.transaction() as tx:
        await tx.tokens.add([IssuedToken.of(device.device_id, issued.grant, "admin")])
        reason = f"issued: {issued.grant.token_id}"
        await record(tx, changed_token(reason), device=device.device_id, actor=actor)
    return issued


def _check_life(device: Device, ttl: int | None, ttl_most: int) -> None:
    if not device.enabled:
        name = device.device_id
        raise Refused(f"device {name} is disabled: `gateway-admin device enable {name}` lets it in again")
    if "token" not in device.methods:
        name = device.device_id
        raise Refused(f"{name} may not log in by a token: `gateway-admin device set {name} --methods …`")
    if ttl == 0:
        raise Refused("--ttl 0 would be over before it is used: give a second at least", usage_error=True)
    if ttl is not None and ttl > ttl_most:
        raise Refused(f"--ttl is longer than JWT_TTL ({ttl_most} s), and no token lives longer")


def _narrowed(allowed: Filters, asked: Filters | None, device_id: str) -> Filters:
    if asked is None:
        return allowed
    problems = [
        f"{action} {one}: allowed is {', '.join(allowed[action]) or 'nothing'}"
        for action, filters in asked.items()
        for one in filters
        if not any(covers(granted, one) for granted in allowed[action])
    ]
    if problems:
        raise Refused(f"the policy does not allow {device_id} as much as the token should", problems)
    return asked


@dataclass(frozen=True, slots=True)
class Revoked:
    """What a revocation reached."""

    recorded: int
    """How many tokens that the store has a record of were still valid."""
    whole_device: bool
    """Whether all tokens of the device are revoked by it."""


async def revoke_all(store: Store, device_id: str, *, actor: str) -> Revoked:
    """Revoke all tokens of the device that were issued until now. Raises UnknownDevice."""
    async with store.transaction() as tx:
        device = await tx.devices.get(device_id)
        hit = len(_good(await tx.tokens.read(device_id), device))
        await tx.devices.revoke_tokens(device_id)
        reason = f"all revoked, {hit} recorded ones among them"
        await record(tx, changed_token(reason), device=device_id, actor=actor)
        return Revoked(hit, whole_device=True)


async def revoke(store: Store, token: IssuedToken, *, ttl_most: int, actor: str) -> Revoked:
    """Revoke a token and what was renewed from it; or all of its device, if too many were revoked singly.

    `ttl_most` is JWT_TTL. Raises UnknownDevice.
    """
    async with store.transaction() as tx:
        device = await tx.devices.get(token.device_id)
        recorded = await tx.tokens.read(token.device_id)
        chain = [one for one in recorded if one.root == token.root and one.issued_at >= token.issued_at]
        # What was renewed until now is recorded, and a gateway renews nothing once it has seen this, by
        # `soon`: no token of the chain can be valid for longer than `until`.
        soon = max(token.issued_at, int(datetime.now(UTC).timestamp())) + _SEEN_WITHIN
        until = max(token.expires_at, soon + ttl_most, *(one.expires_at for one in chain))
        kept = await tx.tokens.revoke(
            device_id=token.device_id, root=token.root, since=token.issued_at, until=until
        )
        with_it = "" if kept else ", and with it all tokens of the device: too many were revoked one by one"
        reason = f"revoked: {token.token_id}{with_it}"
        await record(tx, changed_token(reason), device=token.device_id, actor=actor)
        return Revoked(len(_good(chain if kept else recorded, device)), whole_device=kept is None)


def _good(records: Sequence[IssuedToken], device: Device) -> list[IssuedToken]:
    return [one for one in records if not one.is_revoked_by(device)]


class AsIfNoneRevoked:
    """The devices as if all were enabled and nothing revoked, so that any token can be verified."""

    def __init__(self, devices: Lookup) -> None:
        self.available = True
        self._devices = devices

    def get(self, device_id: str) -> Device | None:
        """The device in such a state that all its tokens pass that are genuine and have not expired."""
        device = self._devices.get(device_id)
        return None if device is None else replace(device, enabled=True, revocations=())
