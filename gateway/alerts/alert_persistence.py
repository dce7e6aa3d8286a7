"""Keeps alerts and their messages in the store: no restart and no SIGKILL loses them or sends them twice.

Owns what the store does not have yet, and what is to be removed from it. A store that fails or hangs holds a
message up for two seconds, once: then it is delivered all the same.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from gateway.alerts.alert_states import Alert, Key, Phase
from gateway.alerts.notification_grouping import Message
from gateway.alerts.readings_protocol import Labels
from gateway.alerts.rules import Severity
from gateway.observe.save_failures import Saves
from gateway.store import Store, StoreError
from gateway.store.alerts import AlertRow, MessageRow

_SECONDS_MAX = 2.0
"""How long a message waits for the store."""
_SUBJECT = "alerts"


class AlertKeeper:
    """Has the store keep the alerts of a gateway, and the messages that have not arrived yet."""

    def __init__(
        self, store: Store, saves: Saves, start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        self._store = store
        self._saves = saves
        saves.expect(_SUBJECT)
        self._start = start
        self._rows: dict[Key, AlertRow | None] = {}
        """Alerts that the store is to keep as they are here; None: to forget."""
        self._messages: dict[tuple[str, str], MessageRow] = {}
        self._arrived: set[tuple[str, str]] = set()
        """Message id and channel of messages that the store still has and is to forget."""
        self._saving: asyncio.Task[None] | None = None

    def note(self, key: Key, alert: Alert | None) -> None:
        """This alert has changed; None: it is gone."""
        self._rows[key] = None if alert is None else row_of(alert)

    def add(self, channel: str, message: Message) -> None:
        """This message is to be delivered through this channel."""
        row = MessageRow(message.message_id, channel, msgspec.json.encode(message).decode(), message.at)
        self._messages[message.message_id, channel] = row

    def arrived(self, message_id: str, channel: str) -> None:
        """A message was delivered, or given up.

        Have the store forget it at once: else it is sent again if this process is killed.
        """
        if self._messages.pop((message_id, channel), None) is None:
            self._arrived.add((message_id, channel))
            self._begin()

    async def keep(self) -> None:
        """Have the store keep what it does not have yet. Wait two seconds at most; the rest is kept later."""
        self._begin()
        if self._saving is not None:
            await asyncio.wait({self._saving}, timeout=_SECONDS_MAX)

    def _begin(self) -> None:
        if (self._saving is None or self._saving.done()) and (self._rows or self._messages or self._arrived):
            self._saving = self._start(self._save_all())

    async def _save_all(self) -> None:
        """Save until no more messages have arrived meanwhile, or the store fails."""
        while await self._save() and self._arrived:
            pass

    async def save(self) -> None:
        """Save all that is left: for a gateway that stops."""
        if self._saving is not None:
            await asyncio.wait({self._saving}, timeout=_SECONDS_MAX)
        await self._save()

    async def _save(self) -> bool:
        """Whether the store has taken it."""
        rows, messages, arrived = self._rows, self._messages, self._arrived
        if not (rows or messages or arrived):
            return True
        self._rows, self._messages, self._arrived = {}, {}, set()
        try:
            await self._store.alerts.save(
                [row for row in rows.values() if row is not None],
                [(key[0], _text(key[1])) for key, row in rows.items() if row is None],
                list(messages.values()),
                arrived,
            )
        except BaseException as error:
            # Whatever ended it, a stop too: save it the next time. What has changed meanwhile is newer.
            self._rows = rows | self._rows
            self._messages = {
                key: row for key, row in messages.items() if key not in self._arrived
            } | self._messages
            self._arrived = (self._arrived - messages.keys()) | arrived
            if not isinstance(error, StoreError):
                raise
            self._saves.failed(_SUBJECT, error)
            return False
        self._saves.done(_SUBJECT)
        return True

    async def load(self) -> tuple[list[Alert], list[tuple[str, Message]]]:
        """What the last process left: its alerts, and by channel the messages still to be delivered."""
        try:
            states, messages = await self._store.alerts.states(), await self._store.alerts.messages()
        except StoreError as error:
            self._saves.failed(_SUBJECT, error)
            return [], []
        return [_alert(row) for row in states], [
            (row.channel, msgspec.json.decode(row.body, type=Message)) for row in messages
        ]


def row_of(alert: Alert) -> AlertRow:
    """The alert as the store keeps it."""
    return AlertRow(
        rule=alert.rule,
        labels=_text(alert.labels),
        phase=alert.phase,
        severity=alert.severity,
        summary=alert.summary,
        since=alert.since,
        changed_at=alert.changed_at,
        value=alert.value,
        times=alert.times,
        told=alert.notified,
    )


def _alert(row: AlertRow) -> Alert:
    return Alert(
        rule=row.rule,
        labels=labels_of(row.labels),
        severity=Severity(row.severity),
        summary=row.summary,
        phase=Phase(row.phase),
        since=row.since,
        changed_at=row.changed_at,
        value=row.value,
        times=row.times,
        notified=row.told,
    )


def _text(labels: Labels) -> str:
    return json.dumps(labels)


def labels_of(text: str) -> Labels:
    """The labels that the store keeps as this text."""
    return tuple((str(label), str(value)) for label, value in json.loads(text))
