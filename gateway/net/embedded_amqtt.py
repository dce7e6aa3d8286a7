"""The bus for trying out: amqtt on loopback, when no MQTT_BROKER is set (extra `embedded`).

It speaks MQTT 3.1.1 only, keeps nothing over a restart, and lets in nobody but this gateway: its
credentials are drawn anew at each start and never leave this process.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from dataclasses import dataclass

from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

_LISTENER = "default"  # amqtt wants one of this name


class OnlyTheGateway(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is not typed
    """Lets in whoever knows the credentials of this run."""

    @dataclass
    class Config:
        """Given by `EmbeddedBus`; empty ones let nobody in."""

        username: str = ""
        password: str = ""

    async def authenticate(self, *, session: Session) -> bool:
        """Whether this session is one of the gateway's."""
        given = f"{session.username or ''}\0{session.password or ''}"
        wanted = f"{self.config.username}\0{self.config.password}"
        return bool(self.config.password) and hmac.compare_digest(given.encode(), wanted.encode())


class EmbeddedBus:
    """A running amqtt broker."""

    def __init__(self) -> None:
        self.username = "gateway"
        self.password = secrets.token_urlsafe(32)
        # We listen ourselves: amqtt does not say which port it was given for 0.
        self._broker = Broker(
            {
                "listeners": {_LISTENER: {"type": "external", "bind": "127.0.0.1:0"}},
                "plugins": {
                    f"{__name__}.OnlyTheGateway": {"username": self.username, "password": self.password},
                },
            }
        )
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens; RuntimeError when it does not."""
        if self._server is None:
            raise RuntimeError("the embedded bus does not run")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen on loopback, on a port that the system chooses."""
        await self._broker.start()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        """End all sessions; what it held is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._broker.shutdown()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._broker.stream_connected(reader, writer, _LISTENER)
