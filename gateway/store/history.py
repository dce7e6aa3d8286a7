"""The rows of the history: one per moment with all measured values, and the series that these belong to.

The values are packed by `gateway.observe.history_encoding`; here they are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypeAlias

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects import sqlite

from gateway.store.schema import history, history_series
from gateway.store.transactions import Transactions

Labels: TypeAlias = tuple[tuple[str, str], ...]
SeriesRow: TypeAlias = tuple[int, str, Labels]
"""Id, name and labels."""
Row: TypeAlias = tuple[int, int, int, bytes]
"""Step (seconds between the rows of a resolution), number of the row in it, time in Unix milliseconds,
values."""


class History:
    """What was measured in the last 24 hours."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def save(
        self,
        *,
        series: Sequence[SeriesRow],
        ended: Sequence[int],
        rows: Sequence[Row],
        moved: Sequence[tuple[int, int, int]],
        needed: Mapping[int, int],
    ) -> None:
        """Add series and rows, correct the times of `moved`, and drop what ended or comes before `needed`.

        `ended` are ids of series; `moved` has step, number and new time of rows; `needed` gives, by step, the
        number of the first row to keep. All is saved or nothing, and saving it again changes nothing.
        """
        await self._transactions.write_in_thread(
            partial(_save, series=series, ended=ended, rows=rows, moved=moved, needed=needed)
        )

    async def read(self) -> tuple[list[SeriesRow], list[Row]]:
        """All series, and all rows by step and number."""
        async with self._transactions.transaction(write=False) as connection:
            series = await connection.execute(select(history_series).order_by(history_series.c.series_id))
            found = [
                (row.series_id, row.name, tuple((str(label), str(value)) for label, value in row.labels))
                for row in series
            ]
            rows = await connection.execute(select(history).order_by(*history.primary_key))
            return found, [(row.step, row.number, row.at, row.data) for row in rows]


async def _save(
    transactions: Transactions,
    *,
    series: Sequence[SeriesRow],
    ended: Sequence[int],
    rows: Sequence[Row],
    moved: Sequence[tuple[int, int, int]],
    needed: Mapping[int, int],
) -> None:
    moments, known = history.c, history_series.c
    async with transactions.transaction(write=True) as connection:
        if series:
            await connection.execute(
                sqlite.insert(history_series).on_conflict_do_nothing(),
                [
                    {"series_id": series_id, "name": name, "labels": [list(pair) for pair in labels]}
                    for series_id, name, labels in series
                ],
            )
        if ended:
            await connection.execute(delete(history_series).where(known.series_id.in_(ended)))
        if moved:
            await connection.execute(
                update(history)
                .where(moments.step == bindparam("of_step"), moments.number == bindparam("of_number"))
                .values(at=bindparam("moved_to")),
                [{"of_step": step, "of_number": number, "moved_to": at} for step, number, at in moved],
            )
        if rows:
            statement = sqlite.insert(history)
            columns = {name: statement.excluded[name] for name in ("at", "data")}
            await connection.execute(
                statement.on_conflict_do_update(index_elements=list(history.primary_key), set_=columns),
                [{"step": step, "number": number, "at": at, "data": data} for step, number, at, data in rows],
            )
        for step, first in needed.items():
            await connection.execute(delete(history).where(moments.step == step, moments.number < first))
