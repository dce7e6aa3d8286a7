"""Mail, handed to a server over TLS (STARTTLS, or TLS from the first byte), with or without a login."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

import aiosmtplib

from gateway.alerts.channels.allowed_addresses import connected, reason_of, tls_context
from gateway.alerts.channels.channel import SECONDS_MAX, NotDelivered
from gateway.alerts.channels.message_texts import lines_of, title_of
from gateway.alerts.channels.settings import EmailSettings
from gateway.alerts.notification_grouping import Message
from gateway.observe.terminal_escaping import printable

_CLOSE_SECONDS = 1.0
"""How long to wait for a connection to be closed."""


class Email:
    """Sends one mail to all recipients."""

    def __init__(self, settings: EmailSettings, *, private: bool) -> None:
        """`private`: the mail server may be on the local network."""
        self._settings = settings
        self._private = private

    async def send(self, message: Message) -> None:
        """Send it. The same message sent again has the same Message-ID."""
        try:
            async with asyncio.timeout(SECONDS_MAX):
                await self._send(mail_of(message, self._settings))
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotDelivered(_reason(error)) from None

    async def _send(self, mail: EmailMessage) -> None:
        settings = self._settings
        context = await asyncio.to_thread(tls_context, settings.ca_file)
        connection = await connected(settings.host, settings.port, private=self._private)
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            sock=connection,
            use_tls=not settings.starttls,
            start_tls=settings.starttls,
            tls_context=context,
            username=settings.username or None,
            password=settings.password.reveal() if settings.password else None,
            local_hostname="localhost",
            timeout=SECONDS_MAX,
        )
        try:
            async with client:
                await client.send_message(mail)
        finally:
            await _closed(connection)


async def _closed(connection: socket.socket) -> None:
    """End it now, and wait until it is closed.

    The client only begins to close it, and TLS then waits for the server's goodbye, for half a minute.
    """
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            while connection.fileno() >= 0:  # noqa: ASYNC110 - the client tells nobody
                await asyncio.sleep(0.005)


def mail_of(message: Message, settings: EmailSettings) -> EmailMessage:
    """The message as a mail."""
    mail = EmailMessage()
    mail["From"] = settings.sender
    mail["To"] = ", ".join(settings.recipients)
    mail["Subject"] = title_of(message)
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.at / 1_000, UTC))
    mail["Message-ID"] = f"<{message.message_id}@{settings.sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    rule = message.alerts[0].alert
    mail.set_content(
        "\n".join(
            (
                *lines_of(message),
                "",
                f"From the gateway on {printable(message.node)}. `gateway-admin alerts list` shows more,",
                f"`gateway-admin alerts silence {rule} --for 2h` keeps it quiet for a while.",
            )
        )
    )
    return mail


def _reason(error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return f"it takes no mail for any of the recipients: {_said(error.recipients[0])}"
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _said(error)
    if isinstance(error, aiosmtplib.SMTPException) and isinstance(error.__cause__, OSError):
        return reason_of(error.__cause__)
    if isinstance(error, aiosmtplib.SMTPException):
        return printable(str(error)[:200])
    return reason_of(error)


def _said(error: aiosmtplib.SMTPResponseException) -> str:
    return printable(f"it answers {error.code} {error.message}"[:200])
