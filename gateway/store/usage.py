"""The rows of usage records: what devices did and were refused.

No decision depends on them. They are kept for two weeks, and no device can push out the records of others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields, replace
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Row, Select, case, delete, func, insert, select, tuple_

from gateway.policy.engine.rules import Action
from gateway.policy.engine.topic_generalisation import EffortLeft, generalised
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.store import wall_clock
from gateway.store.existing_devices import GIVEN, insert_of_existing
from gateway.store.schema import usage_records
from gateway.store.transactions import Transactions

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert
    from sqlalchemy.ext.asyncio import AsyncConnection

KEPT_SECONDS = 14 * 86_400
"""How long a record is kept after its `last_at`, in seconds."""
_RECORDS_PER_DEVICE_MAX = 1_000
"""Records of one device; a sixteenth more may be there until it is looked at. With more, levels that vary
become `+`, and the oldest of the rest go into `OVERFLOW`."""
_REDUCED_AT_ONCE = 4
"""Devices whose usage records are reduced in one save."""
_REDUCING_EFFORT = 60_000
"""Units of effort to reduce those of one device: several times what an ordinary device's records take."""
_ROWS_AT_ONCE = 40
"""Rows in one statement: the event loop waits while it is prepared, a millisecond for forty."""
_RECORDS_MAX = 500_000
"""Records of all devices together."""

_COLUMNS = tuple(usage_records.c[one.name] for one in fields(UsageRecord))
_values = attrgetter(*(one.name for one in _COLUMNS))
_VALID = usage_records.c.action.in_(list(Action)) & usage_records.c.passage.in_(list(Passage))
"""Rows as this module writes them. One that somebody changed by hand is neither read nor counted."""


class Usage:
    """The usage records of all devices."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._added: dict[str, int] = {}
        """Records added by device, since it was last seen to have no more than it may."""

    async def add_records(self, seen: Sequence[UsageRecord]) -> list[str]:
        """Add to the stored records. Returns some of the devices that have too many now, for `reduce`.

        Records of removed devices are ignored.
        """
        if not seen:
            return []
        too_many: list[str] = []
        unseen = _RECORDS_PER_DEVICE_MAX // 16
        for one in seen:
            # The first of a device in this process has it looked at, however often the gateway is started.
            self._added[one.device_id] = self._added.get(one.device_id, unseen) + 1
        # Not at each save, of which there may be three a second.
        due = {one.device_id for one in seen if self._added[one.device_id] > unseen}

        async def add(transactions: Transactions) -> None:
            async with transactions.transaction(write=True) as connection:
                await connection.execute(_adding(), _parameters(seen, GIVEN))
                if due:
                    too_many.extend(await _with_too_many(connection, due))

        await self._transactions.write(add)
        self._added |= dict.fromkeys(due.difference(too_many), 0)
        return too_many[:_REDUCED_AT_ONCE]  # the others are due at their next records

    async def reduce(self, device_id: str) -> None:
        """Merge a device's records so that there are fewer, unless they change meanwhile.

        That takes some milliseconds, and by its choice of topics a device can make it a tenth of a second. So
        it is done in a thread, and before the transaction, so that others can write meanwhile.
        """
        its = usage_records.c.device_id == device_id
        wanted = _rows(its)
        async with self._transactions.transaction(write=False) as connection:
            state = (await connection.execute(_state_of(its))).one()
            before = (await connection.execute(wanted)).all()
        if len(before) <= _RECORDS_PER_DEVICE_MAX:
            return  # the device was removed, or somebody else was first
        fewer = await asyncio.to_thread(_fewer, before)

        async def replace_them(transactions: Transactions) -> None:
            async with transactions.transaction(write=True) as connection:
                if (await connection.execute(_state_of(its))).one() == state:  # else at its next turn
                    await connection.execute(delete(usage_records).where(its, _VALID))
                    for start in range(0, len(fewer), _ROWS_AT_ONCE):
                        await connection.execute(insert(usage_records), fewer[start : start + _ROWS_AT_ONCE])

        await self._transactions.write(replace_them)

    async def records(self, since: int, only: Collection[str] | None = None) -> list[UsageRecord]:
        """The records with a `last_at` from `since` on (Unix seconds), of devices in `only`, or of all."""
        wanted = usage_records.c.last_at >= since
        if only is not None:
            wanted &= usage_records.c.device_id.in_(only)
        async with self._transactions.transaction(write=False) as connection:
            return _records((await connection.execute(_rows(wanted))).all())

    async def prune(self) -> None:
        """Drop what is too old, and of too many the oldest."""
        at = usage_records.c.last_at
        async with self._transactions.transaction(write=True) as connection:
            await connection.execute(delete(usage_records).where(at < wall_clock.now() - KEPT_SECONDS))
            key = list(usage_records.primary_key)
            oldest = select(*key).order_by(at.desc()).offset(_RECORDS_MAX)
            await connection.execute(delete(usage_records).where(tuple_(*key).in_(oldest)))


@cache
def _adding() -> Insert:
    """Adds a record to the stored one, if its device is there. Made once: that takes as long as it runs."""
    statement = insert_of_existing(usage_records)
    new, old = statement.excluded, usage_records.c
    return statement.on_conflict_do_update(
        index_elements=list(usage_records.primary_key),
        set_={
            "count": old.count + new.count,
            # As CASE, for the function has a different name in each database.
            "first_at": case((new.first_at < old.first_at, new.first_at), else_=old.first_at),
            "last_at": case((new.last_at > old.last_at, new.last_at), else_=old.last_at),
        },
    )


async def _with_too_many(connection: AsyncConnection, touched: Collection[str]) -> Sequence[str]:
    """Those of the devices with more usage records than one may have, first who has most."""
    of = usage_records.c.device_id
    many = (
        select(of)
        .where(of.in_(touched), _VALID)
        .group_by(of)
        .having(func.count() > _RECORDS_PER_DEVICE_MAX)
        .order_by(func.count().desc(), of)
    )
    return (await connection.execute(many)).scalars().all()


def _fewer(rows: Sequence[Row[Any]]) -> list[dict[str, object]]:
    """At most half as many records as may be kept, in the form of `_parameters`.

    Levels that vary become `+`; of what is left then, the oldest go into `OVERFLOW`. What passed only because
    its device was observed gets no `+`: a role that is learned may allow just what was seen of it.
    """
    seen = _records(rows)
    becomes: dict[tuple[Action, Passage, str], str] = {}
    effort = EffortLeft(_REDUCING_EFFORT)
    for action in Action:
        named: dict[Passage, list[str]] = {
            passage: [
                one.template
                for one in seen
                if one.action is action and one.passage is passage and one.template != OVERFLOW
            ]
            for passage in Passage
        }
        not_allowed = [*named[Passage.OBSERVED], *named[Passage.REFUSED]]
        for passage, not_within in ((Passage.ALLOWED, not_allowed), (Passage.REFUSED, [])):
            wider = generalised(named[passage], not_within, effort=effort)
            becomes |= {(action, passage, old): new for old, new in wider.items()}
    by_age = sorted(seen, key=lambda one: (-one.last_at, one.template))
    merged: dict[tuple[Action, str, Passage], UsageRecord] = {}
    for one in by_age:
        template = becomes.get((one.action, one.passage, one.template), one.template)
        if (one.action, template, one.passage) not in merged and len(merged) >= _RECORDS_PER_DEVICE_MAX // 2:
            template = OVERFLOW
        known = merged.get((one.action, template, one.passage))
        merged[one.action, template, one.passage] = replace(
            one,
            template=template,
            count=one.count + (known.count if known else 0),
            first_at=min(one.first_at, known.first_at if known else one.first_at),
            last_at=max(one.last_at, known.last_at if known else one.last_at),
        )
    return _parameters(merged.values())


def _state_of(its: ColumnElement[bool]) -> Select[int, Any]:
    """How many records there are and how often that was decided in all: more once any of them has changed."""
    return select(func.count(), func.sum(usage_records.c.count)).where(its, _VALID)


def _rows(wanted: ColumnElement[bool]) -> Select[Any]:
    return select(*_COLUMNS).where(wanted, _VALID).order_by(*usage_records.primary_key)


def _records(rows: Iterable[Row[Any]]) -> list[UsageRecord]:
    return [
        UsageRecord(device_id, Action(action), template, Passage(passage), *rest)
        for device_id, action, template, passage, *rest in map(tuple, rows)
    ]


def _parameters(records: Iterable[UsageRecord], prefix: str = "") -> list[dict[str, object]]:
    """As a statement takes them. `dataclasses.asdict` would take as long as the statement."""
    names = [f"{prefix}{one.name}" for one in _COLUMNS]
    return [dict(zip(names, _values(one), strict=True)) for one in records]


async def forget(connection: AsyncConnection, device_id: str) -> None:
    """Drop what is kept of a device: a new one may get its id."""
    await connection.execute(delete(usage_records).where(usage_records.c.device_id == device_id))
