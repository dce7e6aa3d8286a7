"""The gateway's reading of packets against a real Mosquitto's, with a deny in force and an ear on the bus.

The same bytes go through the gateway and to a Mosquitto of their own. Whatever they are, nothing on a denied
topic comes to the bus or to the device, nothing sensitive in plain; and what the gateway lets pass is on the
bus what Mosquitto reads in the bytes as they are: topic, QoS, retain, properties, payload.

    FUZZ_SECONDS=3600 FUZZ_SEED=mine pytest tests/fuzz/test_differential_packets.py -s --timeout=0
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness import raw, reference_parser
from harness.device import join
from harness.differential_fuzz import (
    DEVICE,
    ENCRYPTION,
    FROM_THE_BUS,
    LIMITS,
    ROLE,
    SENSITIVE,
    TOPICS,
    Ear,
    Exchange,
    Fuzzer,
    Read,
    Sequence,
    allowed,
    read_by_itself,
    send,
)
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

from gateway.keys.key_files import read_sealing_file
from gateway.keys.key_ring import KeyRing, Nonces
from gateway.keys.payload_envelope import OpenFailed, open_envelope, read_envelope

SECONDS = float(os.environ.get("FUZZ_SECONDS", "6"))
"""For the packets; the policy is swapped for half as long."""
SEED = os.environ.get("FUZZ_SEED", "a seed")
_BATCH = 32
_AT_ONCE = 8
_MARK = 12
"""So many bytes of a payload tell it from all others."""
_BUS = "max_queued_messages 0\nmax_inflight_messages 0\n"


@dataclass
class House:
    bus: Mosquitto
    alone: Mosquitto
    gateway: Gateway
    ring: KeyRing


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("differential")
    with contextlib.ExitStack() as stack:
        bus, alone = (Mosquitto(folder / name, settings=_BUS).start() for name in ("bus", "alone"))
        gateway = Gateway(folder / "gateway", bus.port, LOG_LEVEL="warning")
        for one in (gateway, bus, alone):
            stack.callback(one.kill)
        gateway.write_policy("roles/fuzz.toml", ROLE.format(more=""))
        gateway.write_policy("encryption.toml", ENCRYPTION)
        gateway.write_policy("limits.toml", LIMITS)
        (gateway.acl / "cases.toml").unlink()
        (gateway.acl / "invariants.toml").unlink(missing_ok=True)
        gateway.start()
        enrol(gateway, **{DEVICE: "fuzz"})
        join(gateway, DEVICE).close()  # from now on its secret is remembered
        keys = read_sealing_file(Path(gateway.env["GATEWAY_DATA_DIR"]) / "keys" / "encryption.key", None)
        yield House(bus, alone, gateway, KeyRing(keys, Nonces(secrets.token_bytes), {}))
        faults = [line for line in gateway.log_lines() if line["event"] == "internal error"]
        assert faults == []


@dataclass
class Comparison:
    """Holds what came against what may come."""

    house: House
    known: list[Counter[Read]] = field(default_factory=list)
    """What Mosquitto read in the bytes as they are, and what stands in them, of the last batches."""
    passed: int = 0
    denied: int = 0
    delivered: int = 0

    def opened(self, read: Read) -> Read:
        """A message on the bus, as it was before it was sealed."""
        if not read.topic.startswith(SENSITIVE) or (read.retain and not read.payload):
            return read
        try:
            envelope = read_envelope(read.payload, topic=read.topic)
            assert envelope.sender == DEVICE, f"sealed in another's name: {read}"
            return read._replace(payload=open_envelope(self.house.ring, envelope))
        except OpenFailed:
            raise AssertionError(f"not sealed, and on the bus: {read}") from None

    def on_the_bus(self, heard: list[Read], sent: list[Sequence]) -> Counter[Read]:
        found: Counter[Read] = Counter()
        for one in map(self.opened, heard):
            fine = allowed(one.topic, qos=one.qos, retain=one.retain, size=len(one.payload))
            assert fine, f"denied, and on the bus: {one} {origin(one, sent)}"
            found[one] += 1
        for one, count in found.items():
            known = sum(batch[one] for batch in self.known)
            assert count <= known, f"nobody else reads this there: {one} {origin(one, sent)}"
        self.passed += found.total()
        return found

    def at_the_device(self, sequence: Sequence, got: list[bytes]) -> None:
        peer = reference_parser.Peer(v5=sequence.v5)
        for packet in got:
            for one in peer.feed(packet):
                if one.kind != reference_parser.PUBLISH or one.topic.startswith("gateway/"):
                    continue  # what stands there is an answer of the gateway's own
                fine = allowed(one.topic) and one.topic.split("/")[0] != "low"
                assert fine, f"denied, and delivered: {one} in {described(sequence)}"
                if one.topic.startswith(SENSITIVE):
                    assert FROM_THE_BUS not in one.payload, f"unsealed, and delivered: {one}"
                self.delivered += 1


def origin(read: Read, sent: list[Sequence]) -> str:
    mark = read.payload or read.topic.encode()
    return "from " + " or ".join(described(one) for one in sent if mark in one.connect + one.rest)


def described(sequence: Sequence) -> str:
    return f"sequence {sequence.number} of seed {SEED!r}: {sequence.rest.hex(' ')}"


def test_nothing_denied_passes_and_what_passes_is_what_mosquitto_reads(house: House) -> None:
    gateway, comparison = house.gateway, Comparison(house)
    fuzzer, tls = Fuzzer(SEED, gateway.secrets[DEVICE]), gateway.tls()
    behind, beside = Ear(house.bus.port), Ear(house.alone.port)
    number = packets = answered = 0
    begin = time.monotonic()
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while time.monotonic() - begin < SECONDS:
                batch = [fuzzer.sequence(number + place) for place in range(_BATCH)]
                number += _BATCH
                direct = list(pool.map(lambda one: send(one, house.alone.port, None, 0), batch))
                running = [pool.submit(send, one, gateway.port, tls, 0.3) for one in batch]
                while not all(one.done() for one in running):
                    behind.say(*TOPICS)
                    time.sleep(0.01)
                through: list[Exchange] = [one.result() for one in running]
                assert len(direct) == len(through)
                comparison.known = [*comparison.known[-3:], read_in(batch, beside)]
                found = comparison.on_the_bus([read for _, read in behind.all_so_far()], batch)
                for sequence, exchange, alone in zip(batch, through, direct, strict=True):
                    if sequence.lawful and exchange.packets[:1] != [b""] and exchange.packets[0][3] == 0:
                        assert alone.ended or not exchange.ended, f"ended in {described(sequence)}"
                    comparison.at_the_device(sequence, exchange.packets)
                    packets += sequence.packets
                    answered += exchange.answered
                    if sequence.lawful and exchange.answered:
                        for one in sequence.expected:
                            due = allowed(one.topic, qos=one.qos, retain=one.retain, size=len(one.payload))
                            comparison.denied += not due
                            assert not due or not one.payload or found[one], (
                                f"allowed, and not on the bus: {one} in {described(sequence)}"
                            )
    finally:
        behind.close()
        beside.close()
        seconds = time.monotonic() - begin
        print(  # noqa: T201 - the seed belongs to the result
            f"\nseed {SEED!r}: {number} sequences, {packets} packets, {packets / seconds:.0f} a second; "
            f"{answered} answered to the end, {comparison.passed} messages on the bus, "
            f"{comparison.denied} known to be denied, {comparison.delivered} delivered"
        )
    assert min(comparison.passed, comparison.denied, comparison.delivered, answered) > 0, "it tried nothing"


def read_in(batch: list[Sequence], beside: Ear) -> Counter[Read]:
    """What Mosquitto reads in the bytes, and what a parser does.

    Mosquitto alone is not enough: what the gateway left out may be what Mosquitto ends the connection for, or
    may hold the packet identifier of a message behind it; and after a second CONNECT it forgets the will.
    """
    known = Counter(read for _, read in beside.all_so_far())
    for sequence in batch:
        known |= read_by_itself(sequence)
    return known


@dataclass
class Swap:
    """A policy: written, seen to be in force, and replaced (monotonic seconds)."""

    flipped: bool
    written: float
    in_force: float = 0.0
    replaced: float = 0.0


def test_after_a_swap_nothing_passes_that_it_denies(house: House) -> None:
    """Random sequences all the while; a second after a policy is in force nothing counts but that."""
    gateway, tls = house.gateway, house.gateway.tls()
    fuzzer = Fuzzer(f"{SEED}, swapped", gateway.secrets[DEVICE])
    ear = Ear(house.bus.port)
    over = threading.Event()
    sent: dict[bytes, float] = {}
    delivered: list[float] = []
    packets = [0]

    def stream() -> None:
        """One connection that lives through all swaps: each message has its number and its time."""
        with join(gateway, DEVICE, "stream", v5=True) as link:
            while not over.is_set():
                payload = b"s%011d" % len(sent)
                sent[payload] = time.monotonic()
                link.send(raw.publish("flip/a", payload, v5=True), raw.publish("ok/a", payload, v5=True))
                time.sleep(0.002)
                packets[0] += 2

    def hear() -> None:
        """One that asks to hear it again and again, beside somebody who says it on the bus all the time."""
        with join(gateway, DEVICE, "hearer") as link:
            while not over.is_set():
                link.send(raw.subscribe(1, ("flip/#", 0)))
                ear.say("flip/a")
                with contextlib.suppress(TimeoutError):
                    while packet := link.read(0.02):
                        if packet[0] >> 4 == reference_parser.PUBLISH:
                            delivered.append(time.monotonic())

    def fuzz(number: int) -> None:
        while not over.is_set():
            sequence = fuzzer.sequence(number)
            number += 1
            packets[0] += sequence.packets
            began = time.monotonic()
            sent.update((one.payload[:_MARK], began) for one in sequence.expected)
            send(sequence, gateway.port, tls, 0.3)

    swaps: list[Swap] = []
    working = [
        threading.Thread(target=stream, daemon=True),
        threading.Thread(target=hear, daemon=True),
        *(threading.Thread(target=fuzz, args=(number * 400_000,), daemon=True) for number in range(2)),
    ]
    for one in working:
        one.start()
    try:
        end = time.monotonic() + SECONDS / 2
        while time.monotonic() < end or len(swaps) < 3:
            swaps.append(swap(gateway, flipped=len(swaps) % 2 == 0))
            time.sleep(1.3)
            swaps[-1].replaced = time.monotonic()
    finally:
        over.set()
        for one in working:
            one.join(30)
        swap(gateway, flipped=False)
    heard = [(at, read) for at, read in ear.all_so_far() if read.topic.startswith("flip/")]
    ear.close()
    # By when it was sent, where that is known: the bus may be slow on a busy machine.
    said = [min(at, sent.get(read.payload[:_MARK], at)) for at, read in heard]
    late = [
        at
        for at in (*said, *delivered)
        for one in swaps
        if not one.flipped and one.in_force + 1 < at < one.replaced
    ]
    print(  # noqa: T201 - as above
        f"\nseed {SEED!r}: {len(swaps)} swaps under {packets[0]} packets, {len(heard)} passed and "
        f"{len(delivered)} came while allowed"
    )
    assert late == [], f"seed {SEED!r}"
    assert heard, "it was never allowed"
    assert delivered, "it was never heard"


def swap(gateway: Gateway, *, flipped: bool) -> Swap:
    """Put a policy in force: a connection of its own says when it is."""
    more = ', "flip/#"' if flipped else ""
    one = Swap(flipped, time.monotonic())
    gateway.write_policy("roles/fuzz.toml", ROLE.format(more=more))
    with join(gateway, DEVICE, "probe", v5=True) as probe:
        deadline = time.monotonic() + 10
        while (probe.publish("flip/probe") == 0) != flipped:
            assert time.monotonic() < deadline, "the policy does not take effect"
            time.sleep(0.02)
    one.in_force = time.monotonic()
    return one
