"""Slack, by an incoming webhook."""

from __future__ import annotations

import msgspec

from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.http_post import post
from gateway.alerts.channels.message_texts import lines_of, title_of
from gateway.alerts.channels.settings import SlackSettings
from gateway.alerts.notification_grouping import Message
from gateway.observe.terminal_escaping import printable


class Slack:
    """Posts a text."""

    def __init__(self, settings: SlackSettings, *, private: bool) -> None:
        """`private`: it may be on the local network, as what speaks Slack's language does (Mattermost)."""
        self._settings = settings
        self._private = private

    async def send(self, message: Message) -> None:
        """Post it. Slack has no message ids: if its answer is lost, people get the message twice."""
        text = "\n".join((f"*{_plain(title_of(message))}*", *map(_plain, lines_of(message))))
        answer = await post(
            self._settings.url.reveal().decode(),
            msgspec.json.encode({"text": text}),
            {"content-type": "application/json"},
            private=self._private,
        )
        if not answer.ok:
            said = printable(answer.said)
            raise NotDelivered(f"it answers {answer.status}{f' ({said})' if said else ''}")


def _plain(text: str) -> str:
    """The text escaped as Slack has it, so that nothing in it is taken for a link or a mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
