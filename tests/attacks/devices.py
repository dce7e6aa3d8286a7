"""What one device does that has a secret and many connections: more work than one device is due."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import time
from collections.abc import Callable

from harness import raw
from harness.device import SESSION_FOREVER

from attacks.pouring import Stream, pour
from attacks.target import Progress, Target, many_files, paced, shut

MIB = 1 << 20


def _encrypt(target: Target, message: object) -> bytes:
    topic = f"devices/{target.device}/private/x"
    return raw.publish("gateway/encrypt", json.dumps({"topic": topic, "message": message}).encode())


def _user_properties(count: int) -> bytes:
    return (b"\x26" + raw.text("k") + raw.text("v" * 20)) * count


# What is sent over and over: by name, the packets of one round. For 3.1.1, but for what has properties.
PACKETS: dict[str, Callable[[Target], list[bytes]]] = {
    "refused": lambda _: [raw.publish("elsewhere", b"x")] * 3_000,
    "refused, new topics": lambda _: [raw.publish(f"elsewhere/{number}") for number in range(20_000)],
    "refused, deep topics": lambda _: [raw.publish("a/" * 200 + str(number)) for number in range(2_000)],
    "refused, to be answered": lambda _: [
        raw.publish("elsewhere", b"x", qos=1, packet_id=number) for number in range(1, 3_000)
    ],
    "sealed": lambda one: [raw.publish(f"devices/{one.device}/private/x", b"x" * 64)] * 1_000,
    "sealed, 64 KiB": lambda one: [raw.publish(f"devices/{one.device}/private/x", bytes(65_536))] * 20,
    "sealed, 16 MiB": lambda one: [raw.publish(f"devices/{one.device}/private/x", bytes(11 * MIB))],
    "allowed": lambda one: [raw.publish(f"devices/{one.device}/telemetry", b"x" * 64)] * 3_000,
    "allowed, 16 MiB": lambda one: [raw.publish(f"devices/{one.device}/telemetry", bytes(16 * MIB - 1_000))],
    "acknowledgements": lambda _: [raw.ack(0x40, 1)] * 50_000,
    "acknowledgements of QoS 2": lambda _: [raw.ack(kind, 1) for kind in (0x50, 0x62, 0x70)] * 5_000,
    "QoS 2": lambda one: list(
        itertools.chain.from_iterable(
            (
                raw.publish(f"devices/{one.device}/telemetry", b"x", qos=2, packet_id=number),
                raw.ack(0x62, number),
            )
            for number in range(1, 1_000)
        )
    ),
    "QoS 2, refused": lambda _: list(
        itertools.chain.from_iterable(
            (raw.publish("elsewhere", b"x", qos=2, packet_id=number), raw.ack(0x62, number))
            for number in range(1, 1_000)
        )
    ),
    "subscribe": lambda _: [
        raw.subscribe(number, *[(f"elsewhere/{one}", 0) for one in range(50)]) for number in range(1, 100)
    ],
    "subscribe, unsubscribe": lambda one: list(
        itertools.chain.from_iterable(
            (
                raw.subscribe(number, (f"devices/{one.device}/commands/{number}", 1)),
                raw.unsubscribe(number, f"devices/{one.device}/commands/{number}"),
            )
            for number in range(1, 2_000)
        )
    ),
    "pings": lambda _: [raw.PINGREQ] * 20_000,
    "service calls": lambda one: [_encrypt(one, {"n": 1})] * 500,
    "service calls, 16 MiB": lambda one: [_encrypt(one, "x" * (16 * MIB - 1_000))],
    "service calls, 16 MiB of members": lambda one: [_encrypt(one, {str(n): n for n in range(MIB)})],
    "service calls, nested": lambda one: [
        raw.publish("gateway/encrypt", b'{"topic": "x", "message": ' + b"[" * MIB + b"]" * MIB + b"}")
    ],
    "foreign tokens to validate": lambda _: [
        raw.publish("gateway/validate", json.dumps({"token": f"a.b{number}.c"}).encode())
        for number in range(2_000)
    ],
    "calls for a token": lambda _: [raw.publish("gateway/auth", b"{}")] * 1_000,
    "user properties": lambda _: [raw.publish("elsewhere", v5=True, props=_user_properties(2_000))] * 50,
    "topic aliases": lambda _: [
        raw.publish(f"elsewhere/{number}", v5=True, props=b"\x23" + (number % 9 + 1).to_bytes(2, "big"))
        for number in range(5_000)
    ],
    "a long topic by its alias": lambda _: [
        raw.publish("elsewhere/" + "t" * 60_000, v5=True, props=b"\x23\0\x01"),
        *[raw.publish("", v5=True, props=b"\x23\0\x01")] * 5_000,
    ],
}
_V5 = ("user properties", "topic aliases", "a long topic by its alias")


def flood(
    target: Target,
    progress: Progress,
    *,
    packets: str,
    connections: int = 20,
    each: bool = False,
    reads: bool = True,
) -> None:
    """The same packets over all connections; `each` in a record of its own, or many in one."""
    made, v5 = PACKETS[packets](target), packets in _V5
    parts = made if each else [b"".join(made)]
    tls = target.tls()
    streams = [Stream(target.join(tls, f"flood-{number}", v5=v5), parts) for number in range(connections)]
    progress.add(links=len(streams))
    progress.begin()
    pour(target, progress, streams, reads=reads)


def _idle(target: Target) -> None:
    while target.lasts():
        time.sleep(0.1)


def partial(target: Target, progress: Progress, *, connections: int, size: int) -> None:
    """Packets that lack their last byte, on each connection."""
    tls = target.tls()
    packet = raw.publish(f"devices/{target.device}/telemetry", bytes(size))[:-1]

    def one(number: int) -> Stream:
        return Stream(target.join(tls, f"partial-{number}"), [packet], again=False)

    numbers = itertools.count(connections)
    streams = [one(number) for number in range(connections)]
    progress.add(links=len(streams))
    progress.begin()
    pour(target, progress, streams, open_again=lambda: one(next(numbers)))


def retained(target: Target, progress: Progress, *, connections: int, size: int) -> None:
    """A retained message on one new topic after the other."""
    packets = [
        raw.publish(
            f"{target.device}/{number}", bytes(size), retain=True, qos=1, packet_id=1 + number % 60_000
        )
        for number in range(24_000)
    ]
    tls, share = target.tls(), len(packets) // connections
    streams = [
        Stream(
            target.join(tls, f"retained-{number}"), [b"".join(packets[share * number : share * (number + 1)])]
        )
        for number in range(connections)
    ]
    progress.add(links=len(streams))
    progress.begin()
    pour(target, progress, streams)


def absent(target: Target, progress: Progress, *, rate: float, v5: bool) -> None:
    """Sessions that outlive their connection, each with filters; then nobody comes back."""
    tls = target.tls()
    filters = [(f"devices/{target.device}/commands/{number}", 1) for number in range(40)]
    progress.begin()
    for number in paced(rate, target):
        with contextlib.suppress(OSError):
            words = {"props": SESSION_FOREVER} if v5 else {}
            link = target.join(tls, f"absent-{number}", v5=v5, clean=False, **words)
            link.sendall(raw.subscribe(1, *filters, v5=v5) + raw.DISCONNECT)
            link.recv(1024)
            link.close()
            progress.add(links=1, sent=len(filters) * 40)


def resubscribed(target: Target, progress: Progress, *, rate: float) -> None:
    """One session, which subscribes to other filters after each of its reconnects."""
    tls = target.tls()
    progress.begin()
    for number in paced(rate, target):
        with contextlib.suppress(OSError):
            link = target.join(tls, "again", clean=False)
            names = [f"devices/{target.device}/commands/{number}/{one}" for one in range(200)]
            link.sendall(raw.subscribe(1, *((name, 1) for name in names)))
            link.recv(1024)
            link.close()
            progress.add(links=1, sent=len(names) * 40)


def storm(target: Target, progress: Progress, *, rate: float, orderly: bool) -> None:
    """In and out again, with the right secret."""
    tls = target.tls()
    progress.begin()
    for number in paced(rate, target):
        with contextlib.suppress(OSError):
            link = target.open_tls(tls)
            link.sendall(target.login(f"storm-{number % 40}"))
            if orderly:
                link.recv(1024)
                link.sendall(raw.DISCONNECT)
            link.close()
            progress.add(links=1)


def fan_out(
    target: Target,
    progress: Progress,
    *,
    connections: int,
    filters: int,
    size: int,
    reads: bool,
    qos: int = 0,
    v5: bool = False,
) -> None:
    """Wide subscriptions on each connection, of which each of the device's own messages comes back.

    With a `qos` above 0 one message in ten has it, and is never acknowledged.
    """
    tls = target.tls()
    levels = [f"{target.device}/+/{number}" for number in range(filters - 1)]
    wanted = [(name, qos) for name in ("#", *levels)]
    listeners: list[ssl.SSLSocket] = []
    for number in range(connections):
        words = {"props": b"\x21\xff\xff"} if v5 else {}  # Receive Maximum
        link = target.join(tls, f"ear-{number}", v5=v5, **words)
        if not reads:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        for at in range(0, len(wanted), 100):
            link.sendall(raw.subscribe(1 + at, *wanted[at : at + 100], v5=v5))
        listeners.append(link)
    speaker = target.join(tls, "mouth")
    progress.add(links=connections + 1)
    progress.begin()
    topic, many = f"{target.device}/a/1", max(1, 60_000 // size)
    parts = [raw.publish(topic, bytes(size)) * many]
    if qos:
        parts = [
            raw.publish(topic, bytes(size), qos=qos, packet_id=number) + parts[0] * 10
            for number in range(1, 1_000)
        ]
    streams = [Stream(speaker, parts)]
    if reads:
        streams += [Stream(link, [], again=False) for link in listeners]
    pour(target, progress, streams)
    shut(*listeners)


def sip(target: Target, progress: Progress, *, connections: int, size: int) -> None:
    """Wide subscriptions whose deliveries are read some bytes a second."""
    tls = target.tls()
    ears = [target.join(tls, f"ear-{number}") for number in range(connections)]
    for link in ears:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        link.sendall(raw.subscribe(1, ("#", 0)))
        link.setblocking(False)
    speaker = Stream(target.join(tls, "mouth"), [raw.publish(f"{target.device}/a/1", bytes(size)) * 6])
    progress.add(links=connections + 1)
    progress.begin()
    sipped = time.monotonic()
    while target.lasts():
        try:
            sent = speaker.push(8)
        except OSError:
            break
        progress.add(sent=sent)
        if time.monotonic() - sipped > 0.5:
            sipped = time.monotonic()
            for link in ears:
                with contextlib.suppress(OSError):
                    link.recv(100)
        if not sent:
            time.sleep(0.002)
    shut(*ears)


def idle(target: Target, progress: Progress) -> None:
    """No attack: what the figures are without."""
    progress.begin()
    _idle(target)


def crowd(target: Target, progress: Progress, *, connections: int) -> None:
    """As many connections as it gets, all silent."""
    many_files()
    tls = target.tls()
    links: list[ssl.SSLSocket] = []
    progress.begin()
    for number in range(connections):
        if not target.lasts():
            break
        with contextlib.suppress(OSError):
            links.append(target.join(tls, f"crowd-{number}"))
            progress.add(links=1)
    _idle(target)
