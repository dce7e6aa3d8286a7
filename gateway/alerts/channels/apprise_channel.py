"""Any service that apprise knows (the extra `alerts`), by the URL that apprise has for it."""

from __future__ import annotations

import asyncio
import logging

from gateway.alerts.channels.channel import SECONDS_MAX, NotDelivered
from gateway.alerts.channels.message_texts import lines_of, title_of
from gateway.alerts.channels.settings import AppriseSettings
from gateway.alerts.notification_grouping import Message

HOSTED = frozenset(
    {
        "discord", "gchat", "opsgenie", "pover", "sendgrid", "slack", "spike", "splunk", "tgram", "victorops",
        "wxteams",
    }
)  # fmt: skip
"""Services that apprise connects to on the public network, whatever the URL says. It connects by itself, so
that `allowed_addresses` can't check any other address."""


class Apprise:
    """Hands the message to apprise."""

    def __init__(self, settings: AppriseSettings) -> None:
        self._settings = settings

    async def send(self, message: Message) -> None:
        """Send it. Apprise says only whether it was delivered: its log is off, for it might show the URL."""
        import apprise

        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        one = apprise.Apprise()
        if not one.add(self._settings.url.reveal().decode()):
            raise NotDelivered("apprise does not know such a URL")
        try:
            async with asyncio.timeout(SECONDS_MAX):
                done = await one.async_notify(title=title_of(message), body="\n".join(lines_of(message)))
        except TimeoutError:
            raise NotDelivered("no answer in time") from None
        except Exception as error:  # noqa: BLE001 - its plugins raise what their libraries raise
            raise NotDelivered(f"apprise failed: {type(error).__name__}") from None
        if not done:
            raise NotDelivered("apprise could not deliver it")
