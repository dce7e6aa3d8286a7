"""What all channels have in common: the one method, the one error, and the bound on their time."""

from __future__ import annotations

from typing import Protocol

from gateway.alerts.notification_grouping import Message

SECONDS_MAX = 20.0
"""Seconds for one attempt, connecting included."""


class NotDelivered(Exception):
    """A message did not arrive. The text says why, and never shows a secret."""


class Channel(Protocol):
    """One way to people, or to a program that knows them."""

    async def send(self, message: Message) -> None:
        """Deliver it, or raise NotDelivered.

        By its id a receiver can tell that it has the message already.
        """
