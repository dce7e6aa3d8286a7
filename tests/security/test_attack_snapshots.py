"""A gateway that stood still, and may have been copied meanwhile, seals on with nonces of another field."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from harness.device import join, spy
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto


def fields(bus: Mosquitto, gateway: Gateway, payload: bytes) -> str:
    """The fixed part of the nonce of a message that is sealed now."""
    with spy(bus.port) as ear, join(gateway, "lamp") as lamp:
        lamp.publish("devices/lamp/private/x", payload)
        data = json.loads(ear.message().payload)["data"]
    return base64.b64decode(data)[:8].hex()


def test_a_gateway_that_stood_still_draws_its_nonces_anew(
    tmp_path: Path, start_gateway: Callable[..., Gateway]
) -> None:
    bus = Mosquitto(tmp_path / "bus").start()
    try:
        gateway = start_gateway(bus.port)
        gateway.add_device("lamp", "full")
        before = fields(bus, gateway, b"1")
        os.kill(gateway.pid, signal.SIGSTOP)
        time.sleep(2.5)  # as a machine does whose memory is being copied
        os.kill(gateway.pid, signal.SIGCONT)
        deadline = time.monotonic() + 10
        while not (told := [line for line in gateway.log_lines() if line["event"] == "nonces drawn anew"]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert told[0]["reason"] == "the process stood still"
        assert fields(bus, gateway, b"2") != before
    finally:
        bus.kill()
