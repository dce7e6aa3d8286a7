"""A gateway in the test's own process, so that a fault can be planted behind a method of it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from gateway.app import Gateway
from gateway.config import Settings
from gateway.core.bridge import Bridge, Phase
from gateway.net.device_link import DeviceLink
from gateway.net.door import Door
from gateway.provision import check, read_keys
from gateway.signals import Signals
from harness import raw
from harness.device import Device

SECRET = "x" * 32


class Planted(Exception):
    """The fault."""


@dataclass
class House:
    """A gateway in this process, and two devices: `good` is beside what happens to `bad`."""

    gateway: Gateway
    door: Door
    tls: ssl.SSLContext
    patch: pytest.MonkeyPatch
    lines: list[Any]
    reached_the_loop: list[dict[str, Any]] = field(default_factory=list)
    planted: int = 0

    @property
    def port(self) -> int:
        assert self.gateway._listener is not None
        return self.gateway._listener.port

    def link(self, device: str = "bad") -> DeviceLink:
        """Its established connection."""
        return next(
            link
            for link in self.door.links
            if link.device is not None
            and link.device.device_id == device
            and link.bridge.phase is Phase.ESTABLISHED
        )

    def plant(self, place: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        """Let this method fail, once, when `when` says so of its arguments."""
        true = getattr(place, name)
        before = self.planted

        def faulty(*args: Any, **named: Any) -> Any:
            if self.planted == before and when(*args):
                self.planted += 1
                raise Planted
            return true(*args, **named)

        self.patch.setattr(place, name, faulty)

    def plant_in_bridge(self, event: type, holds: bytes = b"") -> None:
        """Let the bridge of `bad` fail at an event of this kind."""

        def is_it(bridge: Bridge, given: Any) -> bool:
            mine = bridge.identity is not None and bridge.identity.device_id == "bad"
            return mine and type(given) is event and holds in getattr(given, "data", b"")

        self.plant(Bridge, "receive", is_it)

    def dial(self) -> Device:
        one = object.__new__(Device)
        raw.Raw.__init__(one, self.port, self.tls, timeout=10)
        one.v5, one.inbox, one._next_id = True, [], 0
        return one

    def join(self, device: str, client_id: str = "c") -> Device:
        one = self.dial()
        assert one.connect(client_id=client_id, username=device, password=SECRET)[3] == 0
        return one


@contextlib.asynccontextmanager
async def started(settings: Settings, patch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    policy = check(settings)
    gateway = Gateway(settings, policy, *read_keys(settings), Signals())
    reached: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reached.append(context))
    with structlog.testing.capture_logs() as lines:
        await gateway.start([])
        assert gateway._listener is not None
        tls = ssl.create_default_context(cafile=str(settings.tls_cert_path.with_name("ca.crt")))
        try:
            yield House(gateway, gateway._listener._door, tls, patch, lines, reached)
        finally:
            await gateway.stop()
