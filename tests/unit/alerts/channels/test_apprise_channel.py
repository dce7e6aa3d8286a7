"""What goes through apprise: a service of its own kind here, and no URL in anything that is said."""

from __future__ import annotations

import socket

import pytest
from structlog.testing import capture_logs

from gateway.alerts.channels.apprise_channel import Apprise
from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.settings import AppriseSettings
from gateway.alerts.rules import Severity
from gateway.keys.secret_values import Secret

# apprise's own.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")


def channel(url: str) -> Apprise:
    return Apprise(AppriseSettings("pager", Severity.INFO, Secret(url.encode())))


async def test_it_arrives(plain_receiver, message):
    await channel(f"json://127.0.0.1:{plain_receiver.port}/PLANTED").send(message)
    (posted,) = plain_receiver.posted
    assert posted.path.rstrip("/") == "/PLANTED"
    assert posted.json["title"] == "[CRITICAL] down (device d1, site north): It is down. [gw-1]"
    assert "since 2026-09-21T14:13:20Z" in posted.json["message"]


async def test_what_is_not_taken_is_told_without_the_url(plain_receiver, message):
    plain_receiver.answers = [500]
    with capture_logs() as lines, pytest.raises(NotDelivered) as caught:
        await channel(f"json://127.0.0.1:{plain_receiver.port}/PLANTED").send(message)
    assert str(caught.value) == "apprise could not deliver it"
    assert "PLANTED" not in str(lines)


async def test_nobody_there_is_told(message):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with pytest.raises(NotDelivered):
        await channel(f"json://127.0.0.1:{port}/PLANTED").send(message)


async def test_what_is_no_url_of_a_service_is_told(message):
    with pytest.raises(NotDelivered, match="apprise does not know such a URL"):
        await channel("nothing-of-the-kind").send(message)
