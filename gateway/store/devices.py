"""The rows of devices: who may connect, with which roles, and what ended the connections and tokens they had.

Each change is logged in its own transaction, so that whoever follows the log misses none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.policy.engine.identity import OBSERVE_MOST, Device, Revocation, is_device_id, is_label
from gateway.store import bus_holdings, tokens, usage
from gateway.store.change_log import log_change
from gateway.store.engine import Transactions
from gateway.store.errors import DeviceExists, InvalidValue, StoreError, UnknownDevice
from gateway.store.schema import devices


class Devices:
    """All devices. Each method is a transaction, or a part of the one it is called in."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def add(
        self, device_id: str, *, credential: str, roles: Sequence[str], labels: Mapping[str, str]
    ) -> Device:
        """A new device, enabled. Raises DeviceExists; InvalidValue for an id or a label that may not be."""
        if not is_device_id(device_id):
            raise InvalidValue(f"{device_id!r} is no device id")
        for name, value in labels.items():
            if not is_label(name, value):
                raise InvalidValue(f"{name}={value!r} is no label")
        async with self._transactions.transaction(write=True) as connection:
            if await _find(connection, device_id) is not None:
                raise DeviceExists(device_id)
            seq, now = await log_change(connection, device_id)
            device = Device(
                device_id=device_id,
                roles=tuple(roles),
                labels=dict(labels),
                enabled=True,
                credential=credential,
                # Not 1: a device removed and added again must not share a version with its predecessor, whose
                # connections and remembered secret are known by it. No version ever exceeds the log's end.
                version=seq,
                created_at=now,
                updated_at=now,
                # Nor may it share the epoch, for its predecessor's tokens are told apart by that.
                token_epoch=seq,
            )
            values = {name: value for name, value in asdict(device).items() if name in devices.c}
            await connection.execute(insert(devices).values(values))
            return device

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
        return await self._change(device_id, new_epoch=True, credential=credential)

    async def revoke_tokens(self, device_id: str) -> Device:
        """Revoke all tokens of the device that were issued until now. Raises UnknownDevice."""
        return await self._change(device_id, new_epoch=True)

    async def observe(self, device_id: str, seconds: int) -> Device:
        """Let pass, and report, what the rules refuse the device, from now on for so long; 0 ends it.

        Raises UnknownDevice; InvalidValue for a time that is longer than OBSERVE_MOST.
        """
        if not 0 <= seconds <= OBSERVE_MOST:
            raise InvalidValue(f"{seconds} s is not between 0 and {OBSERVE_MOST}")
        async with self._transactions.transaction(write=True) as connection:
            _, now = await log_change(connection, device_id)
            # It ends by itself and leaves the device as it is: the time of its last change stays.
            await connection.execute(
                update(devices)
                .where(devices.c.device_id == device_id)
                .values(observe_until=now + seconds if seconds else 0)
            )
            device = await _find(connection, device_id)
            if device is None:
                raise UnknownDevice(device_id)
            return device

    async def _change(self, device_id: str, *, new_epoch: bool = False, **values: object) -> Device:
        async with self._transactions.transaction(write=True) as connection:
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

    async def rehash_credential(self, device_id: str, *, version: int, credential: str) -> bool:
        """The same secret hashed anew; no connection ends. False when it has changed since `version`."""
        async with self._transactions.transaction(write=True) as connection:
            result = await connection.execute(
                update(devices)
                .where(devices.c.device_id == device_id, devices.c.version == version)
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
            await bus_holdings.forget(connection, [device_id])
            result = await connection.execute(delete(devices).where(devices.c.device_id == device_id))
            if result.rowcount == 0:
                raise UnknownDevice(device_id)


async def _find(connection: AsyncConnection, device_id: str) -> Device | None:
    row = (await connection.execute(select(devices).where(devices.c.device_id == device_id))).one_or_none()
    if row is None:
        return None
    revoked = await tokens.revocations(connection, [device_id])
    return _device(row, revoked.get(device_id, ()))


def _device(row: Row[tuple[object, ...]], revoked: tuple[Revocation, ...]) -> Device:
    roles, labels = row.roles, row.labels
    # Somebody may have edited the file: what is not as we write it grants nothing and is reported.
    if not (
        isinstance(roles, list)
        and all(isinstance(role, str) for role in roles)
        and isinstance(labels, dict)
        and all(isinstance(value, str) and is_label(name, value) for name, value in labels.items())
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
    )
