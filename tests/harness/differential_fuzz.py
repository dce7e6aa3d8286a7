"""Random packet sequences, sent through the gateway and to a Mosquitto, and what was read in them.

Owns the sequences (each comes from the seed and its number alone), the policy under which they are sent, said
once more in a few lines, and the ears on both buses. What must hold of it is said by the test.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from harness import raw, reference_parser
from harness.device import OWN_CHECKS, Device, message_of

DEVICE = "fuzz"
FROM_THE_BUS = b"said-on-the-bus:"
"""Every payload of the talker on the bus begins so."""
_OWN_CHECKS = f"{OWN_CHECKS.decode()}{socket.gethostname()}"
"""Where the gateway asks whether the bus serves: that and nothing near it."""
SENSITIVE = "private/"
ROLE = """description = "Some of everything."
[[allow]]
actions = ["publish", "subscribe"]
topics = ["ok/#", "private/#"{more}]
[[allow]]
actions = ["publish"]
topics = ["low/+"]
max_qos = 1
retain = false
max_payload = 16
[[deny]]
actions = ["publish", "subscribe"]
topics = ["ok/no/#", "private/no/#"]
"""
ENCRYPTION = '[[sensitive]]\ntopics = ["private/#"]\n'
# One peer sends what many do: what is refused, odd or new must not run into a bound.
LIMITS = """connects_per_minute = 1_000_000
login_failures_per_minute = 1_000_000
login_failures_per_minute_address = 1_000_000
"""

TOPICS = (
    *("ok", "ok/a", "ok/b", "ok/a/b", "ok/é", "ok//", "ok/" + "x" * 1100, "ok/nothing"),
    *("private/a", "private/b", "low/a", "low/b"),
    *("ok/no", "ok/no/a", "ok/no/a/b", "private/no/a", "low", "low/a/b", "flip/a"),
    *("other", "Ok/a", "/ok/a", "gatewayX/a", "gateway/x", "gateway/validate", "$fuzz/a", "okay"),
)
ODD_TOPICS = (b"", b"ok/+", b"ok/#", b"ok/\0", b"ok/\xff", b"ok/\xed\xa0\x80", b"/" * 300)
FILTERS = ("ok/#", "ok/+", "ok/a", "#", "+/a", "private/#", "ok/no/#", "$share/g/ok/a", "flip/#", "other")


def allowed(topic: str, *, qos: int = 0, retain: bool = False, size: int = 0, flipped: bool = False) -> bool:
    """What `ROLE` lets the device publish; with the defaults also what it may be delivered, but for `low`."""
    levels = topic.split("/")
    if levels[0] == "low":
        return len(levels) == 2 and qos < 2 and not retain and size <= 16
    if levels[0] == "flip":
        return flipped
    return levels[0] in {"ok", "private"} and levels[1:2] != ["no"] and len(levels) <= 201


class Read(NamedTuple):
    """A PUBLISH as somebody read it."""

    topic: str
    qos: int
    retain: bool
    payload: bytes
    properties: bytes


class Ear(threading.Thread):
    """Hears everything on a bus, as it was published: with its QoS and its retain flag."""

    _AS_PUBLISHED = 2 | 0x08 | 0x20
    _ASIDE = "aside/"

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._link = Device(port, v5=True)
        assert self._link.connect(client_id="ear")[3] == 0
        self._link.send(raw.subscribe(1, *((one, self._AS_PUBLISHED) for one in ("#", "$fuzz/#")), v5=True))
        assert self._link.read()[-2:] == b"\2\2"
        self._talker = Device(port, v5=True)
        assert self._talker.connect(client_id="talker")[3] == 0
        self._heard: list[tuple[float, Read]] = []
        self._mark = 0
        self._marked = threading.Condition()
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            while packet := self._link.read(3600):
                self._take(packet)

    def _take(self, packet: bytes) -> None:
        if packet[0] >> 4 == reference_parser.PUBREL:
            self._link.send(raw.ack(0x70, int.from_bytes(packet[2:4], "big")))
        if packet[0] >> 4 != reference_parser.PUBLISH:
            return
        one = message_of(packet, v5=True)
        if one.qos:
            self._link.send(raw.ack(0x40 if one.qos == 1 else 0x50, one.packet_id))
        if one.topic.startswith(self._ASIDE):
            with self._marked:
                self._mark = int(one.payload)
                self._marked.notify_all()
        elif one.topic != _OWN_CHECKS and not one.payload.startswith(FROM_THE_BUS):
            read = Read(one.topic, one.qos, one.retain, one.payload, one.properties)
            self._heard.append((time.monotonic(), read))

    def say(self, *topics: str) -> None:
        """Publish on these, straight on the bus."""
        self._talker.send(*(raw.publish(one, FROM_THE_BUS + one.encode(), v5=True) for one in topics))

    def all_so_far(self) -> list[tuple[float, Read]]:
        """What it heard since this was last asked, and when; all that the bus took until now is in it."""
        mark = self._mark + 1
        self._talker.send(raw.publish(self._ASIDE, str(mark).encode(), v5=True))
        with self._marked:
            assert self._marked.wait_for(lambda: self._mark == mark, 20), "the bus does not answer"
        heard, self._heard = self._heard, []
        return heard

    def close(self) -> None:
        for link in (self._talker, self._link):
            with contextlib.suppress(OSError):
                link._socket.shutdown(socket.SHUT_RDWR)
            link.close()
        self.join(5)


@dataclass
class Sequence:
    """What one connection sends."""

    number: int
    v5: bool
    connect: bytes
    rest: bytes
    lawful: bool
    """Nothing in it is odd: all that is allowed has to arrive."""
    cuts: list[int]
    packets: int
    expected: list[Read] = field(default_factory=list)
    """What a lawful one says, its will left out."""


class Fuzzer:
    """Makes sequence after sequence. The same seed and number make the same one."""

    def __init__(self, seed: str, secret: str) -> None:
        self._seed = seed
        self._secret = secret

    def sequence(self, number: int) -> Sequence:
        chance = random.Random(f"{self._seed}:{number}")
        v5, lawful = chance.random() < 0.6, chance.random() < 0.4
        writer = _Writer(chance, number, v5=v5, lawful=lawful)
        packets = [writer.packet() for _ in range(chance.randint(1, 40))]
        connect = self._connect(chance, writer)
        if not lawful:
            if chance.random() < 0.1:
                # Not in the credentials behind it: a wrong secret is another matter, and slow.
                size = len(connect) - 4 - len(DEVICE) - len(self._secret)
                connect = damaged(chance, connect[:size]) + connect[size:]
            if chance.random() < 0.7:
                place = chance.randrange(len(packets))
                packets[place] = damaged(chance, packets[place])
        rest = b"".join(packets)
        cuts = sorted(chance.randrange(len(rest) + 1) for _ in range(chance.choice((0, 0, 1, 3, 9))))
        return Sequence(number, v5, connect, rest, lawful, cuts, len(packets) + 1, writer.expected)

    def _connect(self, chance: random.Random, writer: _Writer) -> bytes:
        will = None
        if chance.random() < 0.15:
            will = (chance.choice(TOPICS), writer.payload(), chance.randint(0, 2), chance.random() < 0.5)
        # Three bytes of it may be damaged: it must not become another one's, whose session it would end.
        client_id = f"s{writer.number}-{zlib.crc32(str(writer.number).encode()):08x}"
        return raw.connect(
            client_id, v5=writer.v5, username=DEVICE, password=self._secret, will=will, keep_alive=0
        )


class _Writer:
    """The packets of one connection."""

    def __init__(self, chance: random.Random, number: int, *, v5: bool, lawful: bool) -> None:
        self._chance = chance
        self.number = number
        self.v5 = v5
        self._lawful = lawful
        self._said = 0
        self._id = 0
        self._aliases: dict[int, str] = {}
        self._last: tuple[str, bytes, bool] | None = None
        self.expected: list[Read] = []

    def payload(self) -> bytes:
        """One that no other message has, of few lengths: what begins alike takes another way."""
        self._said += 1
        # Twelve digits, and no two messages are alike.
        return b"%07d%05d" % (self.number, self._said) + b"." * self._chance.choice((0, 0, 0, 8))

    def packet(self) -> bytes:
        chance = self._chance.random()
        if chance < 0.06 and self.v5:
            return self._burst()
        if chance < 0.75:
            return self._publish()
        if chance < 0.85:
            filters = [
                (self._chance.choice(FILTERS), self._chance.randint(0, 2))
                for _ in range(self._chance.randint(1, 4))
            ]
            return raw.subscribe(self._next_id(), *filters, v5=self.v5)
        if chance < 0.9:
            return raw.unsubscribe(self._next_id(), self._chance.choice(FILTERS), v5=self.v5)
        if chance < 0.97 or self._lawful:
            return raw.PINGREQ
        some = (raw.DISCONNECT, raw.ack(0x62, 9999), raw.packet(0xF0), b"\x30\xff\xff\xff\xff\x01")
        return self._chance.choice(some)

    def _next_id(self) -> int:
        self._id += 1
        return self._id

    def _publish(self) -> bytes:
        chance = self._chance
        topic, qos = chance.choice(TOPICS), chance.choice((0, 0, 0, 1, 1, 2))
        retain, props = chance.random() < 0.1, b""
        name: str | bytes = topic
        if self._last is not None and chance.random() < 0.4:
            name, props, retain = self._last
            topic = str(name)
        elif self.v5:
            if chance.random() < 0.2:
                props = b"\x26" + raw.text("k") + raw.text("v")
            if chance.random() < 0.25:
                topic, name, props = self._aliased(topic, props)
            if not self._lawful and chance.random() < 0.1:
                props += odd_property(chance)
        if not self._lawful and chance.random() < 0.08:
            name = chance.choice(ODD_TOPICS)
        if name:
            self._last = (topic, props, retain) if isinstance(name, str) and b"\x23" not in props else None
        payload = self.payload() if chance.random() < 0.97 else b""
        packet_id = self._next_id() if qos else 0
        packet = raw.publish(
            name,
            payload,
            qos=qos,
            packet_id=packet_id,
            retain=retain,
            dup=qos > 0 and chance.random() < 0.2,
            v5=self.v5,
            props=props,
        )
        if self._lawful:
            kept = b"" if not self.v5 else props[: props.rfind(b"\x23")] if b"\x23" in props else props
            self.expected.append(Read(topic, qos, retain, payload, kept))
        if chance.random() < 0.1:
            packet = longer_length(chance, packet, most=4 if self._lawful else 5)
        return packet + (raw.ack(0x62, packet_id) if qos == 2 else b"")

    def _burst(self) -> bytes:
        """An alias set, used, set anew and used again, in packets that are alike but for that."""
        retain, alias = self._chance.random() < 0.2, self._chance.randint(1, 3)
        props, packets = b"\x23" + alias.to_bytes(2, "big"), []
        for topic in self._chance.sample(("ok/a", "ok/b", "ok/no/a", "private/a", "low/a", "low/b"), 2):
            for name in (topic, "", ""):
                payload = self.payload()
                packets.append(raw.publish(name, payload, retain=retain, v5=True, props=props))
                self.expected.append(Read(topic, 0, retain, payload, b""))
            self._aliases[alias] = topic
            # Where a condition was against it the bus has not learnt the alias.
            retain = False
        return b"".join(packets)

    def _aliased(self, topic: str, props: bytes) -> tuple[str, str, bytes]:
        alias = self._chance.randint(1, 3)
        name = topic
        if alias in self._aliases and self._chance.random() < 0.6:
            topic, name = self._aliases[alias], ""
        self._aliases[alias] = topic
        return topic, name, props + b"\x23" + alias.to_bytes(2, "big")


def odd_property(chance: random.Random) -> bytes:
    """A property that may stand elsewhere, or nowhere, or is not whole."""
    identifier = chance.choice((*range(0x2B), 0x7F, 0xFF))
    return bytes([identifier]) + chance.randbytes(chance.randint(0, 6))


def longer_length(chance: random.Random, packet: bytes, most: int) -> bytes:
    """The same packet with its length in more bytes than it needs: Mosquitto takes four, and never five."""
    read = reference_parser.varint(packet, 1)
    assert read is not None
    digits = bytearray(packet[1 : read[1]])
    for _ in range(chance.randint(1, most - len(digits))):
        digits[-1] |= 0x80
        digits.append(0)
    return packet[:1] + bytes(digits) + packet[read[1] :]


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Some bytes other, more or fewer, mostly near the beginning, where the meaning is."""
    for _ in range(chance.randint(1, 3)):
        at = (
            chance.randrange(len(data) + 1) if chance.random() < 0.4 else min(chance.randrange(12), len(data))
        )
        way = chance.randrange(5)
        if way == 0:
            data = data[:at] + data[at + 1 :]
        elif way == 1:
            data = data[:at] + chance.randbytes(1) + data[at:]
        elif way == 2 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        elif way == 3 and at < len(data):
            data = data[:at] + bytes([(data[at] + chance.choice((1, -1, 2))) % 256]) + data[at + 1 :]
        else:
            data = data[:at] + data[at : at + chance.randint(1, 20)] + data[at:]
    return data


class Exchange(NamedTuple):
    """What a peer was sent."""

    packets: list[bytes]
    answered: bool
    """The PINGREQ behind the sequence was."""
    ended: bool = False
    """The other side ended the connection before that."""


def send(sequence: Sequence, port: int, tls: ssl.SSLContext | None, patience: float) -> Exchange:
    """Send it with a PINGREQ behind, wait so long for the answer, and hang up so that all is read."""
    got: list[bytes] = []
    pings = 1 + sequence.rest.count(raw.PINGREQ)
    with raw.Raw(port, tls, timeout=20) as link:
        try:
            link.send(sequence.connect)
            for start, end in zip([0, *sequence.cuts], [*sequence.cuts, None], strict=True):
                link.send(sequence.rest[start:end])
            link.send(raw.PINGREQ)
            until = time.monotonic() + patience
            while pings and (left := until - time.monotonic()) > 0:
                got.append(link.read(left))
                if not got[-1]:
                    return Exchange(got, answered=False, ended=True)
                pings -= got[-1] == raw.PINGRESP
        except TimeoutError:
            pass
        except OSError:
            return Exchange(got, answered=False, ended=True)
        # Not `SSLSocket.shutdown`, which would end TLS in both directions.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(link._socket, socket.SHUT_WR)
            while got[-1:] != [b""]:
                got.append(link.read(20))
    return Exchange(got, answered=pings == 0)


def read_by_itself(sequence: Sequence) -> Counter[Read]:
    """What stands in the bytes, by a parser that knows neither the gateway nor Mosquitto."""
    found: Counter[Read] = Counter()
    with contextlib.suppress(reference_parser.Unreadable, IndexError, UnicodeDecodeError):
        for connect in reference_parser.Peer(v5=sequence.v5).feed(sequence.connect)[:1]:
            if (will := reference_parser.introduction(connect).will) is None:
                continue
            found[Read(will.topic, will.qos, will.retain, will.payload, b"")] += 1
    peer = reference_parser.Peer(v5=sequence.v5, aliases_max=10)
    for packet in framed(sequence.rest):
        with contextlib.suppress(reference_parser.Unreadable, IndexError):
            for one in peer.feed(packet):
                if one.kind == reference_parser.PUBLISH:
                    kept = b"".join(bytes([i]) + v for i, v in one.properties if i != 0x23)
                    found[Read(one.topic, one.qos, one.retain, one.payload, kept)] += 1
            continue
        peer._buffer = b""
    return found


def framed(data: bytes) -> list[bytes]:
    """The packets by their lengths alone, up to where there is none."""
    found = []
    while len(data) > 1:
        try:
            read = reference_parser.varint(data, 1)
        except reference_parser.Unreadable:
            break
        if read is None or sum(read) > len(data):
            break
        found.append(data[: sum(read)])
        data = data[sum(read) :]
    return found
