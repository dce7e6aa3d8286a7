"""An MQTT parser for tests, to compare with: what device and bus understand of the bytes they get.

Written apart from `gateway.mqtt`. Strict where the gateway is bound to be right, and keeps topic
aliases as a broker does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)

_FIXED = {
    1: (0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A),
    2: (0x13, 0x21, 0x22, 0x23),
    4: (0x02, 0x11, 0x18, 0x27),
}
_SIZE = {identifier: size for size, identifiers in _FIXED.items() for identifier in identifiers}
_TOPIC_ALIAS = 0x23


class Unreadable(Exception):
    """No broker or client would take this."""


@dataclass
class Packet:
    """One packet, taken apart as far as a test asks."""

    first: int
    body: bytes
    topic: str = ""
    """Of a PUBLISH, its alias resolved."""
    packet_id: int = 0
    code: int = 0
    payload: bytes = b""
    properties: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def kind(self) -> int:
        return self.first >> 4

    @property
    def qos(self) -> int:
        return self.first >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.first & 1)

    @property
    def key(self) -> tuple[object, ...]:
        """What two PUBLISH packets that mean the same have in common."""
        kept = [prop for prop in self.properties if prop[0] != _TOPIC_ALIAS]
        return self.first, self.topic, self.packet_id, kept, self.payload


def varint(data: bytes, pos: int) -> tuple[int, int] | None:
    value = 0
    for digit in range(4):
        if pos + digit >= len(data):
            return None
        value += (data[pos + digit] % 128) * 128**digit
        if data[pos + digit] < 128:
            return value, pos + digit + 1
    raise Unreadable("five length bytes")


def properties(data: bytes, pos: int) -> tuple[list[tuple[int, bytes]], int]:
    """Identifier and value with its length, in order."""
    read = varint(data, pos)
    if read is None or read[1] + read[0] > len(data):
        raise Unreadable("properties cut off")
    pos = read[1]
    end = pos + read[0]
    found = []
    while pos < end:
        identifier, start = data[pos], pos + 1
        if identifier == 0x0B:
            number = varint(data, start)
            if number is None:
                raise Unreadable("a number cut off")
            pos = number[1]
        elif identifier in _SIZE:
            pos = start + _SIZE[identifier]
        else:
            pos = start
            for _ in range(2 if identifier == 0x26 else 1):
                pos += 2 + int.from_bytes(data[pos : pos + 2], "big")
        if pos > end:
            raise Unreadable("a property cut off")
        found.append((identifier, data[start:pos]))
    return found, end


class Peer:
    """One end: feed it what it is sent. A broker (`aliases_max`) holds topic aliases."""

    def __init__(self, *, v5: bool, aliases_max: int = 0) -> None:
        self.v5 = v5
        self._aliases: dict[int, str] = {}
        self._aliases_max = aliases_max
        self._buffer = b""

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are whole now. Raises Unreadable."""
        self._buffer += data
        packets = []
        while len(self._buffer) > 1:
            read = varint(self._buffer, 1)
            if read is None or read[1] + read[0] > len(self._buffer):
                break
            end = read[1] + read[0]
            packets.append(self._parse(self._buffer[0], self._buffer[read[1] : end]))
            self._buffer = self._buffer[end:]
        return packets

    @property
    def rest(self) -> bytes:
        """A packet that is not whole."""
        return self._buffer

    def _parse(self, first: int, body: bytes) -> Packet:
        packet = Packet(first, body)
        if packet.kind == PUBLISH:
            self._publish(packet)
        elif PUBACK <= packet.kind <= UNSUBACK:
            # One without an identifier passes as it came: whom it is for refuses it.
            packet.packet_id = int.from_bytes(body[:2], "big")
            packet.code = body[2] if len(body) > 2 else 0
        return packet

    def _publish(self, packet: Packet) -> None:
        body = packet.body
        end = 2 + int.from_bytes(body[:2], "big")
        if len(body) < end:
            raise Unreadable("the topic is cut off")
        try:
            packet.topic = body[2:end].decode()
        except UnicodeDecodeError:
            raise Unreadable("the topic is no UTF-8") from None
        if packet.qos == 3:
            raise Unreadable("QoS 3")
        if packet.qos:
            packet.packet_id = int.from_bytes(body[end : end + 2], "big")
            end += 2
            if len(body) < end or not packet.packet_id:
                raise Unreadable("no packet identifier")
        if self.v5:
            packet.properties, end = properties(body, end)
        packet.payload = body[end:]
        for identifier, value in packet.properties:
            if identifier == _TOPIC_ALIAS:
                self._alias(packet, int.from_bytes(value, "big"))
        if not packet.topic or set(packet.topic) & {"+", "#", "\0"}:
            raise Unreadable("no topic")

    def _alias(self, packet: Packet, alias: int) -> None:
        if not 0 < alias <= self._aliases_max:
            raise Unreadable("a topic alias out of range")
        if packet.topic:
            self._aliases[alias] = packet.topic
        elif alias in self._aliases:
            packet.topic = self._aliases[alias]
        else:
            raise Unreadable("a topic alias that stands for nothing")


@dataclass
class Introduction:
    """What a CONNECT says, as far as a test asks."""

    client_id: str
    will: Packet | None = None


def introduction(packet: Packet) -> Introduction:
    """Of a CONNECT that is known to be sound."""
    body, pos = packet.body, 10
    v5, flags = body[6] == 5, body[7]

    def skip_properties() -> None:
        nonlocal pos
        if v5:
            pos = properties(body, pos)[1]

    def binary() -> bytes:
        nonlocal pos
        start = pos + 2
        pos = start + int.from_bytes(body[pos:start], "big")
        return body[start:pos]

    skip_properties()
    found = Introduction(binary().decode())
    if flags & 4:
        skip_properties()
        topic = binary().decode()
        found.will = Packet(0x30 | flags >> 2 & 6 | flags >> 5 & 1, b"", topic=topic, payload=binary())
    return found
