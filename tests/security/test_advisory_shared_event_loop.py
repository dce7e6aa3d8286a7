"""CVE-2026-95842 (Moquette): an exception in one command ended the event loop that all clients share.

A fault of ours is planted behind each way in which the loop, or whatever sees to many connections, comes to
one of them. That connection ends with a line in the log; beside it a device goes on talking, the next one
gets in, and nothing came as far as the loop. Real TLS, a real bus, and the gateway's own
event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop
from harness import raw
from harness.background_tasks import until
from harness.device import Device
from harness.in_process import SECRET, House, Planted, settle, started
from harness.mosquitto import Mosquitto

from gateway.auth.login import Login
from gateway.config import Settings
from gateway.connection.events import (
    BusBytes,
    BusLost,
    DeviceBytes,
    DeviceFull,
    DeviceLost,
    DeviceReady,
    PolicyChanged,
    Tick,
)
from gateway.http import server as http_server
from gateway.net.bus_endpoint import Bus
from gateway.net.connection_audit_and_log import ConnectionReports, named
from gateway.net.device_port import DevicePort
from gateway.net.device_side import DeviceSide
from gateway.net.live_connections import ConnectionRegistry
from gateway.net.live_updates import LiveUpdates


class Broken:
    """A transport that can't be told to wait."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        if name in {"pause_reading", "resume_reading"}:
            raise Planted
        return getattr(self._transport, name)


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    bus = Mosquitto(tmp_path_factory.mktemp("bus")).start()
    yield bus
    bus.kill()


@pytest.fixture(scope="module")
def settings(bus: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settle(tmp_path_factory.mktemp("gateway"), bus, denied="denied")


Attack = Callable[[House, Device | None], Awaitable[None]]


async def in_thread(*work: Any) -> Any:
    return await asyncio.to_thread(*work)


async def says(house: House, bad: Device | None) -> None:
    house.plant_in_connection(DeviceBytes, b"FAULT")
    await in_thread(bad.send, raw.publish("a", b"FAULT", v5=True))


async def hears(house: House, bad: Device | None) -> None:
    house.plant_in_connection(BusBytes, b"FAULT")
    await in_thread(bad.send, raw.publish("bad", b"FAULT", v5=True))


async def is_refused(house: House, bad: Device | None) -> None:
    house.plant(ConnectionReports, "report", lambda _, link, *__: named(link) == "bad")
    await in_thread(bad.send, raw.publish("denied", b"x", qos=1, packet_id=1, v5=True))


async def asks_a_service(house: House, bad: Device | None) -> None:
    house.plant(house.plane, "services", lambda _, identity: identity.device_id == "bad")
    await in_thread(bad.send, raw.publish("gateway/validate", b"{}", v5=True))


async def leaves(house: House, bad: Device | None) -> None:
    house.plant_in_connection(DeviceLost)
    await in_thread(bad.close)


async def loses_the_bus(house: House, bad: Device | None) -> None:
    house.plant_in_connection(BusLost)
    house.link()._bus_side.transport.abort()


async def has_its_second(house: House, bad: Device | None) -> None:
    house.plant_in_connection(Tick)
    await the_others_have_theirs(house)


async def can_not_be_read_again(house: House, bad: Device | None) -> None:
    link = house.link()
    house.plant(DeviceSide, "read_again", lambda one, _: one is link)
    await the_others_have_theirs(house)


async def the_others_have_theirs(house: House) -> None:
    """Behind the one whose second failed all still get their ticks."""
    await until(lambda: house.planted == 1)
    had: list[DeviceSide] = []
    true = DeviceSide.tick

    def tick(link: DeviceSide, now: float, second: int) -> None:
        had.append(link)
        true(link, now, second)

    house.patch.setattr(DeviceSide, "tick", tick)
    good = house.link("good")
    await until(lambda: had.count(good) == 2)


async def writing_pauses(house: House, bad: Device | None) -> None:
    house.plant_in_connection(DeviceFull)
    asyncio.get_running_loop().call_soon(house.link().pause_writing)


async def writing_goes_on(house: House, bad: Device | None) -> None:
    link = house.link()
    link.pause_writing()
    house.plant_in_connection(DeviceReady)
    asyncio.get_running_loop().call_soon(link.resume_writing)


async def the_bus_is_full(house: House, bad: Device | None) -> None:
    link = house.link()
    link.transport = Broken(link.transport)
    house.planted += 1
    asyncio.get_running_loop().call_soon(link._bus_side.pause_writing)


async def the_policy_changes(house: House, bad: Device | None) -> None:
    house.plant_in_connection(PolicyChanged)
    await house.gateway.updates.policy_changed()


async def the_device_changes(house: House, bad: Device | None) -> None:
    house.plant(LiveUpdates, "_consequence", lambda _, __, was, ___: was.device_id == "bad")
    house.gateway.updates.devices_changed(frozenset({"bad", "good"}))


LIVE: tuple[Attack, ...] = (
    says,
    hears,
    is_refused,
    asks_a_service,
    leaves,
    loses_the_bus,
    has_its_second,
    can_not_be_read_again,
    writing_pauses,
    writing_goes_on,
    the_bus_is_full,
    the_policy_changes,
    the_device_changes,
)


async def arrives(house: House, _: Device | None) -> None:
    house.plant(ConnectionRegistry, "arrived")


async def shakes_hands(house: House, _: Device | None) -> None:
    house.plant(DevicePort, "_with_mapped_buffer")


async def is_recognised(house: House, _: Device | None) -> None:
    house.plant(Login, "recognise")


async def is_verified(house: House, _: Device | None) -> None:
    house.patch.setattr(Login, "recognise", lambda *_, **__: None)
    house.plant(Login, "verify")


async def is_admitted(house: House, _: Device | None) -> None:
    house.plant(ConnectionRegistry, "admit")


async def opens_the_bus(house: House, _: Device | None) -> None:
    house.plant(Bus, "accepted")


NEW: tuple[Attack, ...] = (arrives, shakes_hands, is_recognised, is_verified, is_admitted, opens_the_bus)


async def others_are_served(house: House, good: Device) -> None:
    def talk(one: Device, topic: str) -> None:
        one.subscribe(topic)
        assert one.publish(topic, b"served") == 0
        assert one.message().payload == b"served"

    await in_thread(talk, good, "good/1")
    newcomer = await in_thread(house.join, "good", "newcomer")
    await in_thread(talk, newcomer, "good/2")
    await in_thread(newcomer.close)
    assert not house.gateway.failed
    assert house.planted == 1
    faults = [line for line in house.lines if line["event"] == "internal error"]
    assert [type(line["exc_info"]) for line in faults] == [Planted]
    assert [context for context in house.reached_the_loop if "exception" in context] == []


@pytest.mark.parametrize("attack", LIVE, ids=lambda attack: attack.__name__)
def test_a_fault_at_a_live_connection(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    async def scenario() -> None:
        async with started(settings, monkeypatch) as house:
            good = await in_thread(house.join, "good")
            bad = await in_thread(house.join, "bad")
            await in_thread(bad.subscribe, "bad")
            await attack(house, bad)
            if attack is not leaves:
                await in_thread(bad.ended, 5)
            await until(lambda: {named(link) for link in house.plane.registry.live} == {"good"})
            assert set(house.plane.registry._by_device) == {"good"}
            await others_are_served(house, good)
            await in_thread(good.close)

    uvloop.run(scenario())


@pytest.mark.parametrize("attack", NEW, ids=lambda attack: attack.__name__)
def test_a_fault_at_one_that_comes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    async def scenario() -> None:
        async with started(settings, monkeypatch) as house:
            good = await in_thread(house.join, "good")
            await attack(house, None)

            def come() -> bytes:
                with contextlib.suppress(ConnectionError, ssl.SSLError), house.dial() as bad:
                    bad.connect(username="bad", password=SECRET)
                    return bad.ended(5)
                return b""

            assert await in_thread(come) == b""
            await until(lambda: {named(link) for link in house.plane.registry.live} == {"good"})
            assert set(house.plane.registry._by_device) == {"good"}
            await others_are_served(house, good)
            await in_thread(good.close)

    uvloop.run(scenario())


WEB: dict[str, tuple[Any, str]] = {
    "accepting": (http_server, "place_of"),
    "connection made": (http_server.H11Protocol, "connection_made"),
    "data received": (http_server.H11Protocol, "data_received"),
    "connection lost": (http_server.H11Protocol, "connection_lost"),
}


@pytest.mark.parametrize("place", WEB)
def test_a_fault_at_a_connection_of_the_web(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    async def scenario() -> None:
        async with started(settings, monkeypatch) as house:
            good = await in_thread(house.join, "good")
            house.plant(*WEB[place])

            async def ask() -> bytes:
                reader, writer = await asyncio.open_connection(*house.gateway._health_bound[0])
                try:
                    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                    async with asyncio.timeout(5):
                        return await reader.read()
                except ConnectionError:
                    return b""
                finally:
                    writer.close()

            assert (await ask() == b"") == (place != "connection lost")
            await until(lambda: house.planted == 1)
            for _ in range(3):
                assert b" 200 " in await ask()
            await others_are_served(house, good)
            await in_thread(good.close)

    uvloop.run(scenario())
