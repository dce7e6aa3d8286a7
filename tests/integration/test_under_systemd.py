"""The gateway as systemd runs it: ready once it serves, alive while its loop turns, ended with 0."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from harness.gateway import BIN, Gateway
from harness.mosquitto import Mosquitto


def test_it_tells_that_it_is_ready_that_it_lives_and_that_it_stops(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(20)
        gateway = Gateway(tmp_path / "gateway", mosquitto.port, NOTIFY_SOCKET=name, WATCHDOG_USEC="200000")
        try:
            gateway.start(wait_ready=False)
            assert manager.recv(100) == b"READY=1"
            assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            process = gateway._process
            assert process is not None
            # A loop that does not turn tells nothing.
            process.send_signal(signal.SIGSTOP)
            time.sleep(1.0)
            manager.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(3):  # told before it stood still
                    manager.recv(100)
                pytest.fail("it tells that it lives, and its loop stands still")
            manager.settimeout(20)
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            told = b""
            while told != b"STOPPING=1":
                told = manager.recv(100)
        finally:
            gateway.kill()


def test_without_a_bus_it_says_what_is_missing_makes_nothing_and_ends_with_2(tmp_path: Path) -> None:
    """As in the image, which has no embedded bus."""
    gateway = Gateway(tmp_path / "gateway", None)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'amqtt' else find(name, package)\n"
    )
    env = gateway.env | {"PYTHONPATH": str(hidden), "TLS_CLIENT_CA_PATH": "absent.pem"}
    for words, code in ((["run"], 2), (["check"], 1)):
        done = subprocess.run(
            [BIN / "gateway", *words],
            cwd=gateway.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "MQTT_BROKER: it is not set" in done.stderr
        assert "absent.pem" in done.stderr, "all that is wrong is told at once"
        assert not (gateway.folder / "data").exists()
