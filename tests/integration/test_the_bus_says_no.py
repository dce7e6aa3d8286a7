"""A bus with limits and access lists of its own: what devices and administrators are told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import playbook, raw
from harness.background_tasks import until
from harness.device import Device, join
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.raw import Raw
from harness.receivers import wait_until
from harness.reference_parser import properties

from gateway.bus_client.probe import BusProbe
from gateway.connection.process_context import Context
from gateway.net.bus_endpoint import Bus
from gateway.policy.engine.limits import ANY_SIZE

TOPIC = "devices/lamp/private/pin"


@pytest.fixture
def context() -> Context:
    return playbook.context(bus_username=None, bus_password=None)


async def asked(port: int, context: Context) -> tuple[bool, str]:
    return await BusProbe(Bus("127.0.0.1", port), context, "gateway", "attic").check()


@pytest.mark.parametrize("v5", [False, True])
def test_a_message_that_sealing_makes_too_long_ends_no_connection(
    tmp_path: Path, start_gateway: Callable[..., Gateway], v5: bool
) -> None:
    bus = Mosquitto(tmp_path / "bus", settings="max_packet_size 2000").start()
    try:
        gateway = start_gateway(bus.port)
        gateway.add_device("lamp", "sensor")
        with join(gateway, "lamp", v5=v5) as lamp:
            assert lamp.publish(TOPIC, bytes(1_900)) == (0x97 if v5 else 0)
            assert lamp.publish(TOPIC, bytes(500)) == 0
            lamp.barrier()
        lines = [line for line in gateway.log_lines() if "max_packet_size" in str(line.get("reason"))]
        assert ["takes packets of 2,000 at most" in str(line["reason"]) for line in lines] == [True]
    finally:
        bus.kill()


async def test_the_check_learns_the_longest_packet_of_the_bus(tmp_path: Path, context: Context) -> None:
    bus = Mosquitto(tmp_path / "bus", settings="max_packet_size 2000").start()
    try:
        assert await asked(bus.port, context) == (True, f"127.0.0.1:{bus.port}")
        assert context.bus_packet_max == 2_000
    finally:
        bus.kill()


async def test_a_bus_that_takes_hardly_anything_is_told_of_and_ends_nothing(
    tmp_path: Path, context: Context
) -> None:
    bus = Mosquitto(tmp_path / "bus", settings="max_packet_size 30").start()
    try:
        probe = BusProbe(Bus("127.0.0.1", bus.port), context, "a-prefix-of-some-length", "vm")
        reachable, why = await probe.check()
        assert not reachable
        assert "max_packet_size" in why
    finally:
        bus.kill()


async def test_a_bus_as_it_comes(mosquitto: Mosquitto, context: Context) -> None:
    """Mosquitto 2.0 has no limit then, 2.1 has one of 2,000,000 bytes: what the bus says itself is taken."""
    with Raw(mosquitto.port) as client:
        connack = client.send(raw.connect("c", v5=True)).read()
    announced = [value for identifier, value in properties(connack, 4)[0] if identifier == 0x27]
    assert (await asked(mosquitto.port, context))[0]
    assert context.bus_packet_max == (int.from_bytes(announced[0], "big") if announced else ANY_SIZE)
    assert " as ~gateway/" in mosquitto.log.read_text()


def test_gateways_of_one_host_ask_the_bus_under_the_names_of_their_nodes(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway]
) -> None:
    """Under one name each would end the other's check, and call the bus unavailable."""
    for node in ("east", "west"):
        start_gateway(mosquitto.port, GATEWAY_NODE=node)
    log = mosquitto.log.read_text()
    for client_id in ("~gateway/east", "gateway~check/east", "~gateway/west", "gateway~check/west"):
        assert f" as {client_id} " in log


@pytest.mark.parametrize("v5", [False, True])
@pytest.mark.parametrize("allowed", ["topic read gateway/#", "topic write gateway/#", "topic devices/#"])
async def test_a_bus_that_lets_the_gateway_not_speak_or_not_hear(
    tmp_path: Path, context: Context, allowed: str, v5: bool
) -> None:
    (tmp_path / "acl").write_text(allowed + "\n")
    (tmp_path / "acl").chmod(0o600)
    bus = Mosquitto(tmp_path / "bus", settings=f"acl_file {tmp_path}/acl").start()
    context.bus_speaks_v5 = v5
    try:
        reachable, detail = await asked(bus.port, context)
        assert not reachable
        assert "check its access list" in detail
        assert "gateway/check/attic" in detail
        assert "auth_plugin_deny_special_chars" not in detail
    finally:
        bus.kill()


def test_a_device_is_not_blamed_for_a_bus_that_is_gone(
    tmp_path: Path, mosquitto: Mosquitto, start_gateway: Callable[..., Gateway]
) -> None:
    (tmp_path / "monitoring.toml").write_text(
        '[[check]]\nname = "door"\nkind = "device"\ntarget = "door"\ntopic = "devices/door/#"\n'
        'within = "1s"\ninterval = "1s"\ntimeout = "1s"\n'
    )
    gateway = start_gateway(mosquitto.port, MONITORING_PATH=str(tmp_path / "monitoring.toml"))

    def said() -> str:
        return str(json.loads(gateway.health("/health")[1])["checks"]["door"]["message"])

    wait_until(lambda: "nothing came on devices/door/#" in said())
    assert "can't listen" not in said()
    mosquitto.stop()
    wait_until(lambda: "the gateway can't listen (" in said())


@pytest.mark.parametrize("v5", [False, True])
async def test_what_the_bus_refuses_by_client_id_is_not_told_as_credentials_alone_the_check(
    tmp_path: Path, context: Context, v5: bool
) -> None:
    bus = Mosquitto(tmp_path / "bus", settings="clientid_prefixes lamp").start()
    context.bus_speaks_v5 = v5
    try:
        reachable, detail = await asked(bus.port, context)
        assert not reachable
        for named in ("the client id ~gateway/attic", "clientid_prefixes", "MQTT_USERNAME"):
            assert named in detail
    finally:
        bus.kill()


@pytest.mark.parametrize("v5", [False, True])
def test_what_the_bus_refuses_by_client_id_is_not_told_as_credentials_alone_a_device(
    tmp_path: Path, start_gateway: Callable[..., Gateway], v5: bool
) -> None:
    bus = Mosquitto(tmp_path / "bus", settings="clientid_prefixes ~gateway").start()
    try:
        gateway = start_gateway(bus.port, wait_ready=False)
        secret = gateway.add_device("lamp", "sensor")
        with Device(gateway, v5=v5) as lamp:
            assert lamp.connect(client_id="c", username="lamp", password=secret)[3] == (0x88 if v5 else 3)
        # The line is written after the answer has gone.
        asyncio.run(until(lambda: "or its clientid_prefixes" in gateway.log_text()))
    finally:
        bus.kill()


@pytest.mark.parametrize("v5", [False, True])
async def test_a_bus_that_serves_the_check_alone(tmp_path: Path, context: Context, v5: bool) -> None:
    """Its first client id is let in: what refuses those of devices has to be seen by a second one."""
    bus = Mosquitto(tmp_path / "bus", settings="clientid_prefixes ~gateway").start()
    context.bus_speaks_v5 = v5
    try:
        reachable, detail = await asked(bus.port, context)
        assert not reachable
        assert "it refuses the client id gateway~check/attic" in detail
        assert detail.endswith("leave its clientid_prefixes off")
    finally:
        bus.kill()


@pytest.mark.parametrize("v5", [False, True])
async def test_a_bus_that_takes_all_clients_for_one(tmp_path: Path, v5: bool) -> None:
    """As each comes the one before has to go: one alone notices nothing."""
    bus = Mosquitto(tmp_path / "bus", settings="use_username_as_clientid true").start()
    context = playbook.context(bus_username=b"gateway", bus_password=None)
    context.bus_speaks_v5 = v5
    try:
        reachable, detail = await asked(bus.port, context)
        assert not reachable
        assert detail.endswith("leave its use_username_as_clientid off")
    finally:
        bus.kill()


class DeniesSlashes:
    """Mosquitto 2.1's way with plugins of API 2 to 4, in front of a Mosquitto that has none."""

    def __init__(self, bus_port: int, how: str) -> None:
        self._bus_port, self._how = bus_port, how
        self.open = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        bus: asyncio.StreamWriter | None = None
        try:
            first = await reader.read(4_096)
            slash = b"~gateway/" in first
            if slash and self._how == "at the CONNECT":
                writer.write(b"\x20\x03\0\x87\0" if b"MQTT\x05" in first else b"\x20\x02\0\x05")
                return
            there, bus = await asyncio.open_connection("127.0.0.1", self._bus_port)
            bus.write(first)
            await asyncio.gather(self._pass(reader, bus, deaf=slash), self._pass(there, writer, deaf=False))
        finally:
            for one in filter(None, (writer, bus)):
                one.close()
                await one.wait_closed()
            self.open -= 1

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, deaf: bool) -> None:
        while data := await reader.read(4_096):
            if deaf and data[0] >> 4 == 3:
                data = data.replace(b"gateway/check", b"nowhere/check")
            writer.write(data)
        writer.close()


@pytest.mark.parametrize("how", ["at the CONNECT", "at the PUBLISH"])
async def test_a_bus_that_denies_just_the_slash(mosquitto: Mosquitto, context: Context, how: str) -> None:
    relay = DeniesSlashes(mosquitto.port, how)
    async with await asyncio.start_server(relay.serve, "127.0.0.1", 0) as server:
        reachable, detail = await asked(server.sockets[0].getsockname()[1], context)
        while relay.open:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not reachable
    assert "auth_plugin_deny_special_chars false" in detail


def test_the_detail_stands_in_ready_and_in_status(
    tmp_path: Path, start_gateway: Callable[..., Gateway]
) -> None:
    (tmp_path / "acl").write_text("topic devices/#\n")
    (tmp_path / "acl").chmod(0o600)
    bus = Mosquitto(tmp_path / "bus", settings=f"acl_file {tmp_path}/acl").start()
    try:
        gateway = start_gateway(bus.port, wait_ready=False)
        deadline = time.monotonic() + 10
        while "not checked yet" in (asked := gateway.health("/ready"))[1] and time.monotonic() < deadline:
            time.sleep(0.05)
        status, body = asked
        assert status == 503
        assert "check its access list" in json.loads(body)["checks"]["bus"]["detail"]
        assert "check its access list" in gateway.admin("status", check=False).stdout
    finally:
        bus.kill()


def test_a_device_that_hears_all_of_the_bus_hears_no_check_and_the_log_is_silent(gateway: Gateway) -> None:
    gateway.add_device("ear")
    with join(gateway, "ear", v5=True) as ear:
        ear.subscribe("#")
        for _ in range(3):
            gateway.health()
        ear.barrier()
        assert ear.inbox == []
    told = [
        line for line in gateway.log_lines() if line["event"] == "audit" and line.get("kind") == "delivery"
    ]
    assert told == []
