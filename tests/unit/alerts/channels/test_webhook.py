"""Webhooks, as a receiver of Standard Webhooks sees them."""

from __future__ import annotations

import base64
import json
import time

import pytest
from harness.receivers import HttpReceiver
from standardwebhooks.webhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.settings import WebhookSettings
from gateway.alerts.channels.webhook import Webhook
from gateway.alerts.notification_grouping import Listed, State, message_of
from gateway.alerts.rules import Severity
from gateway.keys.secret_values import Secret

KEYS = bytes(range(32)), bytes(range(32, 64))


def webhook(receiver: HttpReceiver, tls, *keys: bytes) -> Webhook:
    secrets = tuple(Secret(key) for key in keys or KEYS[:1])
    settings = WebhookSettings("ops", Severity.INFO, receiver.url, secrets, tls[1])
    return Webhook(settings, private=True, now=lambda: time.time_ns() // 1_000_000)


def verified(key: bytes, posted) -> dict:
    return Receiver(base64.b64encode(key).decode()).verify(posted.body, posted.headers)


async def test_a_receiver_of_the_standard_believes_it(receiver, tls, message):
    await webhook(receiver, tls).send(message)
    (posted,) = receiver.posted
    assert posted.headers["content-type"] == "application/json"
    assert posted.headers["webhook-id"] == message.message_id
    assert verified(KEYS[0], posted) == {
        "alert": "down",
        "state": "firing",
        "severity": "critical",
        "summary": "It is down.",
        "value": 1.0,
        "labels": {"device": "d1", "site": "north"},
        "since": 1_790_000_000_001,
        "node": "gw-1",
    }


async def test_what_was_altered_is_not_believed(receiver, tls, message):
    await webhook(receiver, tls).send(message)
    (posted,) = receiver.posted
    posted.body = posted.body.replace(b"critical", b"info")
    with pytest.raises(WebhookVerificationError):
        verified(KEYS[0], posted)


async def test_with_two_secrets_receivers_with_either_believe_it(receiver, tls, message):
    await webhook(receiver, tls, *KEYS).send(message)
    (posted,) = receiver.posted
    assert verified(KEYS[0], posted) == verified(KEYS[1], posted)
    with pytest.raises(WebhookVerificationError):
        verified(bytes(32), posted)


async def test_the_id_is_the_same_when_it_comes_again(receiver, tls, message):
    one = webhook(receiver, tls)
    receiver.answers = [503, 200]
    with pytest.raises(NotDelivered, match="it answers 503"):
        await one.send(message)
    await one.send(message)
    assert len({posted.headers["webhook-id"] for posted in receiver.posted}) == 1


async def test_five_hundred_are_one_request_with_what_they_have_in_common(receiver, tls, many):
    await webhook(receiver, tls).send(many)
    (posted,) = receiver.posted
    body = verified(KEYS[0], posted)
    assert body["count"] == 500
    assert body["labels"] == {"site": "north"}
    assert len(body["alerts"]) == 100
    assert {"alert", "state", "severity", "summary", "value", "labels", "since", "node"} < set(body)
    assert body["alerts"][7]["labels"] == {"device": "d7", "site": "north"}
    assert len(posted.body) < 40_000


async def test_what_a_label_holds_can_not_break_the_json(receiver, tls):
    label = 'a"b\n\x00\u2028é'
    told = Listed("down", Severity.INFO, "x", 1.0, {"device": label}, 1)
    await webhook(receiver, tls).send(message_of(State.FIRING, [told], node="n", at=1))
    assert json.loads(receiver.posted[0].body)["labels"] == {"device": label}
