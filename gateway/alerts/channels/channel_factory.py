"""Makes the channel that some settings describe."""

from __future__ import annotations

from collections.abc import Callable

from gateway.alerts.channels.apprise_channel import Apprise
from gateway.alerts.channels.channel import Channel
from gateway.alerts.channels.mail import Email
from gateway.alerts.channels.settings import AppriseSettings, ChannelSettings, EmailSettings, SlackSettings
from gateway.alerts.channels.slack import Slack
from gateway.alerts.channels.webhook import Webhook


def channel_of(settings: ChannelSettings, *, private: bool, now: Callable[[], int]) -> Channel:
    """The channel. `private`: it may be on the local network. `now` gives Unix milliseconds."""
    if isinstance(settings, EmailSettings):
        return Email(settings, private=private)
    if isinstance(settings, SlackSettings):
        return Slack(settings, private=private)
    if isinstance(settings, AppriseSettings):
        return Apprise(settings)
    return Webhook(settings, private=private, now=now)
