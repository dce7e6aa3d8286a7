"""A real attempt behind noise, through a real gateway: garbage of strangers, decoys of the device."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from harness import raw
from harness.device import join
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

REAL = "locks/front/open"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("noise")
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port)
    try:
        gateway.start()
        enrol(gateway, lamp_1="sensor", lamp_300="sensor", lamp_3000="sensor")
        yield gateway
    finally:
        gateway.kill()
        bus.kill()


def told(gateway: Gateway, device: str) -> list[dict[str, object]]:
    lines = gateway.log_lines()
    return [line for line in lines if line.get("event") == "audit" and line.get("device") == device]


def kept(gateway: Gateway, topic: str) -> int:
    """Refusals of this topic in the store, when it has had time to get there."""
    (file,) = gateway.folder.rglob("gateway.db")
    for _ in range(100):
        with closing(sqlite3.connect(file)) as store:
            (count,) = store.execute("SELECT count(*) FROM refusals WHERE topic = ?", [topic]).fetchone()
        if count:
            break
        time.sleep(0.1)
    return int(count)


def test_garbage_of_strangers_takes_no_line_from_a_device(gateway: Gateway) -> None:
    with join(gateway, "lamp-1") as lamp:
        for _ in range(400):
            with suppress(OSError), socket.create_connection(("127.0.0.1", gateway.port)) as stranger:
                stranger.sendall(b"garbage, not a ClientHello\n")
        lamp.send(b"".join(raw.publish(f"locks/{number}", b"") for number in range(100)))
        lamp.barrier()
    topics = {line.get("topic") for line in told(gateway, "lamp-1")}
    assert {f"locks/{number}" for number in range(100)} <= topics


@pytest.mark.parametrize("decoys", [300, 3_000])
def test_decoys_push_the_real_attempt_out_of_nothing(gateway: Gateway, decoys: int) -> None:
    real, device = f"{REAL}/{decoys}", f"lamp-{decoys}"
    with join(gateway, device) as lamp:
        noise = [raw.publish(f"decoy-{number % 3}/{number}", b"") for number in range(decoys)]
        lamp.send(b"".join(noise[: decoys // 2]))
        lamp.barrier()
        lamp.send(raw.publish(real, b""), *noise[decoys // 2 :])
        lamp.barrier()
    assert [line["topic"] for line in told(gateway, device) if line.get("topic") == real] == [real]
    assert kept(gateway, real) == 1
    for _ in range(50):
        lines = [line for line in told(gateway, device) if line["kind"] == "publish"]
        all_told = sum(int(line.get("suppressed", 1)) for line in lines)  # type: ignore[call-overload]
        if all_told >= decoys + 1:
            break
        time.sleep(0.1)
    assert all_told >= decoys + 1, "each has a line or is counted"
