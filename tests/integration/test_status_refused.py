"""`status --refused`: who was refused lately, from where, how often, why, what to do; over restarts too."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.device import Device, join
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, bus: Mosquitto) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("gateway"), bus.port).start()
    running.add_device("lamp-1", "sensor")
    running.add_device("lamp-2", "sensor")
    yield running
    running.kill()


def refused(gateway: Gateway) -> list[dict]:
    return json.loads(gateway.admin("status", "--refused", "--json").stdout)["refused"]


def entry(gateway: Gateway, **fields: object) -> dict:
    """The one entry with these fields, when it is there."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [one for one in refused(gateway) if fields.items() <= one.items()]
        if found:
            assert len(found) == 1, found
            return found[0]
        time.sleep(0.05)
    raise AssertionError(refused(gateway))


def on_a_terminal(gateway: Gateway, *words: str) -> str:
    """What the command shows on a terminal of 80 columns. It has to be short."""
    controller, terminal = pty.openpty()
    try:
        called = [Path(sys.executable).with_name("gateway-admin"), *words]
        subprocess.run(called, cwd=gateway.folder, env=gateway.env, stdout=terminal, check=True, timeout=30)
        return os.read(controller, 65_536).decode()
    finally:
        os.close(terminal)
        os.close(controller)


def try_login(gateway: Gateway, name: str, password: str) -> None:
    with Device(gateway) as device:
        device.connect(client_id="x", username=name, password=password)


def test_what_is_alike_is_one_entry_with_its_number_and_remedy(gateway):
    before = time.time_ns() // 1_000_000_000 * 1_000
    for _ in range(3):
        try_login(gateway, "lamp-1", "wrong")
    found = entry(gateway, device_id="lamp-1", reason="wrong secret")
    assert (found["kind"], found["host"], found["count"], found["proven"]) == ("login", "127.0.0.1", 3, False)
    assert before <= found["first_at"] <= found["last_at"] <= time.time_ns() // 1_000_000
    assert found["remedy"] == "give it its secret, or a new one: gateway-admin device rotate lamp-1"


def test_a_name_that_no_device_has_is_not_told(gateway):
    try_login(gateway, "my-password-1234", "x")
    found = entry(gateway, reason="unknown device")
    assert found["device_id"].startswith("unknown:")
    assert "my-password-1234" not in json.dumps(refused(gateway))
    assert "gateway-admin device add ID" in found["remedy"]


def test_what_the_policy_refuses_names_its_explanation(gateway):
    with join(gateway, "lamp-2", v5=True) as device:
        assert device.publish("devices/other/telemetry", b"1") == 0x87
        found = entry(gateway, device_id="lamp-2", kind="publish")
        assert (found["topic"], found["proven"]) == ("devices/other/telemetry", True)
        why = found["remedy"].removesuffix(" says what would have to change")
        time.sleep(1.2)  # refusals are saved each second
        assert "refused at" in gateway.admin(*why.split()[1:], check=False).stdout


def test_on_a_terminal_nothing_breaks_a_topic_or_the_command_to_copy(gateway):
    """A table of seven columns had five characters for each in 80."""
    topic = "devices/another-one-in-the-hall/telemetry"
    with join(gateway, "lamp-2", v5=True) as device:
        assert device.publish(topic, b"1") == 0x87
        found = entry(gateway, device_id="lamp-2", topic=topic)
    shown = on_a_terminal(gateway, "status", "--refused").splitlines()
    (first,) = [number for number, line in enumerate(shown) if topic in line]
    often = "once" if found["count"] == 1 else f"{found['count']} times"
    assert shown[first].endswith(f"  lamp-2 from 127.0.0.1, {often}: publish {topic}")
    assert shown[first + 1 : first + 3] == [f"    {found['reason']}", f"    {found['remedy']}"]


def test_strangers_that_come_again_are_counted_though_they_get_no_line(gateway):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", gateway.port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.settimeout(10)
            while plain.recv(4096):
                pass
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [one for one in refused(gateway) if "HTTP client" in one["reason"]]
        if found and found[0]["count"] == 5:
            return
        time.sleep(0.05)
    raise AssertionError(refused(gateway))


def test_it_is_kept_over_restarts_and_shown_without_a_gateway(gateway):
    try_login(gateway, "lamp-2", "wrong")
    entry(gateway, device_id="lamp-2", reason="wrong secret")
    gateway.stop()
    done = gateway.admin("status", "--refused", "--json")
    saved = json.loads(done.stdout)["refused"]
    assert "this is what was saved" in done.stderr
    assert [one["count"] for one in saved if one["device_id"] == "lamp-2" and one["kind"] == "login"] == [1]
    gateway.start()
    try_login(gateway, "lamp-2", "wrong")
    deadline = time.monotonic() + 10
    while entry(gateway, device_id="lamp-2", reason="wrong secret")["count"] != 2:
        assert time.monotonic() < deadline
    assert entry(gateway, device_id="lamp-1", reason="wrong secret")["count"] == 3


def test_people_get_a_line_each_and_the_newest_first(gateway):
    gateway.add_device("lamp-3", "sensor")
    try_login(gateway, "lamp-3", "wrong")
    deadline = time.monotonic() + 5
    while "lamp-3" not in (lines := gateway.admin("status", "--refused").stdout.splitlines())[0]:
        assert time.monotonic() < deadline, lines
    last, times, device, host, what, why, remedy = lines[0].split("\t")
    assert (device, host, what, why) == ("lamp-3 (claimed)", "127.0.0.1", "login", "wrong secret")
    assert int(times) >= 1
    assert last.endswith("Z")
    assert "rotate lamp-3" in remedy
