"""The bus check of a bus that knows MQTT 3.1.1 alone, and waits for more when MQTT 5 is spoken to it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from harness import playbook
from harness.mosquitto import Mosquitto

from gateway.bus_client.probe import BusProbe
from gateway.net.bus_endpoint import Bus

LEVEL = 8
"""Where a CONNECT of less than 128 bytes has its protocol level."""


async def test_a_bus_that_is_silent_to_mqtt_5_is_asked_in_3_1_1(tmp_path: Path) -> None:
    mosquitto = Mosquitto(tmp_path / "bus").start()
    levels = []
    relayed = asyncio.Semaphore(0)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(4_096)
        levels.append(data[LEVEL])
        if data[LEVEL] == 5:
            await reader.read()
            writer.close()
            return
        bus_reader, bus_writer = await asyncio.open_connection("127.0.0.1", mosquitto.port)
        bus_writer.write(data)
        await asyncio.gather(pass_on(reader, bus_writer), pass_on(bus_reader, writer))
        relayed.release()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4_096):
                writer.write(data)
        writer.close()

    try:
        async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            context = playbook.context(bus_username=None, bus_password=None)
            probe = BusProbe(Bus("127.0.0.1", port), context, "gateway", "node")
            assert await probe.check() == (True, f"127.0.0.1:{port}")
            probe._asked_at = float("-inf")
            assert await probe.check() == (True, f"127.0.0.1:{port}")
            # Of each check that was answered there are two: the one that speaks, and its company.
            assert levels == [5, 4, 4, 4, 4], "what it does not speak is not tried again"
            async with asyncio.timeout(5):
                for _ in levels[1:]:
                    await relayed.acquire()
    finally:
        mosquitto.stop()
