"""What a client of the bus reads from it: chunks in, whole packets out.

Sans-I/O, with a bound on what is held: of a message that is longer the head is read, which says where an
answer to it would go, and the rest is skipped. Must not know what messages mean.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from gateway.mqtt.data_types import decode_utf8
from gateway.mqtt.decode import decode_publish
from gateway.mqtt.errors import LimitExceeded, MalformedPacket, PacketTooLarge, ProtocolError
from gateway.mqtt.framing import packet_at
from gateway.mqtt.packets import PacketType, Version
from gateway.mqtt.properties import Property, PropertyId, find

HEAD_MAX = 262_144
"""Bytes of a message that is too long that are held to read its head: topic, Response Topic and Correlation
Data have 64 KiB each at most. If more properties than fit come before them, the latter two are not found."""


class Packet(NamedTuple):
    """Anything but a PUBLISH."""

    kind: int
    body: bytes


class Delivery(msgspec.Struct):
    """A PUBLISH."""

    topic: str
    payload: bytes
    retain: bool
    packet_id: int
    """0 for QoS 0."""
    response_topic: str | None
    """Empty if it is not UTF-8; None if there is none."""
    correlation: bytes | None
    whole: bool
    """False for a message that is too long to be held: its payload was skipped, and is empty here."""
    properties: list[Property]
    """All properties that were found, in their order."""


class BusReader:
    """Reads the bytes of one connection. After an error it can't be used any more."""

    __slots__ = ("_chunks", "_data", "_max_size", "_needed", "_pos", "_skip", "_waiting", "version")

    def __init__(self, version: Version, max_size: int) -> None:
        """`max_size` is the longest packet to hold, in bytes."""
        self.version = version
        self._max_size = max_size
        self._data = b""
        self._pos = 0
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._needed = 0
        self._skip = 0

    @property
    def held(self) -> int:
        """Bytes that were pushed and have not been popped."""
        return len(self._data) - self._pos + self._waiting

    def push(self, chunk: bytes) -> None:
        """The next bytes from the bus."""
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        self._chunks.append(chunk)
        self._waiting += len(chunk)

    def pop(self) -> Packet | Delivery | None:
        """The next packet; None if none is complete yet. Raises MqttError for what no MQTT server sends."""
        found = self._next()
        # Not joined before there is enough: a long message would be copied anew with each chunk.
        if found is None and self._waiting and self.held >= self._needed:
            self._data = b"".join((self._data[self._pos :], *self._chunks))
            self._chunks.clear()
            self._pos = self._waiting = 0
            found = self._next()
        return found

    def _next(self) -> Packet | Delivery | None:
        data, pos = self._data, self._pos
        size = len(data)
        found = packet_at(data, pos)
        if found is None:
            self._needed = 0
            return None
        body_at, end = found
        kind = data[pos] >> 4
        whole = end - pos <= self._max_size
        if not whole and kind != PacketType.PUBLISH:
            raise PacketTooLarge("a packet of the bus that is longer than any it may send")
        known = end if whole else min(end, pos + HEAD_MAX)
        self._needed = known - pos
        if known > size:
            return None
        self._pos = min(end, size)
        if kind != PacketType.PUBLISH:
            return Packet(kind, data[body_at:end])
        if end > size:
            self._pass_over(end - size)
        return self._delivery(data, pos, body_at, known, whole=whole)

    def _pass_over(self, count: int) -> None:
        """Skip the next `count` bytes: they are the payload of a message that is too long."""
        chunks, self._chunks, self._waiting, self._skip = self._chunks, [], 0, count
        for chunk in chunks:
            self.push(chunk)

    def _delivery(self, data: bytes, pos: int, body_at: int, known: int, *, whole: bool) -> Delivery:
        try:
            packet = decode_publish(data, pos, body_at, known, self.version)
        except LimitExceeded:
            # More properties than anybody needs: its sender gets an answer, and the bus is not to blame.
            whole, packet = False, decode_publish(data, pos, body_at, known, Version.V311)
        except MalformedPacket:
            if whole:
                raise
            # The properties end beyond what is known. Up to them both versions look alike.
            packet = decode_publish(data, pos, body_at, known, Version.V311)
        if packet.qos == 2:
            raise ProtocolError("QoS 2, which nobody asked for")
        properties = packet.properties
        if not packet.topic or find(properties, PropertyId.TOPIC_ALIAS):
            raise ProtocolError("a topic alias that nobody asked for")
        response_topic = find(properties, PropertyId.RESPONSE_TOPIC)
        return Delivery(
            topic=decode_utf8(packet.topic),
            payload=data[packet.payload_at : known] if whole else b"",
            retain=packet.retain,
            packet_id=packet.packet_id,
            response_topic=None if response_topic is None else _text(response_topic),
            correlation=find(properties, PropertyId.CORRELATION_DATA),
            whole=whole,
            properties=properties,
        )


def _text(value: bytes) -> str:
    try:
        return decode_utf8(value)
    except MalformedPacket:
        return ""
