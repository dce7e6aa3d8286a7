"""Slack's incoming webhooks."""

from __future__ import annotations

import pytest

from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.settings import SlackSettings
from gateway.alerts.channels.slack import Slack
from gateway.alerts.notification_grouping import Listed, State, message_of
from gateway.alerts.rules import Severity
from gateway.keys.secret_values import Secret


def slack(receiver) -> Slack:
    url = receiver.url.replace("/x", "/services/PLANTED")
    return Slack(SlackSettings("chat", Severity.INFO, Secret(url.encode())), private=True)


async def test_it_posts_a_text(plain_receiver, message):
    await slack(plain_receiver).send(message)
    (posted,) = plain_receiver.posted
    assert posted.path == "/services/PLANTED"
    assert posted.json == {
        "text": "*[CRITICAL] down (device d1, site north): It is down. [gw-1]*\n"
        "critical down (device d1, site north): It is down.\n    since 2026-09-21T14:13:20Z, value 1"
    }


async def test_of_many_it_names_some_and_tells_how_many_there_are(plain_receiver, many):
    await slack(plain_receiver).send(many)
    text = plain_receiver.posted[0].json["text"]
    assert text.startswith("*[RESOLVED] 500 alerts: down 500 [gw-1]*")
    assert text.endswith("... and 475 more: `gateway-admin alerts list` shows all")


async def test_a_label_can_not_mention_everybody(plain_receiver):
    told = Listed("down", Severity.INFO, "x", 1.0, {"device": "<!channel> & <http://x|y>"}, 1)
    await slack(plain_receiver).send(message_of(State.FIRING, [told], node="n", at=1))
    text = plain_receiver.posted[0].json["text"]
    assert "<" not in text
    assert "&lt;!channel&gt; &amp;" in text


async def test_what_slack_says_is_told_and_the_url_is_not(plain_receiver, message):
    plain_receiver.answers, plain_receiver.said = [404], b"no_service\n"
    with pytest.raises(NotDelivered) as caught:
        await slack(plain_receiver).send(message)
    assert str(caught.value) == "it answers 404 (no_service\\u000a)"
