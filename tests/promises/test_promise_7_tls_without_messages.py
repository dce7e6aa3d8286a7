"""Promise 7: TLS records that carry no message. A peer pays for its records with data, or it is out.

One stranger that sent KeyUpdates, 0.8 MB a second, kept honest devices waiting for ten seconds: no limit of
MQTT sees a record that yields nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from harness import raw
from harness.crafted_tls_records import Records
from harness.device import join
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

AT_MOST = 2.0
"""For the answer to an honest message, in seconds, on two shared cores."""
OUT_WITHIN = 5.0
"""Seconds until whoever floods is out."""


@pytest.fixture(scope="module")
def house(world: tuple[Mosquitto, Gateway]) -> Gateway:
    gateway = world[1]
    gateway.add_device("good", "full")
    gateway.add_device("bad", "sensor")
    return gateway


@contextmanager
def honest(gateway: Gateway) -> Iterator[None]:
    """A good device says something again and again, and is answered in time."""
    took: list[float] = []
    begun, over = threading.Event(), threading.Event()

    def ping() -> None:
        with join(gateway, "good", "pinging", v5=True) as one:
            while not over.is_set():
                begin = time.monotonic()
                one.publish("good/x", b"ping")
                took.append(time.monotonic() - begin)
                begun.set()
                time.sleep(0.01)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        assert begun.wait(20)
        yield
    finally:
        over.set()
        thread.join(60)
    assert took
    assert max(took) < AT_MOST


def key_updates(peer: Records) -> list[bytes]:
    return [peer.client.key_update() for _ in range(8_000)]


def empty_records(peer: Records) -> list[bytes]:
    return [peer.client.record(b"") for _ in range(8_000)]


def padding(peer: Records) -> list[bytes]:
    return [peer.client.record(b"", padding=16_000) for _ in range(100)]


def are_out(floods: list[tuple[Records, bytes]], gateway: Gateway) -> None:
    with honest(gateway):
        for peer, records in floods:
            with contextlib.suppress(OSError):
                peer.socket.sendall(records)
        assert all(peer.ended(OUT_WITHIN) for peer, _ in floods)


@pytest.mark.parametrize("flood", [key_updates, empty_records, padding])
@pytest.mark.parametrize("port", ["devices", "API"])
def test_a_stranger_that_sends_records_without_data_is_out(
    house: Gateway, port: str, flood: Callable[[Records], list[bytes]]
) -> None:
    number = house.port if port == "devices" else house.http_port
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Records(number, house.tls())) for _ in range(3)]
        are_out([(peer, b"".join(flood(peer))) for peer in peers], house)


@pytest.mark.parametrize("flood", [key_updates, empty_records, padding])
def test_a_device_that_sends_records_without_data_is_out_and_told_of(
    house: Gateway, flood: Callable[[Records], list[bytes]]
) -> None:
    seen = len(house.log_lines())
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Records(house.port, house.tls())) for _ in range(5)]
        for number, peer in enumerate(peers):
            connect = raw.connect(f"bad-{number}", username="bad", password=house.secrets["bad"])
            peer.send(peer.client.record(connect))
            assert peer.read() == b"\x20\x02\x00\x00"
        are_out([(peer, b"".join(flood(peer))) for peer in peers], house)
    told = [line for line in house.log_lines()[seen:] if line["event"] == "audit" and line["device"] == "bad"]
    assert any("TLS" in str(line["reason"]) for line in told)


def test_after_a_refusal_nothing_more_is_undone(house: Gateway) -> None:
    """The CONNACK arrives, and what the peer goes on sending is dropped as it came."""
    with Records(house.port, house.tls()) as peer, honest(house):
        peer.send(peer.client.record(raw.connect("c", username="bad", password="wrong")))
        assert peer.read()[3] == 5
        with contextlib.suppress(OSError):
            for _ in range(50):
                peer.send(*[peer.client.record(bytes(1_000)) for _ in range(100)])
        assert peer.ended(OUT_WITHIN)


def test_a_device_that_sends_short_records_is_served(house: Gateway) -> None:
    """One byte a record is odd, not hostile: what it says arrives."""
    with Records(house.port, house.tls()) as peer:
        connect = raw.connect("odd", username="bad", password=house.secrets["bad"])
        peer.send(*[peer.client.record(connect[at : at + 1]) for at in range(len(connect))])
        assert peer.read() == b"\x20\x02\x00\x00"
        message = raw.publish("devices/bad/telemetry", b"x" * 50, qos=1, packet_id=7)
        for _ in range(20):
            peer.send(*[peer.client.record(message[at : at + 1]) for at in range(len(message))])
            assert peer.read() == raw.ack(0x40, 7)
