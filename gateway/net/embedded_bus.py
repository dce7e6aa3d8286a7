"""The bus for trying out: amqtt on loopback, when no MQTT_BROKER is set (extra `embedded`).

It speaks MQTT 3.1.1 only, keeps nothing over a restart, and lets in nobody but this gateway: its
credentials are drawn anew at each start and never leave this process.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from dataclasses import dataclass

from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session


class OnlyTheGateway(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is not typed
    """Lets in whoever knows the credentials of this run."""

    @dataclass
    class Config:
        """Given by `EmbeddedBus`; empty ones let nobody in."""

        username: str = ""
        password: str = ""

    async def authenticate(self, *, session: Session) -> bool:
        """Whether this session is one of ours."""
        given = f"{session.username or ''}\0{session.password or ''}"
        wanted = f"{self.config.username}\0{self.config.password}"
        return bool(self.config.password) and hmac.compare_digest(given.encode(), wanted.encode())


class EmbeddedBus:
    """A running amqtt broker."""

    def __init__(self) -> None:
        self.username = "gateway"
        self.password = secrets.token_urlsafe(32)
        self.port = _free_port()
        self._broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
                "plugins": {
                    f"{__name__}.OnlyTheGateway": {"username": self.username, "password": self.password},
                },
            }
        )

    async def start(self) -> None:
        """Listen on loopback."""
        await self._broker.start()

    async def stop(self) -> None:
        """End all sessions; what it held is gone."""
        await self._broker.shutdown()


def _free_port() -> int:
    # amqtt does not say which port it was given for 0.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
