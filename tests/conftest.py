"""Fixtures that start real parts. What a test starts is stopped by its process id."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# A shell has it ignored for what runs in its background, and what ignores it can't be ended by Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A bus of the test's own."""
    bus = Mosquitto(tmp_path / "bus").start()
    yield bus
    bus.kill()


@pytest.fixture
def gateway(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Gateway]:
    """A gateway of the test's own, before `mosquitto`."""
    running = Gateway(tmp_path / "gateway", mosquitto.port).start()
    yield running
    running.kill()


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Start gateways with other settings: `start_gateway(bus_port, GATEWAY_ON_DENY="disconnect")`."""
    running: list[Gateway] = []

    def start(
        bus_port: int | None, *, wait_ready: bool = True, cold: bool = False, **settings: str
    ) -> Gateway:
        one = Gateway(tmp_path / f"gateway-{len(running)}", bus_port, **settings)
        running.append(one)
        return one.start(wait_ready=wait_ready, cold=cold)

    yield start
    for one in running:
        one.kill()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    """A bus and a gateway for all tests of a module that leave nothing behind."""
    folder = tmp_path_factory.mktemp("world")
    bus = Mosquitto(folder / "bus").start()
    running = Gateway(folder / "gateway", bus.port)
    try:
        yield bus, running.start()
    finally:
        running.kill()
        bus.kill()
