"""`device trace`: one device's packets and decisions as they happen, and nothing of what is secret."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest
from harness import raw
from harness.device import Device, join, topic_alias
from harness.gateway import BIN, Gateway
from harness.mosquitto import Mosquitto

PAYLOAD = b"a payload that nobody is to see"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, bus: Mosquitto) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("gateway"), bus.port).start()
    for device in ("sensor-1", "sensor-2", "sensor-3"):
        running.add_device(device, "sensor")
    running.add_device("all", "full")
    yield running
    running.kill()


class Tracing:
    """`gateway-admin device trace` as it runs, line by line."""

    def __init__(self, gateway: Gateway, device: str, *words: str, text: bool = False) -> None:
        self._process = subprocess.Popen(
            [str(BIN / "gateway-admin"), "device", "trace", device, *words, *["--json"][text:]],
            cwd=gateway.folder, env=gateway.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._text = text
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.seen: list = []

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def until(self, condition, seconds: float = 15.0):
        """The first line that is so; all before it are in `seen`."""
        deadline = time.monotonic() + seconds
        while True:
            line = self._lines.get(timeout=max(0.1, deadline - time.monotonic()))
            assert line is not None, (self.seen, self._process.stderr.read())
            one = line.rstrip("\n") if self._text else json.loads(line)
            self.seen.append(one)
            if condition(one):
                return one

    def packet(self, **fields):
        """The first packet with these fields."""
        return self.until(
            lambda one: all(one.get(name.rstrip("_")) == value for name, value in fields.items())
        )

    def event(self, name: str):
        return self.until(lambda one: one.get("event") == name)

    def __enter__(self) -> Self:
        if not self._text:
            self.event("begins")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        self._reading.join(10)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def ended(self) -> int:
        return self._process.wait(20)


def test_a_trace_shows_packets_verdicts_rules_and_codes(gateway):
    with join(gateway, "sensor-1", v5=True) as device, Tracing(gateway, "sensor-1") as trace:
        assert trace.event("connected")["address"].startswith("127.0.0.1:")
        assert device.publish("devices/sensor-1/telemetry", PAYLOAD) == 0
        sent = trace.packet(from_="device", packet="PUBLISH")
        assert sent["to"] == "bus"
        assert (sent["topic"], sent["qos"], sent["payload_size"]) == (
            "devices/sensor-1/telemetry",
            1,
            len(PAYLOAD),
        )
        assert sent["allowed"] is True
        assert sent["rule"].startswith("roles/sensor.toml:") or "sensor.toml:" in sent["rule"]
        assert trace.packet(packet="PUBACK")["from"] == "bus"

        assert device.publish("devices/other/telemetry", PAYLOAD) == 0x87
        denied = trace.packet(from_="device", packet="PUBLISH")
        assert (denied["to"], denied["allowed"]) == ("gateway", False)
        assert denied["reason"]
        answer = trace.packet(packet="PUBACK")
        assert (answer["from"], answer["to"], answer["code"]) == ("gateway", "device", 0x87)
        told = trace.event("audit")
        assert (told["kind"], told["outcome"], told["topic"]) == (
            "publish",
            "refused",
            "devices/other/telemetry",
        )
        assert told["id"]

        device.subscribe("devices/sensor-1/commands/#", "devices/#")
        asked = trace.packet(packet="SUBSCRIBE", from_="device")
        assert [one["allowed"] for one in asked["filters"]] == [True, False]
        assert asked["filters"][0]["rule"]
        codes = trace.packet(packet="SUBACK", to="device")["codes"]
        assert codes == [1, 0x87]
        device.barrier()
        trace.packet(packet="PINGREQ")
    assert PAYLOAD.decode() not in json.dumps(trace.seen)


def test_a_sealed_topic_shows_two_sides(gateway):
    with join(gateway, "sensor-1") as device, Tracing(gateway, "sensor-1") as trace:
        device.publish("devices/sensor-1/private/pin", PAYLOAD)
        sent = trace.packet(from_="device", packet="PUBLISH")
        assert (sent["to"], sent["allowed"], sent["sensitive"]) == ("gateway", True, True)
        sealed = trace.packet(from_="gateway", packet="PUBLISH")
        assert sealed["to"] == "bus"
        assert sealed["payload_size"] > sent["payload_size"]


def test_deliveries_and_aliases_are_named(gateway, bus):
    with (
        join(gateway, "sensor-2", v5=True) as device,
        Device(bus.port) as service,
        Tracing(gateway, "sensor-2") as trace,
    ):
        service.connect(client_id="service")
        device.subscribe("devices/sensor-2/commands/#")
        service.publish("devices/sensor-2/commands/go", PAYLOAD)
        heard = trace.packet(from_="bus", packet="PUBLISH")
        assert (heard["to"], heard["topic"], heard["allowed"]) == (
            "device",
            "devices/sensor-2/commands/go",
            True,
        )
        device.message()
        device.publish("devices/sensor-2/telemetry", b"1", props=topic_alias(1))
        trace.packet(from_="device", packet="PUBLISH")
        device.publish("", b"2", props=topic_alias(1))
        again = trace.packet(from_="device", packet="PUBLISH")
        assert (again["topic"], again["topic_alias"]) == ("devices/sensor-2/telemetry", 1)


def test_a_device_that_is_not_there_is_waited_for_from_its_connect_on(gateway):
    with Tracing(gateway, "sensor-3") as trace:
        with Device(gateway, v5=True) as wrong:
            wrong.connect(client_id="x", username="sensor-3", password="not its secret")
        refused = trace.until(lambda one: one.get("kind") == "login")
        assert (refused["outcome"], refused["reason"]) == ("refused", "wrong secret")
        user_property = b"\x26" + raw.text("secret") + raw.text("user property")
        with join(
            gateway, "sensor-3", "mine", v5=True, keep_alive=17, props=user_property,
            will=("devices/sensor-3/state", PAYLOAD, 1, False),
        ) as device:  # fmt: skip
            trace.event("connects")
            connect = trace.packet(packet="CONNECT")
            assert (connect["client_id"], connect["keep_alive"], connect["protocol"]) == ("mine", 17, "5")
            assert (connect["user_name"], connect["password"]) == (True, True)
            assert (connect["will_topic"], connect["will_payload_size"]) == (
                "devices/sensor-3/state",
                len(PAYLOAD),
            )
            assert trace.packet(packet="CONNACK", to="device")["code"] == 0
            device.send(raw.DISCONNECT)
            trace.packet(packet="DISCONNECT", from_="device")
            assert trace.event("closed")["reason"]
    told = json.dumps(trace.seen)
    for secret in (gateway.secrets["sensor-3"], "not its secret", "user property", PAYLOAD.decode()):
        assert secret not in told


def test_the_connection_is_as_before_when_nobody_looks_any_more(gateway):
    with join(gateway, "sensor-1") as device, join(gateway, "all", "c") as other:
        with Tracing(gateway, "sensor-1") as trace:
            device.publish("devices/sensor-1/telemetry", b"1")
            trace.packet(packet="PUBLISH")
            other.publish("t", b"1")
        device.publish("devices/sensor-1/telemetry", b"2")
        assert device.publish("devices/sensor-1/telemetry", b"3") == 0
        with Tracing(gateway, "sensor-1") as trace:
            device.publish("devices/sensor-1/telemetry", b"45")
            assert trace.packet(packet="PUBLISH")["payload_size"] == 2
        assert all(one.get("topic") != "t" for one in trace.seen)


def test_a_trace_is_over_in_time_and_one_at_a_time(gateway):
    with Tracing(gateway, "sensor-1", "--for", "2s") as trace:
        done = gateway.admin("device", "trace", "sensor-1", check=False)
        assert done.returncode == 1
        assert "somebody looks at sensor-1 already" in done.stderr
        assert "2 s are over" in trace.event("ends")["reason"]
        assert trace.ended() == 0


def test_of_a_flood_the_number_is_shown(gateway):
    with join(gateway, "all") as device, Tracing(gateway, "all") as trace:
        message = raw.publish("t", b"1")
        for _ in range(20):
            device.send(message * 100)
        missed = trace.event("missed")["lines"]
        device.barrier()
        shown = sum(one.get("packet") == "PUBLISH" for one in trace.seen)
        assert 0 < shown <= 1_000
        assert missed > 0


def test_people_get_a_line_each(gateway):
    with join(gateway, "sensor-1", v5=True) as device, Tracing(gateway, "sensor-1", text=True) as trace:
        trace.until(lambda line: "-- connected" in line)
        device.publish("devices/other/telemetry", PAYLOAD)
        line = trace.until(lambda line: "PUBLISH" in line)
        said = f"device -> gateway  PUBLISH devices/other/telemetry qos 1 id 1, {len(PAYLOAD)} bytes: refused"
        assert said in line
        line = trace.until(lambda line: "PUBACK" in line)
        assert "gateway -> device" in line
        assert line.endswith("code 0x87")


def test_the_audit_says_who_looked_at_whom(gateway):
    with Tracing(gateway, "sensor-2", "--for", "77s"):
        deadline = time.monotonic() + 10
        found: list = []
        while not found and time.monotonic() < deadline:
            found = [
                line
                for line in gateway.log_lines()
                if line["event"] == "audit" and "77 s" in str(line["reason"]) and line["device"] == "sensor-2"
            ]
            time.sleep(0.05)
    assert str(found[0]["address"]).startswith("gateway-admin:")
    assert str(found[0]["reason"]).startswith("traced: ")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ghost"], 1, "there is no device 'ghost'"),
        (["sensor-1", "--for", "2h"], 2, "--for is 60m at the most"),
        (["sensor-1", "--for", "soon"], 2, "is not a time"),
    ],
)
def test_what_can_not_be_traced_is_said(gateway, words, code, said):
    done = gateway.admin("device", "trace", *words, check=False)
    assert done.returncode == code
    assert said in done.stderr
