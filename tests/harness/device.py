"""A device by hand: one connection whose packets a test can name, read and answer."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from harness import raw
from harness.gateway import Gateway
from harness.raw import Raw

OWN_CHECKS = b"gateway/check/"
SESSION_FOREVER = b"\x11\xff\xff\xff\xff"
"""The property Session Expiry Interval: never."""


@dataclass(frozen=True)
class Message:
    """A PUBLISH as it arrived."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    properties: bytes


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def message_of(packet: bytes, *, v5: bool) -> Message:
    _, at = read_varint(packet, 1)
    length = int.from_bytes(packet[at : at + 2], "big")
    topic = packet[at + 2 : at + 2 + length].decode()
    at += 2 + length
    qos, packet_id, properties = packet[0] >> 1 & 3, 0, b""
    if qos:
        packet_id = int.from_bytes(packet[at : at + 2], "big")
        at += 2
    if v5:
        size, at = read_varint(packet, at)
        properties, at = packet[at : at + size], at + size
    return Message(topic, packet[at:], qos, bool(packet[0] & 1), bool(packet[0] & 8), packet_id, properties)


def code_of(packet: bytes) -> int:
    """The reason code of a PUBACK, PUBREC, PUBREL, PUBCOMP or DISCONNECT; 0 where it is left out."""
    body = packet[2:]
    at = 0 if packet[0] >> 4 == 14 else 2
    return body[at] if len(body) > at else 0


class Device(Raw):
    """A client that acknowledges what it gets, unless told not to."""

    def __init__(
        self, gateway: Gateway | int, *, v5: bool = False, timeout: float = 10.0, source: str = ""
    ) -> None:
        """To a gateway by TLS, or straight to the bus on a port."""
        if isinstance(gateway, int):
            super().__init__(gateway, timeout=timeout, source=source)
        else:
            super().__init__(gateway.port, gateway.shared_tls(), timeout=timeout, source=source)
        self.v5 = v5
        self.inbox: list[Message] = []
        """Messages that came while something else was waited for."""
        self._next_id = 0

    def connect(self, **words: object) -> bytes:
        """Send CONNECT; the answer is the CONNACK, or b"" if there was none."""
        self.send(raw.connect(v5=self.v5, **words))  # type: ignore[arg-type]
        return self.read()

    def new_id(self) -> int:
        self._next_id = self._next_id % 65_535 + 1
        return self._next_id

    def answer(self, kind: int, timeout: float = 10.0) -> bytes:
        """The next packet of this type (high nibble); messages before it go to the inbox."""
        while True:
            packet = self._next(timeout)
            if not packet or packet[0] >> 4 == kind:
                return packet
            if packet[0] >> 4 == 3:
                self.inbox.append(self._take_in(packet))
            else:
                raise AssertionError(f"unexpected packet {packet[:40]!r} while waiting for type {kind}")

    def subscribe(self, *filters: str, qos: int = 1, options: int = 0) -> list[int]:
        """Subscribe; the answer is the SUBACK's codes."""
        packet_id = self.new_id()
        self.send(raw.subscribe(packet_id, *((one, qos | options) for one in filters), v5=self.v5))
        suback = self.answer(9)
        assert suback, "the connection ended instead of a SUBACK"
        assert int.from_bytes(suback[2:4], "big") == packet_id
        return list(suback[-len(filters) :])

    def publish(
        self, topic: str, payload: bytes = b"", *, qos: int = 1, retain: bool = False, props: bytes = b""
    ) -> int | None:
        """Publish and see the handshake through: 0 for accepted, else the code; None for QoS 0."""
        packet_id = self.new_id() if qos else 0
        self.send(
            raw.publish(topic, payload, qos=qos, packet_id=packet_id, retain=retain, v5=self.v5, props=props)
        )
        if not qos:
            return None
        first = self.answer(3 + qos)  # PUBACK is 4, PUBREC 5
        assert first, "the connection ended instead of an acknowledgement"
        code = code_of(first)
        if qos == 2 and code < 0x80:
            self.send(raw.ack(0x62, packet_id))
            assert self.answer(7)
        return code if code >= 0x80 else 0  # 0x10 says that nobody subscribed

    def message(self, timeout: float = 10.0) -> Message:
        """The next message; it is acknowledged."""
        if self.inbox:
            return self.inbox.pop(0)
        packet = self._next(timeout)
        assert packet, "the connection ended instead of a message"
        if packet[0] >> 4 == 3:
            return self._take_in(packet)
        raise AssertionError(f"unexpected packet {packet[:40]!r} while waiting for a message")

    def messages(self, quiet: float = 0.4) -> list[Message]:
        """All messages until nothing came for so long."""
        found = []
        while True:
            try:
                found.append(self.message(quiet))
            except TimeoutError:
                return found

    def _next(self, timeout: float) -> bytes:
        """The next packet that is not a PUBREL: those are answered."""
        while True:
            packet = self.read(timeout)
            if packet[:1] == b"\x62":
                self.send(raw.ack(0x70, int.from_bytes(packet[2:4], "big")))
            elif packet[:1] != b"" and packet[0] >> 4 == 3 and OWN_CHECKS in packet:
                self._take_in(packet)  # the gateway's question whether the bus serves
            else:
                return packet

    def _take_in(self, packet: bytes) -> Message:
        message = message_of(packet, v5=self.v5)
        if message.qos:
            self.send(raw.ack(0x40 if message.qos == 1 else 0x50, message.packet_id))
        return message

    def ended(self, timeout: float = 10.0) -> bytes:
        """Wait for the end of the connection; the answer is the last packet before it."""
        last = b""
        while True:
            packet = self.read(timeout)
            if not packet:
                self.close()
                return last
            last = packet

    def barrier(self) -> None:
        """Return when everything sent so far was dealt with: a PINGREQ passes through gateway and bus."""
        self.send(raw.PINGREQ)
        assert self.answer(13), "the connection ended"


def join(gateway: Gateway, device: str, client_id: str = "c", *, v5: bool = False, **words: object) -> Device:
    """A device that is in, by its own secret."""
    one = Device(gateway, v5=v5)
    connack = one.connect(client_id=client_id, username=device, password=gateway.secrets[device], **words)
    assert connack[:1] == b"\x20", f"{device} got no CONNACK but {connack!r}"
    assert connack[3] == 0, f"{device} was refused: {connack!r}"
    return one


def spy(bus_port: int, *filters: str, qos: int = 0, v5: bool = False) -> Device:
    """Somebody who listens on the bus itself."""
    one = Device(bus_port, v5=v5)
    assert one.connect(client_id="spy")[3] == 0
    one.subscribe(*(filters or ("#",)), qos=qos)
    return one


def topic_alias(number: int) -> bytes:
    return b"\x23" + struct.pack(">H", number)
