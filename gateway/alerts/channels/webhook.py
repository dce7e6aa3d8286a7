"""Webhooks, signed as Standard Webhooks has it: https://www.standardwebhooks.com, version 1."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping

import msgspec

from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.http_post import post
from gateway.alerts.channels.settings import WebhookSettings
from gateway.alerts.notification_grouping import Listed, Message


class Webhook:
    """Posts what happened as JSON."""

    def __init__(self, settings: WebhookSettings, *, private: bool, now: Callable[[], int]) -> None:
        """`private`: it may be on the local network. `now` gives Unix milliseconds."""
        self._settings = settings
        self._private = private
        self._now = now

    async def send(self, message: Message) -> None:
        """Post it. By the `webhook-id` a receiver can tell that it has the message already."""
        body = msgspec.json.encode(body_of(message))
        settings = self._settings
        answer = await post(
            settings.url,
            body,
            {
                "content-type": "application/json",
                **signed(
                    message.message_id, self._now() // 1_000, body, [one.reveal() for one in settings.secrets]
                ),
            },
            private=self._private,
            ca_file=settings.ca_file,
        )
        if not answer.ok:
            raise NotDelivered(f"it answers {answer.status}")


def signed(message_id: str, timestamp: int, body: bytes, keys: list[bytes]) -> Mapping[str, str]:
    """The headers by which a receiver knows who sent the message, and that it is no replay of an old one."""
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    signatures = (base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
    }


def body_of(message: Message) -> Mapping[str, object]:
    """What is posted: the gravest alert, and if there are several their number and all that are listed.

    `labels` are then those that the alerts of the same rule have in common.
    """
    first = message.alerts[0]
    body = _object(message, first)
    if message.count > 1:
        of_rule = [set(one.labels.items()) for one in message.alerts if one.alert == first.alert]
        body["labels"] = dict(sorted(set.intersection(*of_rule)))
        body["count"] = message.count
        body["alerts"] = [_object(message, one) for one in message.alerts]
    return body


def _object(message: Message, one: Listed) -> dict[str, object]:
    return {
        "alert": one.alert,
        "state": message.state.value,
        "severity": one.severity.value,
        "summary": one.summary,
        "value": one.value,
        "labels": dict(one.labels),
        "since": one.since,
        "node": message.node,
    }
