"""A bus that can't be reached, hangs up, or says nothing: the device is told, the log says why."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import uvloop
from harness import raw
from harness.background_tasks import until
from harness.device import Device
from harness.in_process import SECRET, House, settle, started
from harness.mosquitto import Mosquitto

from gateway.bus_client.probe import BusProbe
from gateway.config import Settings
from gateway.connection.commands import OpenBus
from gateway.connection.transition_table import State
from gateway.net import device_side
from gateway.net.bus_endpoint import Bus
from gateway.net.device_side import DeviceSide

Place = Callable[[], contextlib.AbstractContextManager[int]]
HUNG_UP = "it ended the connection in the TLS handshake"
WAITS = State.OPENING_BUS
UNAVAILABLE = b"\x20\x03\x00\x88\x00"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    bus = Mosquitto(tmp_path_factory.mktemp("bus")).start()
    yield settle(tmp_path_factory.mktemp("gateway"), bus)
    bus.kill()


@contextlib.contextmanager
def full() -> Iterator[int]:
    """Nobody takes what has been accepted, and no more is."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as waiting:
        for _ in range(3):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextlib.contextmanager
def silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextlib.asynccontextmanager
async def hangs_up() -> AsyncIterator[Bus]:
    """Reads a ClientHello, and ends the connection in order."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        yield Bus("127.0.0.1", server.sockets[0].getsockname()[1], context)
    finally:
        server.close()


async def opening(house: House) -> DeviceSide:
    """The link that waits for the bus."""
    found: list[DeviceSide] = []
    await until(
        lambda: (
            found.extend(one for one in house.plane.registry.live if one.connection.state is WAITS) or found
        )
    )
    return found[0]


async def asks(house: House) -> Device:
    """A device whose CONNECT is on its way."""
    one = await asyncio.to_thread(house.dial)
    one.send(raw.connect("c", v5=True, username="bad", password=SECRET))
    return one


@pytest.mark.parametrize(
    ("bus", "why"),
    [(full, "no answer in time"), (silent, "it accepts connections but does not answer")],
)
def test_the_deadline(settings: Settings, monkeypatch: pytest.MonkeyPatch, bus: Place, why: str) -> None:
    async def scenario() -> None:
        async with started(settings, monkeypatch) as house:
            with bus() as house.plane.bus.port:
                one = await asks(house)
                link = await opening(house)
                if bus is silent:
                    await until(lambda: link.waiting_for is None)
                link.deadline = 0
                assert await asyncio.to_thread(one.read) == UNAVAILABLE
                await until(lambda: not house.plane.registry.live and link.waiting_for is None)
                one.close()
            assert why in [line["reason"] for line in house.lines if line["event"] == "bus unavailable"]
            assert house.plane.context.counters.bus_connect_failures == 1
            assert link._bus_side is None

    uvloop.run(scenario())


def test_a_device_that_leaves_before_the_bus_was_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Both in one turn of the loop, so that the task is cancelled before its first step."""

    async def scenario() -> None:
        async with started(settings, monkeypatch) as house:
            with full() as house.plane.bus.port:
                one = await asks(house)
                link = await opening(house)
                link._carry_out([OpenBus(b"")])
                link.connection_lost(None)
                assert link.waiting_for is None
                await asyncio.sleep(0)
                one.close()

    uvloop.run(scenario())
    gc.collect()
    assert not [str(one.message) for one in recwarn if "never awaited" in str(one.message)]


@pytest.mark.parametrize("bus", [full, silent])
def test_a_device_that_leaves_while_the_bus_is_waited_for_keeps_no_socket(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, bus: Place
) -> None:
    """Nothing is read from it meanwhile, so that it has to be looked whether it is still there."""

    async def scenario() -> None:
        async with started(settings, monkeypatch) as house:
            with bus() as house.plane.bus.port:
                one = await asks(house)
                link = await opening(house)
                if bus is silent:
                    await until(lambda: link.waiting_for is None)
                link.deadline += 3_600  # no deadline ends it
                one.send(bytes(1_000))  # in front of its end, and not read either
                one.close()
                await until(lambda: not house.plane.registry.live)
                await until(lambda: link._bus_side is None and link.waiting_for is None)

    uvloop.run(scenario())


def test_an_early_acknowledgement_is_for_who_has_not_sent_a_connect(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(device_side, "send_tcp_ack", asked.append)

    async def scenario() -> None:
        async with started(settings, monkeypatch) as house:
            one = await asyncio.to_thread(house.join, "good")
            asked.clear()
            house.link("good")._send_tcp_ack()
            assert not asked
            slow = await asyncio.to_thread(house.dial)
            await until(lambda: asked)
            for device in (one, slow):
                await asyncio.to_thread(device.close)

    uvloop.run(scenario())


@pytest.mark.parametrize("asked_by", ["check", "device"])
def test_a_bus_that_ends_the_connection_in_the_tls_handshake(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, asked_by: str
) -> None:
    """Such an error has no words of its own, and nothing to say is not the same as nothing wrong."""

    async def scenario() -> None:
        async with started(settings, monkeypatch) as house, hangs_up() as bus:
            if asked_by == "check":
                found = await BusProbe(bus, house.plane.context, "gateway", "node").check()
                assert found == (False, f"127.0.0.1:{bus.port}: {HUNG_UP}")
                return
            house.plane.bus = bus
            one = await asks(house)
            assert await asyncio.to_thread(one.read) == UNAVAILABLE
            one.close()
            assert HUNG_UP in [line["reason"] for line in house.lines if line["event"] == "bus unavailable"]

    uvloop.run(scenario())
