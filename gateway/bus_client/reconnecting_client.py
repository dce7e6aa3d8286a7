"""Keeps the gateway connected to the bus in its own name, for the service topics.

Its client ids begin with a slash, as no device's does (promise 4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.bus_client.connect import connect
from gateway.bus_client.connection import Account, BusError, Handler
from gateway.mqtt.packets import Subscription, Version
from gateway.net.bus_endpoint import Bus
from gateway.observe.logs import get_logger

_PAUSE_MIN, _PAUSE_MAX = 0.5, 30.0
"""Seconds between two attempts: the first pause, and the longest."""
_SPOKEN = {Version.V311: "3.1.1", Version.V5: "5"}

_log = get_logger()


class BusClient:
    """Keeps one connection to the bus, subscribed, for as long as it runs."""

    def __init__(
        self,
        bus: Bus,
        account: Callable[[], Account],
        subscriptions: Sequence[Subscription],
        handler: Handler,
        *,
        max_size: Callable[[], int],
        v5: bool,
    ) -> None:
        """`account` gives one for each connection, `max_size` the bytes of the longest packet to be held."""
        self._bus = bus
        self._account = account
        self._subscriptions = subscriptions
        self._handler = handler
        self._max_size = max_size
        self._v5 = v5
        self._state = (False, "not connected yet")

    def check(self) -> tuple[bool, str]:
        """Whether it is connected and subscribed, and how."""
        return self._state

    async def run(self) -> None:
        """Connect, and again whenever the connection ends, after a pause that grows. For ever."""
        loop = asyncio.get_running_loop()
        pause = _PAUSE_MIN
        while True:
            began = loop.time()
            why = await self._hold()
            if self._state != (False, why):
                self._state = (False, why)
                _log.error("bus unavailable", reason=why)
            if loop.time() - began > _PAUSE_MAX:
                pause = _PAUSE_MIN
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_MAX)

    async def _hold(self) -> str:
        """Hold one connection from its beginning to its end; return why it ended."""
        try:
            connection = await connect(
                self._bus, self._account(), self._handler, max_size=self._max_size(), v5=self._v5
            )
        except BusError as error:
            return str(error)
        try:
            await connection.subscribe(self._subscriptions)
            self._state = (True, f"{self._bus.host}:{self._bus.port}, MQTT {_SPOKEN[connection.version]}")
            _log.info("bus connected", reason=self._state[1])
            return await asyncio.shield(connection.closed)
        except BusError as error:
            return str(error)
        finally:
            connection.close()
