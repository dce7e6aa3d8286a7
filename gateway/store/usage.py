"""The rows of what devices did and were refused: usage records, and the refusals that were reported.

No decision is made by these rows; they are kept for two weeks, and no device can push out others'.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import case, delete, func, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.policy.engine.decision_recorder import MORE, UsageRecord
from gateway.policy.engine.rules import Action
from gateway.policy.engine.topic_templates import Effort, generalised
from gateway.store import clock
from gateway.store.engine import Transactions
from gateway.store.schema import observations, refusals

KEPT_SECONDS = 14 * 86_400
_OF_A_DEVICE = 1_000
"""Usage records; with more of them what varies is written as `+`, and the oldest of the rest are counted."""
_REDUCED_AT_ONCE = 4
"""Devices whose usage records are made fewer in one save."""
_EFFORT = 60_000
"""Steps of `gateway.policy.engine.topic_templates` for one of them: some times what a device takes that does
its work."""
_IN_ALL = 500_000
_REFUSALS_OF_A_DEVICE = 600
"""The oldest third, the newest, and of those between them as different ones as there are."""
_REFUSALS_IN_ALL = 20_000

_ACTIONS = frozenset(action.value for action in Action)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal as it was reported."""

    refusal_id: str
    at: int
    """Unix seconds."""
    device_id: str
    action: str
    topic: str
    reason: str
    rule: str
    """`file:line` of the rule that decided; empty for none."""


class Usage:
    """Usage records and refusals."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def add_records(self, seen: Sequence[UsageRecord]) -> None:
        """Add to what was seen of devices before."""
        if seen:
            async with self._transactions.transaction(write=True) as connection:
                await _add_records(connection, seen)

    async def records(self, since: int, only: Collection[str] | None = None) -> list[UsageRecord]:
        """What was seen later than `since` (Unix seconds): of the devices in `only`, or of all."""
        async with self._transactions.transaction(write=False) as connection:
            return await _read_records(connection, since, only)

    async def add_refusals(self, some: Sequence[Refusal]) -> None:
        """Keep what was refused, for whoever asks why; of a device with too many what says most."""
        if some:
            async with self._transactions.transaction(write=True) as connection:
                await _add_refusals(connection, some)

    async def refusal(self, refusal_id: str) -> Refusal | None:
        """The refusal of this id, if it is kept."""
        query = select(refusals).where(refusals.c.refusal_id == refusal_id)
        async with self._transactions.transaction(write=False) as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
            return None if row is None else Refusal(**row)

    async def prune(self) -> None:
        """Drop what is too old, and of too many the oldest; of refusals first those of who has most."""
        tables = (
            (observations, observations.c.last_at, _IN_ALL),
            (refusals, refusals.c.at, _REFUSALS_IN_ALL),
        )
        async with self._transactions.transaction(write=True) as connection:
            for table, at, _ in tables:
                await connection.execute(delete(table).where(at < clock.now() - KEPT_SECONDS))
            await _even_out(connection)
            for table, at, most in tables:
                last = select(at).order_by(at.desc()).offset(most).limit(1)
                await connection.execute(delete(table).where(at <= last.scalar_subquery()))


async def _add_records(connection: AsyncConnection, seen: Sequence[UsageRecord]) -> None:
    statement = sqlite.insert(observations)
    new, old = statement.excluded, observations.c
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(observations.primary_key),
            set_={
                "count": old.count + new.count,
                # As CASE, for the function has a different name in each database.
                "first_at": case((new.first_at < old.first_at, new.first_at), else_=old.first_at),
                "last_at": case((new.last_at > old.last_at, new.last_at), else_=old.last_at),
            },
        ),
        [asdict(one) for one in seen],
    )
    touched = {one.device_id for one in seen}
    many = (
        select(old.device_id)
        .where(old.device_id.in_(touched))
        .group_by(old.device_id)
        .having(func.count() > _OF_A_DEVICE)
        # The others at their next turn: they can be no more than what is saved at once brings.
        .order_by(func.count().desc(), old.device_id)
        .limit(_REDUCED_AT_ONCE)
    )
    for device_id in (await connection.execute(many)).scalars().all():
        # In a thread: it takes some milliseconds, and whoever names topics can make it a tenth of a second.
        fewer = await asyncio.to_thread(_fewer, await _read_records(connection, 0, [device_id]))
        await connection.execute(delete(observations).where(old.device_id == device_id))
        await connection.execute(insert(observations), [asdict(one) for one in fewer])


def _fewer(seen: Sequence[UsageRecord]) -> list[UsageRecord]:
    """At most half as many as may be kept: what varies as `+`, then the newest."""
    becomes: dict[tuple[Action, bool, str], str] = {}
    effort = Effort(_EFFORT)
    for action in Action:
        refused = [one.template for one in seen if one.action is action and not one.allowed]
        for allowed in (True, False):
            mine = [one.template for one in seen if one.action is action and one.allowed is allowed]
            named = [one for one in mine if one != MORE]
            wider = generalised(named, refused if allowed else (), effort=effort)
            becomes |= {(action, allowed, old): new for old, new in wider.items()}
    by_age = sorted(seen, key=lambda one: (-one.last_at, one.template))
    merged: dict[tuple[Action, str, bool], UsageRecord] = {}
    for one in by_age:
        template = becomes.get((one.action, one.allowed, one.template), MORE)
        if (one.action, template, one.allowed) not in merged and len(merged) >= _OF_A_DEVICE // 2:
            template = MORE
        known = merged.get((one.action, template, one.allowed))
        merged[one.action, template, one.allowed] = replace(
            one,
            template=template,
            count=one.count + (known.count if known else 0),
            first_at=min(one.first_at, known.first_at if known else one.first_at),
            last_at=max(one.last_at, known.last_at if known else one.last_at),
        )
    return list(merged.values())


async def _read_records(
    connection: AsyncConnection, since: int, only: Collection[str] | None
) -> list[UsageRecord]:
    columns = observations.c
    query = select(observations).where(columns.last_at >= since).order_by(*observations.primary_key)
    if only is not None:
        query = query.where(columns.device_id.in_(only))
    return [
        UsageRecord(**{**row, "action": Action(row["action"])})
        for row in (await connection.execute(query)).mappings()
        if row["action"] in _ACTIONS
    ]


async def _add_refusals(connection: AsyncConnection, some: Sequence[Refusal]) -> None:
    # Whoever saw a failure after the commit brings them once more.
    again = sqlite.insert(refusals).on_conflict_do_nothing()
    await connection.execute(again, [asdict(one) for one in some])
    many = (
        select(refusals.c.device_id)
        .where(refusals.c.device_id.in_({one.device_id for one in some}))
        .group_by(refusals.c.device_id)
        .having(func.count() > _REFUSALS_OF_A_DEVICE)
    )
    for device_id in (await connection.execute(many)).scalars().all():
        its = refusals.c.device_id == device_id
        rows = await connection.execute(
            select(refusals).where(its).order_by(refusals.c.at, refusals.c.refusal_id)
        )
        kept = _worth_keeping([Refusal(**row) for row in rows.mappings()])
        await connection.execute(delete(refusals).where(its, refusals.c.refusal_id.not_in(kept)))


def _worth_keeping(rows: Sequence[Refusal]) -> list[str]:
    """The ids of those to keep, of the refusals of one device from the oldest to the newest.

    Whoever floods can push out neither its first refusals nor, from another part of the topic tree than its
    decoys, what it did among them. Within a part chance decides (an id is random): nobody can choose.
    """
    third = max(1, _REFUSALS_OF_A_DEVICE // 3)
    between = sorted(rows[third:-third], key=lambda one: one.refusal_id)
    alike: Counter[tuple[str, str, str]] = Counter()
    ranked: list[tuple[int, str]] = []
    for one in between:
        part = (one.action, one.rule, one.topic.partition("/")[0])
        ranked.append((alike[part], one.refusal_id))
        alike[part] += 1
    ends = [one.refusal_id for one in (*rows[:third], *rows[-third:])]
    return ends + [refusal_id for _, refusal_id in sorted(ranked)[: _REFUSALS_OF_A_DEVICE - len(ends)]]


async def _even_out(connection: AsyncConnection) -> None:
    """Leave as many refusals to each device as there is room for, its first and its newest."""
    column = refusals.c
    by_device = select(func.count()).select_from(refusals).group_by(column.device_id)
    counts = sorted((await connection.execute(by_device)).scalars().all())
    room = _REFUSALS_IN_ALL
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
    for table in (observations, refusals):
        await connection.execute(delete(table).where(table.c.device_id == device_id))
