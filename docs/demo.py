"""`make demo`: one sensitive message, seen by four pairs of eyes, in ten seconds.

Starts a bus and a gateway in a temporary folder, lets real clients talk to them over TLS, prints
what each of them sees, and stops everything. Nothing of it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gateway.admin import devices
from gateway.admin.secret_rules import hashed
from gateway.mqtt.data_types import encode_length
from gateway.mqtt.decode import decode_publish
from gateway.mqtt.encode import encode_connect, encode_publish, encode_subscribe
from gateway.mqtt.packets import Connect, Subscription, Version
from gateway.net.embedded_amqtt import EmbeddedBus
from gateway.store import open_store

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[1]
TOPIC = "devices/lamp-1/private/pin"
SECRET_MESSAGE = "the door code is 4711"


class Client:
    """Just enough of an MQTT 3.1.1 client to be looked over the shoulder."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int, name: str, secret: str, tls: ssl.SSLContext | None = None) -> Client:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
        )
        client = cls(reader, writer)
        hello = Connect(
            version=Version.V311,
            clean_start=True,
            keep_alive=30,
            client_id=name.encode(),
            username=name.encode(),
            password=secret.encode(),
            will=None,
            properties=[],
        )
        writer.write(encode_connect(hello))
        answer = await client.read()
        if answer[3]:
            raise RuntimeError(f"{name} was refused with return code {answer[3]}")
        return client

    async def read(self) -> bytes:
        head = await self._reader.readexactly(2)
        while head[-1] & 0x80:
            head += await self._reader.readexactly(1)
        size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[1:]))
        return head + await self._reader.readexactly(size)

    async def subscribe(self, topic_filter: str) -> int:
        """The return code of the SUBACK: 0x80 is a refusal."""
        self._writer.write(encode_subscribe(1, b"", [Subscription(topic_filter.encode(), 0)]))
        return (await self.read())[-1]

    async def publish(self, topic: str, payload: str) -> None:
        """Returns once it is acknowledged: then the bus has it."""
        self._writer.write(encode_publish(0x32, topic.encode(), 1, b"", payload.encode()))
        await self.read()

    async def message(self) -> str:
        data = await asyncio.wait_for(self.read(), 5)
        body = 1 + len(encode_length(len(data)))
        return data[decode_publish(data, 0, body, len(data), Version.V311).payload_at :].decode()

    def close(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def running_gateway(folder: Path, bus: EmbeddedBus) -> AsyncIterator[int]:
    """A gateway before this bus: its port."""
    shutil.copytree(ROOT / "acl", folder / "acl")
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = {
        **inherited,
        "MQTT_BROKER": "127.0.0.1",
        "MQTT_PORT": str(bus.port),
        "MQTT_USERNAME": bus.username,
        "MQTT_PASSWORD": bus.password,
        "GATEWAY_MQTT_BIND": "127.0.0.1:0",
        "GATEWAY_HEALTH_BIND": "127.0.0.1:0",
        "GATEWAY_HTTP_BIND": "127.0.0.1:0",
        "LOG_LEVEL": "error",
    }
    log = folder / "gateway.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            BIN / "gateway",
            "run",
            cwd=folder,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"devices "):
                yield int(line.split()[1].rpartition(b":")[2])
                return
        raise RuntimeError(f"the gateway did not start:\n{log.read_text()}")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def add_devices(folder: Path, names: dict[str, str]) -> dict[str, str]:
    """As `gateway-admin device add` does it, three times in one process: each has its secret."""
    store = await open_store(f"sqlite:///{folder}/data/gateway.db")
    try:
        secrets = {}
        for name, role in names.items():
            secret, credential = hashed(None)
            await devices.add(store, name, credential=credential, roles=[role], labels={}, actor="demo")
            secrets[name] = secret.decode()
        return secrets
    finally:
        await store.close()


def show(who: str, what: str) -> None:
    print(f"\n  {who}\n    {what}", flush=True)


def told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """amqtt trips over a client that is gone, as the gateway is that has asked whether it speaks MQTT 5."""
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


async def main(folder: Path) -> None:
    asyncio.get_running_loop().set_exception_handler(told)
    print("Starting a bus and a gateway before it ...", flush=True)
    bus = EmbeddedBus()
    await bus.start()
    async with running_gateway(folder, bus) as port:
        names = {"lamp-1": "sensor", "control-room": "operator", "thermometer": "sensor"}
        secrets = await add_devices(folder, names)
        await asyncio.sleep(0.5)  # the gateway follows its store within this
        tls = ssl.create_default_context(cafile=folder / "certs" / "ca.crt")
        spy = await Client.connect(bus.port, bus.username, bus.password)
        await spy.subscribe("devices/#")
        lamp, room, thermometer = [await Client.connect(port, name, secrets[name], tls) for name in names]
        await room.subscribe(TOPIC)
        refusal = await thermometer.subscribe(TOPIC)
        await lamp.publish(TOPIC, SECRET_MESSAGE)
        show(f"lamp-1 (a sensor) publishes over TLS on {TOPIC}:", SECRET_MESSAGE)
        show("What stands on the bus, for everybody who listens there (SEALED):", await spy.message())
        show("What control-room gets, whose role may decrypt it (PLAIN):", await room.message())
        show(
            "What thermometer gets, whose role may not even subscribe (REFUSED):",
            f"SUBACK with return code {refusal:#04x}",
        )
        for client in (spy, lamp, room, thermometer):
            client.close()
    await bus.stop()
    print("\nStopped. The same with your own Mosquitto: see README.md.")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(Path(temporary)))
