"""The rows of tokens that were issued and of those that were revoked.

Knows of a token only its id, its chain and its times, not the token itself. Records are dropped once they
have expired. Revocations are not, for a clock that ran ahead for a moment would undo them for ever. They are
dropped with their device, and when its epoch changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, func, insert, select, update

from gateway.policy.engine.identity import Device, Grant, Revocation
from gateway.store import wall_clock
from gateway.store.change_log import log_change
from gateway.store.errors import StoreError, UnknownDevice
from gateway.store.existing_devices import existing
from gateway.store.schema import devices, token_revocations, tokens
from gateway.store.transactions import Transactions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_KEPT_OF_A_DEVICE = 1_000
"""Records kept per device. With more, the device's own oldest ones are dropped; no revocation needs them."""
REVOCATIONS_MAX = 100
"""Of one device: with the next one all its tokens are revoked, and these are not needed any more."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """What is kept of a token: enough to list and to revoke it, nothing to log in with."""

    token_id: str
    """`jti`."""
    device_id: str
    root: str
    """`jti` of the first token of its chain."""
    epoch: int | None
    """The device's `token_epoch` when it was issued. Tokens without one are not ours, and not recorded."""
    issued_at: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds."""
    source: str
    """Who asked: `auth` (the service topic), `api` or `admin`."""

    @classmethod
    def of(cls, device_id: str, grant: Grant, source: str) -> IssuedToken:
        """The record of this device's grant."""
        return cls(
            token_id=grant.token_id,
            device_id=device_id,
            root=grant.root,
            epoch=grant.epoch,
            issued_at=grant.issued_at,
            expires_at=grant.expires_at,
            source=source,
        )

    def is_revoked_by(self, device: Device | None) -> bool:
        """Whether this device's state makes it invalid. `device` None: it was removed."""
        if device is None:
            return True
        grant = Grant(self.token_id, self.root, self.epoch, self.issued_at, self.expires_at, {})
        return device.has_revoked(grant)


class IssuedTokens:
    """The records of tokens that have not expired, and the revocations of chains."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def add(self, records: Sequence[IssuedToken]) -> None:
        """Keep what was issued, and drop what has expired; records that are there already are replaced.

        Nothing of a removed device.
        """
        if records:
            await self._transactions.write(partial(_add, records))

    async def read(self, device_id: str | None = None) -> list[IssuedToken]:
        """What was issued and has not expired, oldest first: to one device, or to all."""
        query = select(tokens).where(tokens.c.expires_at > wall_clock.now())
        if device_id is not None:
            query = query.where(tokens.c.device_id == device_id)
        query = query.order_by(tokens.c.issued_at, tokens.c.token_id)
        async with self._transactions.transaction(write=False) as connection:
            return [IssuedToken(**row) for row in (await connection.execute(query)).mappings()]

    async def count(self) -> int:
        """How many were issued and have not expired."""
        query = select(func.count()).select_from(tokens).where(tokens.c.expires_at > wall_clock.now())
        async with self._transactions.transaction(write=False) as connection:
            return int((await connection.execute(query)).scalar_one())

    async def revoke(self, *, device_id: str, root: str, since: int, until: int) -> Revocation | None:
        """Revoke the tokens of a chain that were issued at `since` or later.

        All of them should have expired at `until`. Both are in Unix seconds. The returned revocation may be
        wider, if the chain was revoked before. None: the device already has as many revocations as are kept,
        so all its tokens were revoked instead. Raises UnknownDevice.
        """
        async with self._transactions.transaction(write=True) as connection:
            there = select(devices.c.device_id).where(devices.c.device_id == device_id)
            if (await connection.execute(there)).one_or_none() is None:
                raise UnknownDevice(device_id)
            seq, now = await log_change(connection, device_id)
            kept = await _add_revocation(connection, device_id, Revocation(root, since, until))
            if kept is None:
                await forget(connection, device_id, records=False)
                await connection.execute(
                    update(devices)
                    .where(devices.c.device_id == device_id)
                    .values(token_epoch=seq, updated_at=now)
                )
            return kept


async def _add_revocation(
    connection: AsyncConnection, device_id: str, revocation: Revocation
) -> Revocation | None:
    """Store the revocation, merged with an existing one of the same chain. None: there are too many."""
    table = token_revocations
    same = (table.c.device_id == device_id) & (table.c.root == revocation.root)
    row = (await connection.execute(select(table).where(same))).one_or_none()
    if row is None:
        many = select(func.count()).select_from(table).where(table.c.device_id == device_id)
        if (await connection.execute(many)).scalar_one() >= REVOCATIONS_MAX:
            return None
        values = {"root": revocation.root, "since": revocation.since, "until": revocation.until}
        await connection.execute(insert(table).values(device_id=device_id, **values))
        return revocation
    since, until = min(row.since, revocation.since), max(row.until, revocation.until)
    await connection.execute(update(table).where(same).values(since=since, until=until))
    return Revocation(revocation.root, since, until)


async def revocations(
    connection: AsyncConnection, only: Collection[str] | None = None
) -> Mapping[str, tuple[Revocation, ...]]:
    """The revocations by device; of the devices in `only`, or of all."""
    table = token_revocations
    query = select(table).order_by(table.c.device_id, table.c.root)
    if only is not None:
        query = query.where(table.c.device_id.in_(only))
    found: defaultdict[str, tuple[Revocation, ...]] = defaultdict(tuple)
    for row in await connection.execute(query):
        if not (isinstance(row.root, str) and isinstance(row.since, int) and isinstance(row.until, int)):
            # Left out, it would let a revoked token in again.
            raise StoreError(
                f"a revoked token of device {row.device_id!r} is damaged in the store; rotate the device's "
                "secret, which revokes all its tokens"
            )
        found[row.device_id] += (Revocation(row.root, row.since, row.until),)
    return found


async def forget(connection: AsyncConnection, device_id: str, *, records: bool) -> None:
    """Drop the device's revocations, which a new epoch or its removal makes needless; `records` too."""
    table = token_revocations
    await connection.execute(delete(table).where(table.c.device_id == device_id))
    if records:
        await connection.execute(delete(tokens).where(tokens.c.device_id == device_id))


async def _add(records: Sequence[IssuedToken], transactions: Transactions) -> None:
    # Whoever saw a failure after the commit brings them once more.
    again = delete(tokens).where(tokens.c.token_id == bindparam("its_id"))
    too_old = (
        select(tokens.c.token_id)
        .where(tokens.c.device_id == bindparam("its_device"))
        .order_by(tokens.c.issued_at.desc(), tokens.c.token_id)
        .offset(_KEPT_OF_A_DEVICE)
    )
    async with transactions.transaction(write=True) as connection:
        await connection.execute(delete(tokens).where(tokens.c.expires_at <= wall_clock.now()))
        there = await existing(connection, {record.device_id for record in records})
        kept = [record for record in records if record.device_id in there]
        if not kept:
            return
        await connection.execute(again, [{"its_id": record.token_id} for record in kept])
        await connection.execute(insert(tokens), [asdict(record) for record in kept])
        await connection.execute(
            delete(tokens).where(tokens.c.token_id.in_(too_old.scalar_subquery())),
            [{"its_device": device_id} for device_id in there],
        )
