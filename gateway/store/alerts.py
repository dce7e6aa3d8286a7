"""Alerts over restarts: their states, the messages that have not arrived yet, and silences."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.dialects import sqlite

from gateway.store import wall_clock
from gateway.store.schema import alert_messages, alert_states, silences
from gateway.store.transactions import Transactions

_KEPT_SECONDS = 86_400
"""Seconds for which a silence that is over is still listed."""


@dataclass(frozen=True, slots=True)
class AlertRow:
    """The state of an alert (see `gateway.alerts.alert_states.Alert`). Times are Unix milliseconds."""

    rule: str
    labels: str
    """JSON: pairs of label and value."""
    phase: str
    severity: str
    summary: str
    since: int
    changed_at: int
    value: float
    times: int
    told: bool


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message that one channel has not delivered yet."""

    message_id: str
    channel: str
    body: str
    created_at: int
    """Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class Silence:
    """While it lasts, nobody is notified of matching alerts. Times are Unix seconds."""

    silence_id: str
    rule: str
    """Name of the rule; empty for any rule."""
    labels: Mapping[str, str]
    """Labels that an alert has to have, all of them."""
    since: int
    until: int
    comment: str
    actor: str

    def fits(self, rule: str, labels: Mapping[str, str]) -> bool:
        """Whether it matches an alert of this rule with these labels."""
        return self.rule in {"", rule} and all(
            labels.get(name) == value for name, value in self.labels.items()
        )


class Alerts:
    """What is kept of alerts."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def save(
        self,
        changed: Sequence[AlertRow],
        gone: Collection[tuple[str, str]],
        messages: Sequence[MessageRow],
        arrived: Collection[tuple[str, str]],
    ) -> None:
        """Store the `changed` states and new `messages`.

        Drop the states of alerts that are `gone` (rule and labels), and the messages that have `arrived` (id
        and channel).
        """
        async with self._transactions.transaction(write=True) as connection:
            columns = alert_states.c
            # One statement for all, here and below: each costs iterations of the event loop, and nobody else
            # can write until the last is done.
            if gone:
                its = columns.rule == bindparam("its_rule"), columns.labels == bindparam("its_labels")
                rows = [{"its_rule": rule, "its_labels": labels} for rule, labels in gone]
                await connection.execute(delete(alert_states).where(*its), rows)
            if changed:
                statement = sqlite.insert(alert_states)
                keys = set(alert_states.primary_key)
                values = {one.name: statement.excluded[one.name] for one in columns if one not in keys}
                await connection.execute(
                    statement.on_conflict_do_update(index_elements=list(keys), set_=values),
                    [_values(one) for one in changed],
                )
            if arrived:
                of = alert_messages.c
                its = of.message_id == bindparam("its_id"), of.channel == bindparam("its_channel")
                rows = [{"its_id": message_id, "its_channel": channel} for message_id, channel in arrived]
                await connection.execute(delete(alert_messages).where(*its), rows)
            if messages:
                await connection.execute(
                    sqlite.insert(alert_messages).on_conflict_do_nothing(), [_values(one) for one in messages]
                )

    async def states(self) -> list[AlertRow]:
        """All that are kept, in a fixed order."""
        query = select(alert_states).order_by(*alert_states.primary_key)
        async with self._transactions.transaction(write=False) as connection:
            return [AlertRow(**row) for row in (await connection.execute(query)).mappings()]

    async def messages(self) -> list[MessageRow]:
        """All that wait, the oldest first."""
        query = select(alert_messages).order_by(alert_messages.c.created_at)
        async with self._transactions.transaction(write=False) as connection:
            return [MessageRow(**row) for row in (await connection.execute(query)).mappings()]

    async def silence(self, silence: Silence) -> None:
        """Begin one. Those that were over a day ago are forgotten."""
        async with self._transactions.transaction(write=True) as connection:
            await connection.execute(
                delete(silences).where(silences.c.until < wall_clock.now() - _KEPT_SECONDS)
            )
            values = {**_values(silence), "labels": json.dumps(dict(sorted(silence.labels.items())))}
            await connection.execute(insert(silences).values(**values))

    async def silences(self) -> list[Silence]:
        """All that are kept, those that are over too, the oldest first."""
        query = select(silences).order_by(silences.c.since, silences.c.silence_id)
        async with self._transactions.transaction(write=False) as connection:
            rows = (await connection.execute(query)).mappings()
            return [Silence(**{**row, "labels": json.loads(row["labels"])}) for row in rows]

    async def end_silence(self, silence_id: str) -> bool:
        """End one now; whether there was one that was not over."""
        now = wall_clock.now()
        async with self._transactions.transaction(write=True) as connection:
            ended = await connection.execute(
                update(silences)
                .where(silences.c.silence_id == silence_id, silences.c.until > now)
                .values(until=now)
            )
            return bool(ended.rowcount)


def _values(row: AlertRow | MessageRow | Silence) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__slots__}
