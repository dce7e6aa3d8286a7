"""Listens on the bus for the checks of monitoring.toml that name a topic: how long each has been silent.

One connection of the gateway's own is for all of them. Retained messages, which may be old, do not count.

A topic may carry 20,000 messages a second, and a check needs only one. So a filter on which one came rests:
it is unsubscribed, and subscribed again after a tenth of the time within which something has to come, but
after 1 second at least and 10 at most (or up to a second later, when it is looked at which rests are over).
What was sent while it rested is not known, so silence is counted from the end of the rest: a topic on which
something comes in time is never called silent, and one that fell silent is called so later by one rest at
most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gateway.bus_client.connection import Account, BusConnection, BusError
from gateway.bus_client.packet_reader import Delivery
from gateway.bus_client.reconnecting_client import BusClient
from gateway.connection.process_context import Context
from gateway.mqtt.packets import Subscription
from gateway.mqtt.topics import matches
from gateway.net.bus_endpoint import Bus
from gateway.system.aligned_timers import until_next_multiple_of

_PACKET_MAX = 65_536
"""Bytes of the longest message that is held whole; of a longer one the head is enough."""
_NOTHING_RETAINED = 2 << 4
"""Subscription options: QoS 0, and no retained messages [MQTT5 3.8.3.1]. In 3.1.1, which has no such option,
they come after each rest and are dropped."""
_REST_SHARE = 10
"""A filter rests for the time within which something has to come, divided by this, but see the bounds."""
_REST_MIN, _REST_MAX = 1.0, 10.0
"""Bounds, in seconds, for how long a filter rests after it was heard."""
_LOOK_SECONDS = 1.0
"""Between two looks at which rests are over: the process is awake then anyway (`aligned_timers`)."""


class TopicListener:
    """Listens now and then to the topics of some filters, at QoS 0."""

    def __init__(self, bus: Bus, context: Context, within: Mapping[str, int]) -> None:
        """`within`: by filter, the seconds in which something has to come."""
        began = asyncio.get_running_loop().time()
        self._rest = {
            one: min(max(seconds / _REST_SHARE, _REST_MIN), _REST_MAX) for one, seconds in within.items()
        }
        self._heard: dict[str, float] = {}
        """By filter, when something last came, by the loop's clock, as far as is known."""
        self._silent_since = dict.fromkeys(within, began)
        self._rests: dict[str, tuple[float, BusConnection]] = {}
        """By filter, until when it rests, and on which connection: a new one begins with all filters."""
        self._client = BusClient(
            bus,
            lambda: Account(f"/checks/{context.new_client_id()}", context.bus_username, context.bus_password),
            [_subscription(one) for one in within],
            self._take,
            max_size=lambda: _PACKET_MAX,
            v5=context.bus_speaks_v5,
        )

    async def run(self) -> None:
        """Listen for ever."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._client.run())
            both.create_task(self._wake())

    def silent(self, topic_filter: str) -> float:
        """Seconds for which it is known that nothing came on this topic."""
        return asyncio.get_running_loop().time() - self._silent_since[topic_filter]

    def heard(self, topic_filter: str) -> float | None:
        """Seconds since something was heard on this topic; None: nothing yet."""
        heard = self._heard.get(topic_filter)
        return None if heard is None else asyncio.get_running_loop().time() - heard

    def fault(self) -> str:
        """Why nothing can be heard; empty while it listens."""
        listens, why = self._client.check()
        return "" if listens else why

    def _take(self, connection: BusConnection, delivery: Delivery) -> None:
        if delivery.retain:
            return
        heard = [
            one for one in self._rest if not self._resting(one, connection) and matches(one, delivery.topic)
        ]
        if heard:
            now = asyncio.get_running_loop().time()
            for one in heard:
                self._heard[one] = self._silent_since[one] = now
                self._rests[one] = now + self._rest[one], connection
            connection.unsubscribe([one.encode() for one in heard])

    def _resting(self, topic_filter: str, connection: BusConnection) -> bool:
        rest = self._rests.get(topic_filter)
        return rest is not None and rest[1] is connection

    async def _wake(self) -> None:
        """Subscribe again to what has rested long enough. For ever."""
        loop = asyncio.get_running_loop()
        while True:
            await until_next_multiple_of(_LOOK_SECONDS)
            now = loop.time()
            over: dict[BusConnection, list[str]] = {}
            for one, (until, connection) in self._rests.items():
                if until <= now:
                    over.setdefault(connection, []).append(one)
            for connection, rested in over.items():
                # A filter may meanwhile rest on a newer connection, on which something came: leave it out.
                filters = [one for one in rested if self._resting(one, connection)]
                # Before the SUBSCRIBE leaves: a message may come before the SUBACK [MQTT5 3.8.4].
                for one in filters:
                    del self._rests[one]
                    self._silent_since[one] = now
                if filters:
                    await self._subscribe(connection, filters)

    async def _subscribe(self, connection: BusConnection, filters: list[str]) -> None:
        try:
            await connection.subscribe([_subscription(one) for one in filters])
        except BusError:
            connection.close()  # the client connects anew, subscribes to all, and says why it can't
            return
        now = asyncio.get_running_loop().time()
        for one in filters:
            self._silent_since[one] = max(self._silent_since[one], now)


def _subscription(topic_filter: str) -> Subscription:
    return Subscription(topic_filter.encode(), _NOTHING_RETAINED)
