"""Keeps alerts and their messages in the store: no restart and no SIGKILL loses them or sends them twice.

Owns what is not kept yet and what is to be taken out again. A store that fails or hangs costs a message two
seconds, once, and no more: it is delivered all the same.
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
_SUBJECT = "alerts"


class AlertKeeper:
    """What is kept of the alerts of a gateway."""

    def __init__(
        self, store: Store, saves: Saves, start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        self._store = store
        self._saves = saves
        saves.expect(_SUBJECT)
        self._start = start
        self._rows: dict[Key, AlertRow | None] = {}
        """To be kept; None: to be forgotten."""
        self._messages: dict[tuple[str, str], MessageRow] = {}
        self._arrived: set[tuple[str, str]] = set()
        """Message and channel that are still in the store."""
        self._saving: asyncio.Task[None] | None = None

    def note(self, key: Key, alert: Alert | None) -> None:
        """This alert has changed; None: it is no more."""
        self._rows[key] = None if alert is None else row_of(alert)

    def add(self, channel: str, message: Message) -> None:
        """This message is to arrive through this channel."""
        row = MessageRow(message.message_id, channel, msgspec.json.encode(message).decode(), message.at)
        self._messages[message.message_id, channel] = row

    def arrived(self, message_id: str, channel: str) -> None:
        """It has, or was given up. The store forgets it now: a gateway that is killed would send it again."""
        if self._messages.pop((message_id, channel), None) is None:
            self._arrived.add((message_id, channel))
            self._begin()

    async def keep(self) -> None:
        """Have the store keep what it does not have yet; two seconds at most, and what is left later."""
        self._begin()
        if self._saving is not None:
            await asyncio.wait({self._saving}, timeout=_SECONDS_MAX)

    def _begin(self) -> None:
        if (self._saving is None or self._saving.done()) and (self._rows or self._messages or self._arrived):
            self._saving = self._start(self._save_all())

    async def _save_all(self) -> None:
        """What has arrived while it was being saved is not left for later, if the store serves."""
        while await self._save() and self._arrived:
            pass

    async def save(self) -> None:
        """The same, to the end: for a gateway that stops."""
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
            # Whatever ended it, a stop too: it is kept for the next. What has changed meanwhile is newer.
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
        """What the gateway before has left: its alerts, and what is still to arrive through which channel."""
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
        told=alert.told,
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
        told=row.told,
    )


def _text(labels: Labels) -> str:
    return json.dumps(labels)


def labels_of(text: str) -> Labels:
    """The labels that are kept as this text."""
    return tuple((str(label), str(value)) for label, value in json.loads(text))
