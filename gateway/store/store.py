"""The store: devices and what they did, the log of their changes, their tokens, how often each key sealed.

What is acknowledged here has been synced to disk. It knows nothing of policy or connections, and
the data path never waits for it: `gateway.store.device_directory` keeps what that needs in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.connection.bus_holdings import Held
from gateway.policy.engine.identity import OBSERVE_MOST, Device, Revocation, is_device_id, is_label
from gateway.policy.engine.usage_recorder import Observation
from gateway.store import holdings as held_rows
from gateway.store import tokens as token_rows
from gateway.store import usage
from gateway.store.engine import Database, sqlite_path
from gateway.store.errors import DeviceExists, StoreError, UnknownDevice
from gateway.store.schema import admin_events, changes, devices, key_uses
from gateway.store.tokens import IssuedToken
from gateway.store.usage import Refusal

_CHANGES_KEPT = 86_400
"""How long the change log reaches back, in seconds."""
_EVENTS_KEPT = 10_000
"""Of those that no gateway has told yet: the newest."""


async def open_store(url: str) -> Store:
    """The store at `url` (`sqlite:///path`), made if it is not there, its tables brought up to date.

    Raises StoreError when it cannot be opened, is damaged, or was made by a newer version.
    """
    return Store(await asyncio.to_thread(Database, sqlite_path(url)))


class Store:
    """Each method is one transaction, and raises StoreError when the database fails."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_device(
        self, device_id: str, *, credential: str, roles: Sequence[str], labels: Mapping[str, str]
    ) -> Device:
        """A new device, enabled. Raises DeviceExists, and ValueError for an id or a label that may not be."""
        if not is_device_id(device_id):
            raise ValueError(f"{device_id!r} is no device id")
        for name, value in labels.items():
            if not is_label(name, value):
                raise ValueError(f"{name}={value!r} is no label")
        async with self._database.transaction(write=True) as connection:
            if await _find(connection, device_id) is not None:
                raise DeviceExists(device_id)
            seq, now = await _log_change(connection, device_id)
            device = Device(
                device_id=device_id,
                roles=tuple(roles),
                labels=dict(labels),
                enabled=True,
                credential=credential,
                # Not 1: a device removed and added again must not share a version with its predecessor, whose
                # sessions and remembered secret are told apart by it. No version ever exceeds the log's end.
                version=seq,
                created_at=now,
                updated_at=now,
                # Nor may it share the epoch, for its predecessor's tokens are told apart by that.
                token_epoch=seq,
            )
            values = {name: value for name, value in asdict(device).items() if name in devices.c}
            await connection.execute(insert(devices).values(values))
            return device

    async def device(self, device_id: str) -> Device | None:
        """The device of this id, if there is one."""
        async with self._database.transaction(write=False) as connection:
            return await _find(connection, device_id)

    async def devices(self, only: Collection[str] | None = None) -> list[Device]:
        """All devices, or those of the ids in `only` that exist, sorted by id."""
        query = select(devices).order_by(devices.c.device_id)
        if only is not None:
            query = query.where(devices.c.device_id.in_(only))
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query)).all()
            revoked = await token_rows.revocations(connection, only)
            return [_device(row, revoked.get(row.device_id, ())) for row in rows]

    async def set_enabled(self, device_id: str, *, enabled: bool) -> Device:
        """Let the device in, or keep it out and end its sessions. Raises UnknownDevice."""
        return await self._change(device_id, enabled=enabled)

    async def set_credential(self, device_id: str, credential: str) -> Device:
        """Another secret, as a PHC hash; sessions and tokens of the old one end. Raises UnknownDevice."""
        return await self._change(device_id, new_epoch=True, credential=credential)

    async def revoke_tokens_of(self, device_id: str) -> Device:
        """Revoke all tokens of the device that were issued until now. Raises UnknownDevice."""
        return await self._change(device_id, new_epoch=True)

    async def observe(self, device_id: str, seconds: int) -> Device:
        """Let pass, and tell, what the rules refuse the device, from now on for so long; 0 ends it.

        Raises UnknownDevice, and ValueError for a time that is longer than OBSERVE_MOST.
        """
        if not 0 <= seconds <= OBSERVE_MOST:
            raise ValueError(f"{seconds} s is not between 0 and {OBSERVE_MOST}")
        async with self._database.transaction(write=True) as connection:
            _, now = await _log_change(connection, device_id)
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
        async with self._database.transaction(write=True) as connection:
            seq, now = await _log_change(connection, device_id)
            if values:
                values["version"] = devices.c.version + 1
            if new_epoch:
                values["token_epoch"] = seq
                await token_rows.forget(connection, device_id, records=False)
            result = await connection.execute(
                update(devices)
                .where(devices.c.device_id == device_id)
                .values(**values, updated_at=now)
                .returning(devices)
            )
            row = result.one_or_none()
            if row is None:
                raise UnknownDevice(device_id)
            revoked = await token_rows.revocations(connection, [device_id])
            return _device(row, revoked.get(device_id, ()))

    async def rehash_credential(self, device_id: str, *, version: int, credential: str) -> bool:
        """The same secret hashed anew: no session ends. False when the device has changed since `version`."""
        async with self._database.transaction(write=True) as connection:
            result = await connection.execute(
                update(devices)
                .where(devices.c.device_id == device_id, devices.c.version == version)
                .values(credential=credential)
            )
            if result.rowcount == 0:
                return False
            await _log_change(connection, device_id)
            return True

    async def remove_device(self, device_id: str) -> None:
        """Forget the device; its sessions end, and its tokens. Raises UnknownDevice."""
        async with self._database.transaction(write=True) as connection:
            await _log_change(connection, device_id)
            await token_rows.forget(connection, device_id, records=True)
            await usage.forget(connection, device_id)
            await held_rows.forget(connection, [device_id])
            result = await connection.execute(delete(devices).where(devices.c.device_id == device_id))
            if result.rowcount == 0:
                raise UnknownDevice(device_id)

    async def last_change(self) -> int:
        """The number of the latest change, 0 if there was none."""
        async with self._database.transaction(write=False) as connection:
            return (await connection.execute(select(func.max(changes.c.seq)))).scalar_one() or 0

    async def changes_since(self, seq: int) -> tuple[int, frozenset[str] | None]:
        """The latest number, and the ids touched after `seq`.

        None for the ids: the log does not reach back that far, so that anything may have changed.
        """
        query = select(changes.c.seq, changes.c.device_id).where(changes.c.seq >= seq).order_by(changes.c.seq)
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query)).all()
        if not rows:
            return (0, frozenset()) if seq == 0 else (await self.last_change(), None)
        if rows[0].seq > seq + 1:
            return rows[-1].seq, None
        return rows[-1].seq, frozenset(row.device_id for row in rows if row.seq > seq)

    def mark(self) -> tuple[int, int]:
        """Something cheap that changes with every commit, but for two within one tick of the file clock.

        A hint for when to ask, not an answer. Raises StoreError when the database's file is gone.
        """
        return self._database.mark()

    async def add_tokens(self, records: Sequence[IssuedToken]) -> None:
        """Keep what was issued; records that are there already are replaced."""
        if records:
            async with self._database.transaction(write=True) as connection:
                await token_rows.save(connection, records, _now())

    async def tokens(self, device_id: str | None = None) -> list[IssuedToken]:
        """What was issued and has not expired, oldest first: to one device, or to all."""
        async with self._database.transaction(write=False) as connection:
            return await token_rows.read(connection, device_id, _now())

    async def revoke_token(self, *, device_id: str, root: str, since: int, until: int) -> Revocation | None:
        """Revoke the tokens of a chain that were issued at `since` or later; `until` all should have expired.

        Both in Unix seconds. What is stored may be wider, where the chain was revoked before. None: the
        device had as many revocations as are kept, and all its tokens until now are revoked instead. Raises
        UnknownDevice.
        """
        async with self._database.transaction(write=True) as connection:
            if await _find(connection, device_id) is None:
                raise UnknownDevice(device_id)
            seq, now = await _log_change(connection, device_id)
            kept = await token_rows.revoke(connection, device_id, Revocation(root, since, until))
            if kept is None:
                await token_rows.forget(connection, device_id, records=False)
                await connection.execute(
                    update(devices)
                    .where(devices.c.device_id == device_id)
                    .values(token_epoch=seq, updated_at=now)
                )
            return kept

    async def note_event(self, event: Mapping[str, object]) -> None:
        """Have a running gateway tell what was done here: JSON values, and no secret among them."""
        async with self._database.transaction(write=True) as connection:
            result = await connection.execute(
                insert(admin_events).values(at=_now(), event=dict(event)).returning(admin_events.c.seq)
            )
            oldest = int(result.scalar_one()) - _EVENTS_KEPT
            await connection.execute(delete(admin_events).where(admin_events.c.seq <= oldest))

    async def take_events(self, most: int = 100) -> list[Mapping[str, object]]:
        """The oldest `most` events that were noted. Nobody else gets them."""
        query = select(admin_events).order_by(admin_events.c.seq).limit(most)
        async with self._database.transaction(write=False) as connection:
            # Mostly there is none, and to read holds up no writer.
            if (await connection.execute(query.limit(1))).one_or_none() is None:
                return []
        async with self._database.transaction(write=True) as connection:
            rows = (await connection.execute(query)).all()
            if rows:
                await connection.execute(delete(admin_events).where(admin_events.c.seq <= rows[-1].seq))
            return [row.event for row in rows if isinstance(row.event, dict)]

    async def add_observations(self, seen: Sequence[Observation]) -> None:
        """Add to what was seen of devices before."""
        if seen:
            async with self._database.transaction(write=True) as connection:
                await usage.add_observations(connection, seen)

    async def observations(self, since: int, only: Collection[str] | None = None) -> list[Observation]:
        """What was seen later than `since` (Unix seconds): of the devices in `only`, or of all."""
        async with self._database.transaction(write=False) as connection:
            return await usage.read_observations(connection, since, only)

    async def add_refusals(self, told: Sequence[Refusal]) -> None:
        """Keep what was refused, for whoever asks why."""
        if told:
            async with self._database.transaction(write=True) as connection:
                await usage.add_refusals(connection, told)

    async def refusal(self, refusal_id: str) -> Refusal | None:
        """The refusal of this id, if it is kept."""
        async with self._database.transaction(write=False) as connection:
            return await usage.read_refusal(connection, refusal_id)

    async def prune_records(self) -> None:
        """Drop observations and refusals that are too old or too many."""
        async with self._database.transaction(write=True) as connection:
            await usage.prune(connection, _now())

    async def save_held(self, held: Sequence[Held]) -> None:
        """Keep what devices hold on the bus, in the place of what was kept; nothing of a removed device."""
        if held:
            async with self._database.transaction(write=True) as connection:
                await held_rows.save(connection, held)

    async def held(self, device_id: str | None = None) -> list[Held]:
        """What was kept of what a device holds, or all devices."""
        async with self._database.transaction(write=False) as connection:
            return await held_rows.read(connection, None if device_id is None else [device_id])

    async def forget_held(self, device_ids: Collection[str] | None) -> None:
        """Count what these devices hold from nothing, in a running gateway too; None: all rows go."""
        async with self._database.transaction(write=True) as connection:
            if device_ids is None:
                await held_rows.forget_all(connection)
                return
            await held_rows.forget(connection, device_ids)
            for device_id in device_ids:
                await _log_change(connection, device_id)

    async def take_forgotten(self) -> list[str]:
        """Of which devices that was asked. Nobody else gets them."""
        async with self._database.transaction(write=False) as connection:
            device_ids = await held_rows.forgotten(connection)
        if device_ids:
            async with self._database.transaction(write=True) as connection:
                await held_rows.forgot(connection, device_ids)
        return device_ids

    async def add_key_uses(self, key_id: str, n: int) -> int:
        """Count `n` more uses of the sealing key; the answer is how many there are now."""
        if n < 1:
            raise ValueError("uses only grow")
        async with self._database.transaction(write=True) as connection:
            result = await connection.execute(
                update(key_uses)
                .where(key_uses.c.key_id == key_id)
                .values(uses=key_uses.c.uses + n)
                .returning(key_uses.c.uses)
            )
            total = result.scalar_one_or_none()
            if total is None:
                await connection.execute(insert(key_uses).values(key_id=key_id, uses=n))
                return n
            return int(total)

    async def key_uses(self) -> dict[str, int]:
        """How often each sealing key was used."""
        async with self._database.transaction(write=False) as connection:
            return {row.key_id: row.uses for row in await connection.execute(select(key_uses))}

    async def reopen(self) -> None:
        """Open the file that is at the same path now, after a failure. Never makes one. Raises StoreError."""
        await self._database.reopen()

    async def close(self) -> None:
        """Give back the files. The store cannot be used after."""
        await self._database.close()


async def _log_change(connection: AsyncConnection, device_id: str) -> tuple[int, int]:
    """Tell the followers, in the transaction of the change; the answer is its number and its time."""
    now = _now()
    await connection.execute(delete(changes).where(changes.c.at < now - _CHANGES_KEPT))
    result = await connection.execute(
        insert(changes).values(device_id=device_id, at=now).returning(changes.c.seq)
    )
    return int(result.scalar_one()), now


async def _find(connection: AsyncConnection, device_id: str) -> Device | None:
    row = (await connection.execute(select(devices).where(devices.c.device_id == device_id))).one_or_none()
    if row is None:
        return None
    revoked = await token_rows.revocations(connection, [device_id])
    return _device(row, revoked.get(device_id, ()))


def _now() -> int:
    return int(datetime.now(UTC).timestamp())


def _device(row: Row[tuple[object, ...]], revoked: tuple[Revocation, ...]) -> Device:
    roles, labels = row.roles, row.labels
    # Somebody may have edited the file: what is not as we write it grants nothing and is told.
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
