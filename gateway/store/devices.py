"""The rows of devices: who may connect, with which roles, and what ends their connections and tokens.

Each change is logged in the same transaction, so that followers of the change log miss none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Row, delete, insert, select, update

from gateway.policy.engine.identity import (
    METHODS,
    OBSERVE_MAX,
    Device,
    Labels,
    Revocation,
    is_device_id,
    labels_of,
    written_labels,
)
from gateway.store import bus_holdings, denial_explanations, tokens, usage
from gateway.store.change_log import log_change, log_changes
from gateway.store.errors import DeviceExists, InvalidValue, StoreError, UnknownDevice
from gateway.store.schema import devices
from gateway.store.transactions import Transactions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device that is to be added."""

    device_id: str
    credential: str = field(repr=False)
    """Hash of its secret: from `gateway.admin.secret_rules.hashed`, or imported."""
    roles: Sequence[str]
    labels: Labels
    methods: Sequence[str] = METHODS
    enabled: bool = True


class Devices:
    """All devices. Each method is a transaction, or a part of the one it is called in."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def add(
        self,
        device_id: str,
        *,
        credential: str,
        roles: Sequence[str],
        labels: Labels,
        methods: Sequence[str] = METHODS,
    ) -> Device:
        """A new device, enabled. Raises as `add_all`."""
        (device,) = await self.add_all([NewDevice(device_id, credential, roles, labels, methods)])
        return device

    async def add_all(self, wanted: Sequence[NewDevice]) -> list[Device]:
        """New devices: all of them, or none.

        Raises DeviceExists for the first one that exists already; InvalidValue for an invalid id, label or
        method.
        """
        for one in wanted:
            _check(one)
        async with self._transactions.transaction(write=True) as connection:
            for one in wanted:
                if await _find(connection, one.device_id) is not None:
                    raise DeviceExists(one.device_id)
            numbers, now = await log_changes(connection, [one.device_id for one in wanted])
            made = [
                Device(
                    device_id=one.device_id,
                    roles=tuple(one.roles),
                    labels=dict(one.labels),
                    enabled=one.enabled,
                    credential=one.credential,
                    # Not 1: a device removed and added again must not share a version with its predecessor,
                    # whose connections and remembered secret are known by it. No version ever exceeds the
                    # log's end.
                    version=numbers[one.device_id],
                    created_at=now,
                    updated_at=now,
                    # Nor may it share the epoch, for its predecessor's tokens are told apart by that.
                    token_epoch=numbers[one.device_id],
                    methods=tuple(one.methods),
                )
                for one in wanted
            ]
            if made:
                await connection.execute(insert(devices), [_row(device) for device in made])
            return made

    async def find(self, device_id: str) -> Device | None:
        """The device of this id, if there is one."""
        async with self._transactions.transaction(write=False) as connection:
            return await _find(connection, device_id)

    async def get(self, device_id: str) -> Device:
        """The device of this id. Raises UnknownDevice."""
        device = await self.find(device_id)
        if device is None:
            raise UnknownDevice(device_id)
        return device

    async def read(self, only: Collection[str] | None = None) -> list[Device]:
        """All devices, or those of the ids in `only` that exist, sorted by id."""
        query = select(devices).order_by(devices.c.device_id)
        if only is not None:
            query = query.where(devices.c.device_id.in_(only))
        async with self._transactions.transaction(write=False) as connection:
            rows = (await connection.execute(query)).all()
            revoked = await tokens.revocations(connection, only)
            return [_device(row, revoked.get(row.device_id, ())) for row in rows]

    async def set_enabled(self, device_id: str, *, enabled: bool) -> Device:
        """Let the device in, or keep it out and end its connections. Raises UnknownDevice."""
        return await self._change(device_id, enabled=enabled)

    async def set_credential(self, device_id: str, credential: str) -> Device:
        """A new secret, as a PHC hash; connections and tokens of the old one end. Raises UnknownDevice."""
        return await self._change(
            device_id, new_epoch=True, credential=credential, next_credential="", overlap_until=0
        )

    async def set_next_credential(self, device_id: str, credential: str, seconds: int) -> Device:
        """Add a next secret. The one in use ends with the first login by the next one, or after `seconds`.

        `credential` has to have the salt and the parameters of the one in use. Raises UnknownDevice.
        """
        async with self._transactions.transaction(write=True) as connection:
            _, now = await log_change(connection, device_id)
            # No connection ends yet, and no token: the time of the last change stays, too.
            await connection.execute(
                update(devices)
                .where(devices.c.device_id == device_id)
                .values(next_credential=credential, overlap_until=now + seconds)
            )
            return await _demand(connection, device_id)

    async def end_overlap(self, device_id: str, version: int) -> Device | None:
        """Replace the secret in use by the next one, which ends its connections and tokens.

        Returns None if there is no next one, or if the device has changed since `version`.
        """
        async with self._transactions.transaction(write=True) as connection:
            device = await _find(connection, device_id)
            if device is None or device.version != version or not device.next_credential:
                return None
            return await _change(
                connection,
                device_id,
                new_epoch=True,
                credential=device.next_credential,
                next_credential="",
                overlap_until=0,
            )

    async def set(
        self,
        device_id: str,
        *,
        roles: Sequence[str] | None = None,
        labels: Labels | None = None,
        methods: Sequence[str] | None = None,
    ) -> Device:
        """Replace roles, labels or methods, if they are given. Its connections go on, with the new rights.

        Raises UnknownDevice; InvalidValue for an invalid label or method.
        """
        _check(NewDevice(device_id, "", roles or (), labels or {}, METHODS if methods is None else methods))
        given = {
            "roles": None if roles is None else list(roles),
            "labels": None if labels is None else written_labels(labels),
            "methods": None if methods is None else list(methods),
        }
        async with self._transactions.transaction(write=True) as connection:
            _, now = await log_change(connection, device_id)
            await connection.execute(
                update(devices)
                .where(devices.c.device_id == device_id)
                .values(updated_at=now, **{name: value for name, value in given.items() if value is not None})
            )
            return await _demand(connection, device_id)

    async def revoke_tokens(self, device_id: str) -> Device:
        """Revoke all tokens of the device that were issued until now. Raises UnknownDevice."""
        return await self._change(device_id, new_epoch=True)

    async def observe(self, device_id: str, seconds: int) -> Device:
        """Put the device into observe mode for `seconds` from now on; 0 ends it.

        Raises UnknownDevice; InvalidValue for a time that is longer than OBSERVE_MAX.
        """
        if not 0 <= seconds <= OBSERVE_MAX:
            raise InvalidValue(f"{seconds} s is not between 0 and {OBSERVE_MAX}")
        async with self._transactions.transaction(write=True) as connection:
            _, now = await log_change(connection, device_id)
            # It ends by itself and leaves the device as it is: the time of its last change stays.
            await connection.execute(
                update(devices)
                .where(devices.c.device_id == device_id)
                .values(observe_until=now + seconds if seconds else 0)
            )
            return await _demand(connection, device_id)

    async def _change(self, device_id: str, *, new_epoch: bool = False, **values: object) -> Device:
        async with self._transactions.transaction(write=True) as connection:
            return await _change(connection, device_id, new_epoch=new_epoch, **values)

    async def rehash_credential(self, device_id: str, *, version: int, credential: str) -> bool:
        """Replace the hash of the same secret; no connection ends. False if changed since `version`."""
        async with self._transactions.transaction(write=True) as connection:
            result = await connection.execute(
                update(devices)
                .where(
                    devices.c.device_id == device_id,
                    devices.c.version == version,
                    devices.c.next_credential == "",  # two secrets stay hashed alike
                )
                .values(credential=credential)
            )
            if result.rowcount == 0:
                return False
            await log_change(connection, device_id)
            return True

    async def remove(self, device_id: str) -> None:
        """Forget the device; its connections end, and its tokens. Raises UnknownDevice."""
        async with self._transactions.transaction(write=True) as connection:
            await log_change(connection, device_id)
            await tokens.forget(connection, device_id, records=True)
            await usage.forget(connection, device_id)
            await denial_explanations.forget(connection, device_id)
            await bus_holdings.forget(connection, [device_id])
            result = await connection.execute(delete(devices).where(devices.c.device_id == device_id))
            if result.rowcount == 0:
                raise UnknownDevice(device_id)


def _check(wanted: NewDevice) -> None:
    """Raises InvalidValue."""
    if not is_device_id(wanted.device_id):
        raise InvalidValue(f"{wanted.device_id!r} is no device id")
    if labels_of(written_labels(wanted.labels)) is None:
        raise InvalidValue(f"{written_labels(wanted.labels)!r} are no labels")
    if not wanted.methods or not {*METHODS}.issuperset(wanted.methods):
        raise InvalidValue(f"{', '.join(wanted.methods)!r} are no methods")


def _row(device: Device) -> dict[str, object]:
    values = {name: value for name, value in asdict(device).items() if name in devices.c}
    return {**values, "labels": written_labels(device.labels)}


async def _change(
    connection: AsyncConnection, device_id: str, *, new_epoch: bool = False, **values: object
) -> Device:
    """Change a device: `values` end its connections, `new_epoch` ends its tokens. Raises UnknownDevice."""
    seq, now = await log_change(connection, device_id)
    if values:
        values["version"] = devices.c.version + 1
    if new_epoch:
        values["token_epoch"] = seq
        await tokens.forget(connection, device_id, records=False)
    result = await connection.execute(
        update(devices)
        .where(devices.c.device_id == device_id)
        .values(**values, updated_at=now)
        .returning(devices)
    )
    row = result.one_or_none()
    if row is None:
        raise UnknownDevice(device_id)
    revoked = await tokens.revocations(connection, [device_id])
    return _device(row, revoked.get(device_id, ()))


async def _demand(connection: AsyncConnection, device_id: str) -> Device:
    """Raises UnknownDevice."""
    device = await _find(connection, device_id)
    if device is None:
        raise UnknownDevice(device_id)
    return device


async def _find(connection: AsyncConnection, device_id: str) -> Device | None:
    row = (await connection.execute(select(devices).where(devices.c.device_id == device_id))).one_or_none()
    if row is None:
        return None
    revoked = await tokens.revocations(connection, [device_id])
    return _device(row, revoked.get(device_id, ()))


def _device(row: Row[tuple[object, ...]], revoked: tuple[Revocation, ...]) -> Device:
    roles, labels, methods = row.roles, labels_of(row.labels), row.methods
    # Somebody may have edited the file: a row that is not as we write it is reported, and grants nothing.
    if not (
        isinstance(roles, list)
        and all(isinstance(role, str) for role in roles)
        and labels is not None
        and isinstance(methods, list)
        and {*METHODS}.issuperset(methods)
        and isinstance(row.overlap_until, int)
        and is_device_id(row.device_id)
        and isinstance(row.token_epoch, int)
        and isinstance(row.observe_until, int)
    ):
        raise StoreError(
            f"the row of device {row.device_id!r} is damaged; remove the device and add it again"
        )
    return Device(
        device_id=row.device_id,
        roles=tuple(roles),
        labels=labels,
        enabled=row.enabled,
        credential=row.credential,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        token_epoch=row.token_epoch,
        revocations=revoked,
        observe_until=row.observe_until,
        methods=tuple(methods),
        next_credential=row.next_credential,
        overlap_until=row.overlap_until,
    )
