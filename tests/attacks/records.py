"""TLS records that carry nothing, or next to nothing, at each stage of a connection (docs/adr/0012)."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable

from harness import raw
from harness.crafted_tls_records import Client, Records

from attacks.pouring import Stream, pour
from attacks.target import Progress, Target

# By name, so many records of a kind.
KINDS: dict[str, Callable[[Client, int], list[bytes]]] = {
    "KeyUpdates": lambda client, count: [client.key_update() for _ in range(count)],
    "KeyUpdates that ask for one": lambda client, count: [client.key_update(asks=True) for _ in range(count)],
    "one-byte records": lambda client, count: [
        client.record(raw.PINGREQ[at % 2 : at % 2 + 1]) for at in range(2 * count)
    ],
    "empty records": lambda client, count: [client.record(b"") for _ in range(2 * count)],
    "padding": lambda client, count: [client.record(b"", padding=16_000) for _ in range(count // 20)],
    "one byte and padding": lambda client, count: [
        client.record(raw.PINGREQ[at % 2 : at % 2 + 1], padding=16_000) for at in range(count // 20)
    ],
    "data and KeyUpdates": lambda client, count: [
        client.key_update() if at % 16 else client.record(raw.PINGREQ * 30) for at in range(count)
    ],
}
STAGES = ("before CONNECT", "after a refused CONNECT", "after login", "after DISCONNECT", "after bulk data")


def flood(
    target: Target,
    progress: Progress,
    *,
    kind: str,
    stage: str,
    connections: int = 1,
    port: str = "devices",
) -> None:
    """All connections at once; each that is ended is followed by another."""
    assert stage in STAGES
    numbers, count = itertools.count(), max(400, 8_000 // connections)

    def one() -> Stream:
        peer = Records(target.address(port)[1], target.tls())
        return _prepared(target, peer, kind, stage, next(numbers), count)

    streams = [one() for _ in range(connections)]
    progress.add(links=len(streams))
    progress.begin()
    pour(target, progress, streams, open_again=one)


def _prepared(target: Target, peer: Records, kind: str, stage: str, number: int, count: int) -> Stream:
    """Its handshake is done and the stage reached; the records are made but not sent."""
    client = peer.client
    if stage == "after a refused CONNECT":
        peer.send(client.record(raw.connect("c", username=target.device, password="wrong")))
    elif stage != "before CONNECT":
        peer.send(client.record(target.login(f"records-{number}")))
        with contextlib.suppress(OSError):
            peer.read()
    if stage == "after DISCONNECT":
        peer.send(client.record(raw.DISCONNECT))
    elif stage == "after bulk data":
        packet = raw.publish(f"devices/{target.device}/telemetry", bytes(15_000))
        peer.send(*(client.record(packet) for _ in range(100)))
        time.sleep(0.05)
    return Stream(peer.socket, [b"".join(KINDS[kind](client, count))], again=False)
