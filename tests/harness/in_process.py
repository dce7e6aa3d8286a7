"""A gateway in the test's own process, so that a fault can be planted behind a method of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.app.composition import Gateway
from gateway.app.signals import Signals
from gateway.app.startup_preparation import check, prepare, read_keys
from gateway.auth.passwords import hash_secret
from gateway.config import Settings
from gateway.connection.device_connection import DeviceConnection
from gateway.connection.transition_table import State
from gateway.net.data_plane_parts import DataPlane
from gateway.net.device_side import DeviceSide
from gateway.store import open_store
from harness import raw
from harness.device import Device
from harness.gateway import FULL_ROLE, ROOT
from harness.mosquitto import Mosquitto

SECRET = "x" * 32


class Planted(Exception):
    """The fault."""


@dataclass
class House:
    """A gateway in this process, and two devices: `good` is beside what happens to `bad`."""

    gateway: Gateway
    plane: DataPlane
    tls: ssl.SSLContext
    patch: pytest.MonkeyPatch
    lines: list[Any]
    reached_the_loop: list[dict[str, Any]] = field(default_factory=list)
    planted: int = 0

    @property
    def port(self) -> int:
        assert self.gateway.devices is not None
        return self.gateway.devices.acceptor.port

    def link(self, device: str = "bad") -> DeviceSide:
        """Its established connection."""
        return next(
            link
            for link in self.plane.registry.live
            if link.connection.device is not None
            and link.connection.device.device_id == device
            and link.connection.state is State.ESTABLISHED
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

    def plant_in_connection(self, event: type, holds: bytes = b"") -> None:
        """Let the connection of `bad` fail at an event of this kind."""

        def is_it(connection: DeviceConnection, given: Any) -> bool:
            mine = connection.identity is not None and connection.identity.device_id == "bad"
            return mine and type(given) is event and holds in getattr(given, "data", b"")

        self.plant(DeviceConnection, "receive", is_it)

    def dial(self) -> Device:
        one = object.__new__(Device)
        raw.Raw.__init__(one, self.port, self.tls, timeout=10)
        one.v5, one.inbox, one._next_id = True, [], 0
        return one

    def join(self, device: str, client_id: str = "c") -> Device:
        one = self.dial()
        assert one.connect(client_id=client_id, username=device, password=SECRET)[3] == 0
        return one


def settle(folder: Path, bus: Mosquitto, denied: str = "") -> Settings:
    """Settings of a gateway in this folder. Its store has the two devices, which may not publish `denied`."""
    (folder / "acl" / "roles").mkdir(parents=True)
    for name in ("encryption.toml", "limits.toml"):
        (folder / "acl" / name).write_text((ROOT / "acl" / name).read_text())
    deny = f'[[deny]]\nactions = ["publish"]\ntopics = ["{denied}"]\n' if denied else ""
    (folder / "acl" / "roles" / "full.toml").write_text(FULL_ROLE + deny)
    settings = Settings(
        mqtt_broker="127.0.0.1",
        mqtt_port=bus.port,
        gateway_data_dir=folder / "data",
        tls_cert_path=folder / "certs" / "server.crt",
        tls_key_path=folder / "certs" / "server.key",
        acl_path=folder / "acl",
        gateway_mqtt_bind="127.0.0.1:0",
        gateway_health_bind="127.0.0.1:0",
        gateway_http_bind="127.0.0.1:0",
    )

    async def fill() -> None:
        await prepare(settings, [])
        store = await open_store(settings.database_url)
        for device in ("good", "bad"):
            await store.devices.add(
                device, credential=hash_secret(SECRET.encode()), roles=["full"], labels={}
            )
        await store.close()

    asyncio.run(fill())
    return settings


@contextlib.contextmanager
def _logs_as_they_were() -> Iterator[None]:
    handlers, switching = logging.getLogger().handlers[:], sys.getswitchinterval()
    try:
        yield
    finally:
        sys.setswitchinterval(switching)
        structlog.reset_defaults()
        logging.captureWarnings(False)
        logging.getLogger().handlers[:] = handlers


@contextlib.asynccontextmanager
async def started(settings: Settings, patch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    policy = check(settings)
    gateway = Gateway(settings, policy, *read_keys(settings), Signals())
    reached: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reached.append(context))
    with _logs_as_they_were(), structlog.testing.capture_logs() as lines:
        await gateway.start()
        assert gateway.devices is not None
        tls = ssl.create_default_context(cafile=str(settings.tls_cert_path.with_name("ca.crt")))
        try:
            yield House(gateway, gateway.devices._plane, tls, patch, lines, reached)
        finally:
            await gateway.stop()
