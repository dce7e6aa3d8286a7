"""Mail to a real server: STARTTLS, a login, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
import trustme
import uvloop
from aiosmtpd.controller import Controller
from harness.receivers import MailReceiver

from gateway.alerts.channels import allowed_addresses
from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.mail import Email
from gateway.alerts.channels.settings import EmailSettings
from gateway.alerts.notification_grouping import Listed, State, message_of
from gateway.alerts.rules import Severity
from gateway.keys.secret_values import Secret

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

# aiosmtpd's own, about itself.
pytestmark = pytest.mark.filterwarnings("ignore:Session.login_data is deprecated")


@pytest.fixture
def server(tls) -> Iterator[MailReceiver]:
    one = MailReceiver(tls[0])
    yield one
    one.stop()


def mail(
    port: int, tls, *, password: str = "hunter2-hunter2", ca_file=None, private: bool = True, **more
) -> Email:
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "starttls": True,
        "sender": "gateway@example.org",
        "recipients": ("ops@example.org", "boss@example.org"),
        "username": "gateway",
        "password": Secret(password.encode()) if password else None,
        "ca_file": tls[1] if ca_file is None else ca_file,
    }
    return Email(EmailSettings("mail", Severity.INFO, **settings | more), private=private)


async def test_it_arrives_after_starttls_and_a_login(server, tls, message):
    await mail(server.port, tls).send(message)
    (one,) = server.mails
    assert server.logins == [True]
    assert server.senders == [("gateway@example.org", ["ops@example.org", "boss@example.org"])]
    assert one["subject"] == "[CRITICAL] down (device d1, site north): It is down. [gw-1]"
    assert one["message-id"] == f"<{message.message_id}@example.org>"
    assert one["auto-submitted"] == "auto-generated"
    assert "since 2026-09-21T14:13:20Z, value 1" in one.get_content()
    assert "gateway-admin alerts silence down" in one.get_content()


@pytest.mark.parametrize("case", ["taken", "no login", "not believed", "refused", "says nothing"])
async def test_its_connection_is_closed_when_it_is_done_though_the_server_says_no_goodbye(
    case, server, tls, message, monkeypatch, tmp_path
):
    """TLS would wait for that for half a minute, with a socket of each attempt."""
    opened: list[socket.socket] = []

    async def connected(host: str, port: int, *, private: bool) -> socket.socket:
        opened.append(await allowed_addresses.connected(host, port, private=private))
        return opened[-1]

    monkeypatch.setattr("gateway.alerts.channels.mail.connected", connected)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    server.refuse = "552 too much mail" if case == "refused" else ""
    password = "wrong" if case == "no login" else server.password
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if case == "says nothing" else server.port
        ca_file = tmp_path / "other.pem" if case == "not believed" else None
        one = mail(port, tls, password=password, ca_file=ca_file)
        sending = asyncio.ensure_future(one.send(message))
        if case == "says nothing":
            while not opened:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            sending.cancel()
        with contextlib.suppress(NotDelivered, asyncio.CancelledError):
            await sending
    assert [each.fileno() for each in opened] == [-1]


async def test_five_hundred_are_one_mail(server, tls, many):
    await mail(server.port, tls).send(many)
    (one,) = server.mails
    assert one["subject"] == "[RESOLVED] 500 alerts: down 500 [gw-1]"
    assert "... and 475 more" in one.get_content()


async def test_a_wrong_password_is_told_and_not_shown(server, tls, message):
    with pytest.raises(NotDelivered) as caught:
        await mail(server.port, tls, password="PLANTED-PLANTED").send(message)
    assert "535" in str(caught.value)
    assert "PLANTED" not in str(caught.value)
    assert server.mails == []


async def test_a_server_that_is_not_believed_gets_no_password(server, tls, message, tmp_path):
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(NotDelivered, match="certificate"):
        await mail(server.port, tls, ca_file=tmp_path / "other.pem").send(message)
    assert server.logins == []


async def test_a_server_without_starttls_gets_nothing(tls, message):
    """As somebody in between makes it look (stripping)."""

    class Taking:
        taken = 0

        async def handle_DATA(self, *_: object) -> str:  # noqa: N802
            Taking.taken += 1
            return "250 taken"

    plain = Controller(Taking(), hostname="127.0.0.1", port=_free())
    plain.start()
    try:
        with pytest.raises(NotDelivered, match="STARTTLS"):
            await mail(plain.port, tls).send(message)
        with pytest.raises(NotDelivered, match="STARTTLS"):
            await mail(plain.port, tls, username="", password=None).send(message)
    finally:
        plain.stop()
    assert Taking.taken == 0


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_what_the_server_says_is_told(server, tls, message):
    server.refuse = "552 too much mail\u001b[31m"
    with pytest.raises(NotDelivered) as caught:
        await mail(server.port, tls).send(message)
    assert "552 too much mail" in str(caught.value)
    assert "\x1b" not in str(caught.value)


async def test_a_local_server_needs_the_setting(server, tls, message):
    with pytest.raises(NotDelivered, match="allow_private_addresses"):
        await mail(server.port, tls, private=False).send(message)


async def test_what_a_label_holds_makes_no_header(server, tls):
    told = Listed(
        "down", Severity.INFO, "x", 1.0, {"device": "a\r\nBcc: everybody@example.org\r\n\r\nhello"}, 1
    )
    await mail(server.port, tls).send(message_of(State.FIRING, [told], node="n", at=1))
    (one,) = server.mails
    assert one["bcc"] is None
    assert server.senders[0][1] == ["ops@example.org", "boss@example.org"]


async def test_nobody_there_is_told(tls, message):
    with pytest.raises(NotDelivered, match="refused"):
        await mail(_free(), tls).send(message)
