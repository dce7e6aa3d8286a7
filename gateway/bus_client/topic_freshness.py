"""Listens on the bus for checks that want to hear from a device: when something came last on each topic.

One connection of the gateway's own for all of them. What is retained was said some time ago: it counts not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from gateway.bus_client.connection import Account, BusConnection
from gateway.bus_client.packet_reader import Delivery
from gateway.bus_client.reconnecting_client import BusClient
from gateway.connection.process_context import Context
from gateway.mqtt.packets import Subscription
from gateway.mqtt.topics import matches
from gateway.net.bus_endpoint import Bus

_PACKET_MAX = 65_536
"""Bytes; of a longer message the head is enough."""


class TopicListener:
    """Hears the topics of `filters`, at QoS 0."""

    def __init__(self, bus: Bus, context: Context, filters: Collection[str]) -> None:
        self._heard: dict[str, float] = {}
        self._began = asyncio.get_running_loop().time()
        self._filters = tuple(dict.fromkeys(filters))
        self._client = BusClient(
            bus,
            lambda: Account(f"/checks/{context.new_client_id()}", context.bus_username, context.bus_password),
            [Subscription(one.encode(), 0) for one in self._filters],
            self._take,
            max_size=lambda: _PACKET_MAX,
            v5=context.bus_speaks_v5,
        )

    async def run(self) -> None:
        """Listen for ever."""
        await self._client.run()

    def silent(self, topic_filter: str) -> tuple[float, bool]:
        """Seconds since something came on this topic, and whether anything did since it is listened for."""
        heard = self._heard.get(topic_filter)
        now = asyncio.get_running_loop().time()
        return now - (self._began if heard is None else heard), heard is not None

    def _take(self, _: BusConnection, delivery: Delivery) -> None:
        if delivery.retain:
            return
        now = asyncio.get_running_loop().time()
        for one in self._filters:
            if matches(one, delivery.topic):
                self._heard[one] = now
