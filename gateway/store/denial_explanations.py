"""The rows of refusals, as they were reported, for admins who ask why something was refused.

Kept for two weeks. No device can push out the refusals of others, nor, by causing many, its own that matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, delete, func, select

from gateway.store import wall_clock
from gateway.store.existing_devices import GIVEN, insert_of_existing
from gateway.store.schema import refusals
from gateway.store.transactions import Transactions
from gateway.store.usage import KEPT_SECONDS

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert
    from sqlalchemy.ext.asyncio import AsyncConnection

_PER_DEVICE_MAX = 600
"""Refusals that are kept of a device: the oldest third, the newest third, and of those between them as
different ones as there are. An eighth more may be there until it is looked at: choosing takes a while."""
_ALL_MAX = 20_000
"""Refusals of all devices together."""


@dataclass(frozen=True, slots=True)
class StoredRefusal:
    """A refusal as it was reported to admins."""

    refusal_id: str
    at: int
    """Unix seconds."""
    device_id: str
    action: str
    topic: str
    reason: str
    rule: str
    """`file:line` of the rule that decided; empty for none."""


class Refusals:
    """Refusals of devices."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._added: dict[str, int] = {}
        """Refusals added by device, since it was last looked at how many it has."""

    async def add(self, some: Sequence[StoredRefusal]) -> None:
        """Store refusals; of a device with too many, keep those that say the most (`_least_worth`).

        Refusals of removed devices are ignored.
        """
        if not some:
            return
        unseen = _PER_DEVICE_MAX // 8
        for one in some:
            # The first of a device in this process has it looked at, however often the gateway is started.
            self._added[one.device_id] = self._added.get(one.device_id, unseen) + 1
        # Not at each save, of which there may be six a second.
        due = {one.device_id for one in some if self._added[one.device_id] > unseen}
        await self._transactions.write(partial(_add, some, due))
        self._added |= dict.fromkeys(due, 0)

    async def get(self, refusal_id: str) -> StoredRefusal | None:
        """The refusal of this id, if it is kept."""
        query = select(refusals).where(refusals.c.refusal_id == refusal_id)
        async with self._transactions.transaction(write=False) as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
            return None if row is None else StoredRefusal(**row)

    async def prune(self) -> None:
        """Drop what is too old, and of too many first those of who has most."""
        async with self._transactions.transaction(write=True) as connection:
            await connection.execute(delete(refusals).where(refusals.c.at < wall_clock.now() - KEPT_SECONDS))
            await _even_out(connection)
            newest_first = refusals.c.at.desc(), refusals.c.refusal_id
            too_many = select(refusals.c.refusal_id).order_by(*newest_first).offset(_ALL_MAX)
            await connection.execute(delete(refusals).where(refusals.c.refusal_id.in_(too_many)))


async def _add(some: Sequence[StoredRefusal], due: Collection[str], transactions: Transactions) -> None:
    async with transactions.transaction(write=True) as connection:
        await connection.execute(
            _adding(), [{f"{GIVEN}{name}": value for name, value in asdict(one).items()} for one in some]
        )
        for device_id in await _with_too_many(connection, due) if due else ():
            its = refusals.c.device_id == device_id
            rows = await connection.execute(
                select(refusals).where(its).order_by(refusals.c.at, refusals.c.refusal_id)
            )
            too_many = _least_worth(rows.all())
            await connection.execute(delete(refusals).where(refusals.c.refusal_id.in_(too_many)))


@cache
def _adding() -> Insert:
    # Whoever saw a failure after the commit brings them once more.
    return insert_of_existing(refusals).on_conflict_do_nothing()


async def _with_too_many(connection: AsyncConnection, of: Collection[str]) -> Sequence[str]:
    """Those of these devices with more refusals than are kept of one."""
    many = (
        select(refusals.c.device_id)
        .where(refusals.c.device_id.in_(of))
        .group_by(refusals.c.device_id)
        .having(func.count() > _PER_DEVICE_MAX)
    )
    return (await connection.execute(many)).scalars().all()


def _least_worth(rows: Sequence[Row[Any]]) -> list[str]:
    """The ids of the refusals to drop, of all those of one device from the oldest to the newest.

    A device that causes many refusals can push out neither its first ones nor, by decoys (refusals that it
    causes to hide others), those in a different part of the topic tree. Within a part, chance decides (ids
    are random), so nobody can choose.
    """
    third = max(1, _PER_DEVICE_MAX // 3)
    between = sorted(rows[third:-third], key=lambda one: one.refusal_id)
    alike: Counter[tuple[str, str, str]] = Counter()
    ranked: list[tuple[int, str]] = []
    for one in between:
        part = (one.action, one.rule, one.topic.partition("/")[0])
        ranked.append((alike[part], one.refusal_id))
        alike[part] += 1
    return [refusal_id for _, refusal_id in sorted(ranked)[_PER_DEVICE_MAX - 2 * third :]]


async def _even_out(connection: AsyncConnection) -> None:
    """If there are too many in all, leave each device an equal number: its first and its newest."""
    column = refusals.c
    by_device = select(func.count()).select_from(refusals).group_by(column.device_id)
    counts = sorted((await connection.execute(by_device)).scalars().all())
    room = _ALL_MAX
    if sum(counts) <= room:
        return
    most = 1
    for left, count in zip(range(len(counts), 0, -1), counts, strict=True):
        most = max(1, room // left)
        if count > most:
            break
        room -= count
    numbered = select(
        column.refusal_id,
        func.row_number()
        .over(partition_by=column.device_id, order_by=(column.at, column.refusal_id))
        .label("from_first"),
        func.row_number()
        .over(partition_by=column.device_id, order_by=(column.at.desc(), column.refusal_id.desc()))
        .label("from_last"),
    ).subquery()
    first = most // 2
    over = select(numbered.c.refusal_id).where(
        numbered.c.from_first > first, numbered.c.from_last > most - first
    )
    await connection.execute(delete(refusals).where(column.refusal_id.in_(over)))


async def forget(connection: AsyncConnection, device_id: str) -> None:
    """Drop what is kept of a device: a new one may get its id."""
    await connection.execute(delete(refusals).where(refusals.c.device_id == device_id))
