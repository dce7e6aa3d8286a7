"""A nonce that comes twice under one key gives two messages away (NIST SP 800-38D, 8): none does.

Why it can't stands at `gateway.keys.key_ring.Nonces`. Here many processes seal under the same key, at the
same time and one after another, end as they should and are killed, and start again from an old copy of their
folder. Whoever stores a counter, or takes it from the clock, meets one of these.
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.device import join, spy
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

from gateway.keys.key_files import ensure_sealing_file, rotate_sealing

# As the gateway puts them together; it seals until it is killed, or `sys.argv[2]` messages.
SEALING = """
import os, sys, time
from pathlib import Path
from gateway.keys.payload_envelope import Sealer
from gateway.keys.key_ring import KeyRing, Nonces
from gateway.keys.key_files import read_sealing_file
ring = KeyRing(read_sealing_file(Path(sys.argv[1]), None), Nonces(os.urandom), {})
sealer = Sealer(ring, lambda: time.time_ns() // 1_000_000, topic="t", sender="s")
for _ in range(int(sys.argv[2])):
    print(sealer.seal(b"4711").decode(), flush=True)
"""


def used(envelope: str | bytes) -> tuple[str, bytes]:
    """The key and the nonce of a sealed message."""
    found = json.loads(envelope)
    return found["key_id"], base64.b64decode(found["data"])[:12]


def sealing(key_file: Path, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SEALING, key_file, str(count)], stdout=subprocess.PIPE)


def whole(lines: bytes) -> list[bytes]:
    return lines.split(b"\n")[:-1]


def test_processes_that_seal_at_once_and_are_killed_and_started_again(tmp_path: Path) -> None:
    key_file = tmp_path / "encryption.key"
    ensure_sealing_file(key_file, None)
    seen: Counter[tuple[str, bytes]] = Counter()
    starts = 0
    for end in (None, signal.SIGKILL, signal.SIGTERM):
        running = [sealing(key_file, 500 if end is None else 10**9) for _ in range(4)]
        starts += len(running)
        for process in running:
            assert process.stdout is not None
            lines = []
            if end is not None:
                lines = [process.stdout.readline().rstrip(b"\n") for _ in range(100)]
                process.send_signal(end)
            lines += whole(process.communicate()[0])
            assert len(lines) >= (500 if end is None else 100)
            seen.update(used(line) for line in lines)
    assert seen.most_common(1)[0][1] == 1
    assert {key_id for key_id, _ in seen} == {"k1"}
    # Each process has a field of its own, so that nothing they do later can meet either.
    assert len({nonce[:8] for _, nonce in seen}) == starts


def test_a_key_that_was_replaced_and_brought_back_from_an_old_copy(tmp_path: Path) -> None:
    key_file, copy = tmp_path / "encryption.key", tmp_path / "copy"
    ensure_sealing_file(key_file, None)
    shutil.copy2(key_file, copy)
    seen: Counter[tuple[str, bytes]] = Counter()
    for _ in range(3):
        seen.update(used(line) for line in whole(sealing(key_file, 200).communicate()[0]))
        rotate_sealing(key_file, None)
        seen.update(used(line) for line in whole(sealing(key_file, 200).communicate()[0]))
        shutil.copy2(copy, key_file)
    assert seen.most_common(1)[0][1] == 1
    assert Counter(key_id for key_id, _ in seen)["k1"] == 600


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[tuple[Mosquitto, list[Gateway]]]:
    """Two gateways that share a bus and, by a copied folder, the key, the store and every count in it."""
    bus = Mosquitto(tmp_path / "bus").start()
    first = Gateway(tmp_path / "first", bus.port)
    first.start()
    enrol(first, lamp_1="sensor")
    first.stop()
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    second = Gateway(tmp_path / "second", bus.port)
    second.secrets = first.secrets
    try:
        yield bus, [first, second]
    finally:
        first.kill()
        second.kill()
        bus.kill()


def test_gateways_that_are_killed_and_started_again_from_their_old_folder(
    twins: tuple[Mosquitto, list[Gateway]], tmp_path: Path
) -> None:
    bus, gateways = twins
    data = Path(gateways[0].env["GATEWAY_DATA_DIR"])
    shutil.copytree(data, tmp_path / "old")
    seen: Counter[tuple[str, bytes]] = Counter()
    with spy(bus.port) as listener:
        for _ in range(3):
            for gateway in gateways:
                gateway.start()
            for gateway in gateways:
                with join(gateway, "lamp-1", v5=True) as lamp:
                    for number in range(50):
                        assert not lamp.publish("devices/lamp-1/private/pin", b"%d" % number, qos=1)
                gateway.kill()
            # A snapshot of the disk brings back what was counted, and the key.
            shutil.rmtree(data)
            shutil.copytree(tmp_path / "old", data)
        for _ in range(300):
            seen[used(listener.message().payload)] += 1
    assert seen.most_common(1)[0][1] == 1
    assert {key_id for key_id, _ in seen} == {"k1"}
    assert len({nonce[:8] for _, nonce in seen}) == 6
