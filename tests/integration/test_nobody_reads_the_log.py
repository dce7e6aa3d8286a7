"""Whoever stops reading the log holds up no device; what was dropped is said when lines flow again."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from harness.device import join
from harness.gateway import BIN, Gateway
from harness.mosquitto import Mosquitto

LONG = "x" * 900


def lines_dropped(gateway: Gateway) -> float:
    """By the metric."""
    scraped = gateway.health("/metrics")[1]
    return float(scraped.partition("\ngateway_log_lines_dropped_total ")[2].split()[0])


def test_a_stalled_reader_of_stderr_holds_up_nobody(tmp_path: Path, mosquitto: Mosquitto) -> None:
    gateway = Gateway(tmp_path / "gateway", mosquitto.port, LOG_LEVEL="info")
    gateway.admin("init")
    names = ("lamp-1", "lamp-2", "lamp-3", "lamp-4")
    for name in names:
        gateway.add_device(name, "sensor")
    read, write = os.pipe()
    process = subprocess.Popen(
        [str(BIN / "gateway"), "run"],
        cwd=gateway.folder,
        env=gateway.env,
        stdout=subprocess.DEVNULL,
        stderr=write,
    )
    os.close(write)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if gateway.health()[0] == 200:
                    break
            except OSError:
                time.sleep(0.05)
        # Each refusal is a line of more than a kilobyte, and of each device some hundred lines are written:
        # together more than the pipe and what waits hold.
        for name in names:
            with join(gateway, name, v5=True) as device:
                for number in range(800):
                    device.publish(f"devices/other/{number}/{LONG}", qos=0)
                device.barrier()
        with join(gateway, "lamp-1", v5=True) as device:
            before = time.monotonic()
            assert device.publish("devices/lamp-1/telemetry", b"1") == 0
            assert time.monotonic() - before < 5
            assert gateway.health("/health")[0] == 200
            measured = lines_dropped(gateway)
            dropped, lines = 0, b""
            while not dropped:
                lines += os.read(read, 65_536)
                whole, _, lines = lines.rpartition(b"\n")
                found = [json.loads(line) for line in whole.splitlines() if b"log lines dropped" in line]
                dropped = sum(one["dropped"] for one in found)
            # Lines may be dropped until the reader goes on; an answer of /metrics is given for a second.
            deadline = time.monotonic() + 5
            while (then := lines_dropped(gateway)) < dropped and time.monotonic() < deadline:
                time.sleep(0.1)
            assert 100 < measured <= then >= dropped > 100
        process.terminate()
        process.wait(20)
    finally:
        process.kill()
        process.wait(20)
        os.close(read)
