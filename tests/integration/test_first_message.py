"""The shortest way through everything: device, TLS, policy, seal, bus, and back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from harness import raw
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.raw import Raw


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
def test_a_sensitive_message_is_sealed_on_the_bus_and_opened_for_its_reader(
    gateway: Gateway, mosquitto: Mosquitto, v5: bool
) -> None:
    lamp, operator = gateway.add_device("lamp-1", "sensor"), gateway.add_device("op", "operator")
    topic = "devices/lamp-1/private/pin"
    with (
        Raw(mosquitto.port) as bus,
        Raw(gateway.port, gateway.tls()) as reader,
        Raw(gateway.port, gateway.tls()) as device,
    ):
        bus.send(raw.connect("spy"), raw.subscribe(1, ("devices/#", 0)))
        assert [one[0] for one in (bus.read(), bus.read())] == [0x20, 0x90]
        reader.send(raw.connect("r", v5=v5, username="op", password=operator))
        reader.send(raw.subscribe(1, (topic, 1), v5=v5))
        assert [one[0] for one in (reader.read(), reader.read())] == [0x20, 0x90]
        device.send(raw.connect("d", v5=v5, username="lamp-1", password=lamp))
        device.send(raw.publish(topic, b"4711", qos=1, packet_id=1, v5=v5))
        assert device.read()[0] == 0x20
        assert device.read()[:1] == b"\x40"
        sealed = bus.read()
        assert b"4711" not in sealed
        assert json.loads(sealed[sealed.index(b"{") :])["topic"] == topic
        assert reader.read().endswith(b"4711")


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
def test_the_log_says_how_somebody_came_and_that_it_said_goodbye(gateway: Gateway, v5: bool) -> None:
    lamp = gateway.add_device("lamp-1", "sensor")
    name = f"words-{v5}"
    with Raw(gateway.port, gateway.tls()) as device:
        device.send(raw.connect(name, v5=v5, username="lamp-1", password=lamp))
        assert device.read()[0] == 0x20
        device.send(raw.DISCONNECT)
    connected = wait_for_line(gateway, lambda line: line.get("client_id") == name)
    with Raw(gateway.port, gateway.tls()) as device:
        device.send(raw.connect(f"{name}-denied", v5=v5, username="lamp-1", password=lamp))
        device.send(raw.publish("nobody/may", b"1", v5=v5))
        denied = wait_for_line(gateway, lambda line: line.get("topic") == "nobody/may")
    came = wait_for_line(gateway, lambda line: line.get("client_id") == f"{name}-denied")
    assert denied["connection"] == came["connection"], "one name for one value"
    assert "request_id" not in denied
    assert (connected["protocol"], connected["login"]) == ("5" if v5 else "3.1.1", "secret")
    same = connected["connection"]
    closed = wait_for_line(gateway, lambda line: (line["event"], line.get("connection")) == ("closed", same))
    assert closed["reason"] == "the device said goodbye"


@pytest.mark.parametrize(
    ("level", "protocol"), [(3, "3.1"), (0x83, "3.1"), (4, "3.1.1"), (0x84, "3.1.1"), (5, "5")], ids=str
)
def test_the_log_names_the_version_that_the_client_spoke(gateway: Gateway, level: int, protocol: str) -> None:
    """Bridges of that version too, whose level has another bit set."""
    lamp = gateway.add_device("lamp-1", "sensor")
    with Raw(gateway.port, gateway.tls()) as device:
        device.send(raw.connect("c", v5=level == 5, level=level, username="lamp-1", password=lamp))
        assert device.read()[0] == 0x20
    assert wait_for_line(gateway, lambda line: line["event"] == "connected")["protocol"] == protocol


def wait_for_line(gateway: Gateway, wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    for _ in range(200):
        found = [line for line in gateway.log_lines() if wanted(line)]
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(gateway.log_lines())
