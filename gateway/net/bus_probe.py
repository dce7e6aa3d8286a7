"""Asks the bus whether it would take a connection now: for health, before a device finds out."""

from __future__ import annotations

import asyncio

from gateway.core.shared import Shared
from gateway.mqtt.encode import DISCONNECT, encode_connect
from gateway.mqtt.packets import Connect, PacketType, Version
from gateway.net.door import Bus
from gateway.observe.logs import get_logger

_DEADLINE = 1.0
_FRESH = 1.0
"""How long an answer is believed, in seconds."""
_CONNACK_BYTES = 4

_log = get_logger()


class BusProbe:
    """Connects as a client of MQTT 3.1.1 that wants nothing, and leaves."""

    def __init__(self, bus: Bus, shared: Shared) -> None:
        self._bus = bus
        self._shared = shared
        self._asked = float("-inf")
        self._lock = asyncio.Lock()

    async def check(self) -> tuple[bool, str]:
        """Whether the bus answers, and how. Asks at most once a second."""
        async with self._lock:
            if asyncio.get_running_loop().time() - self._asked > _FRESH:
                await self._ask()
                self._asked = asyncio.get_running_loop().time()
        return self._bus.reachable, self._bus.detail

    async def keep_asking(self, interval: float) -> None:
        """Ask every `interval` seconds, for ever, and log what changes."""
        before: bool | None = None
        while True:
            reachable, detail = await self.check()
            if reachable != before:
                before = reachable
                if reachable:
                    _log.info("bus reachable", bus=detail)
                else:
                    _log.error("bus unavailable", reason=detail)
            await asyncio.sleep(interval)

    async def _ask(self) -> None:
        shared = self._shared
        connect = Connect(
            version=Version.V311,
            clean_start=True,
            keep_alive=10,
            # A slash can't be in a device id, and no device's client id begins with one.
            client_id=f"/probe/{shared.new_client_id()}".encode(),
            username=shared.bus_username,
            password=shared.bus_password,
            will=None,
            properties=[],
        )
        try:
            async with asyncio.timeout(_DEADLINE):
                reader, writer = await asyncio.open_connection(
                    self._bus.host, self._bus.port, ssl=self._bus.tls
                )
                try:
                    writer.write(encode_connect(connect))
                    answer = await reader.readexactly(_CONNACK_BYTES)
                    writer.write(DISCONNECT)
                    await writer.drain()
                finally:
                    writer.close()
        except TimeoutError:
            self._bus.failed("no answer in time")
        except (OSError, EOFError) as error:
            self._bus.failed(str(error) or "it closed the connection")
        else:
            if answer[0] != PacketType.CONNACK << 4:
                self._bus.failed("what answers there is no MQTT server")
            elif answer[3]:
                self._bus.failed(
                    f"it refuses the gateway with code {answer[3]}: check MQTT_USERNAME and MQTT_PASSWORD"
                )
            else:
                self._bus.answered()
