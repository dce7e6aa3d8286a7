"""MQTT by hand: packets built byte by byte, a blocking client that sends and reads them.

Written apart from `gateway.mqtt`, so that a fault there is not repeated here.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from typing import Self


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def packet(first: int, body: bytes = b"") -> bytes:
    return bytes([first]) + varint(len(body)) + body


def properties(body: bytes = b"") -> bytes:
    return varint(len(body)) + body


def connect(
    client_id: str | bytes = "c",
    *,
    v5: bool = False,
    username: str | bytes | None = None,
    password: str | bytes | None = None,
    clean: bool = True,
    keep_alive: int = 60,
    will: tuple[str, bytes, int, bool] | None = None,
    props: bytes = b"",
    will_props: bytes = b"",
    level: int = 0,
) -> bytes:
    level = level or (5 if v5 else 4)
    flags = 2 if clean else 0
    tail = text(client_id)
    if will:
        topic, payload, qos, retain = will
        flags |= 4 | qos << 3 | (32 if retain else 0)
        tail += (properties(will_props) if v5 else b"") + text(topic) + text(payload)
    if username is not None:
        flags |= 128
        tail += text(username)
    if password is not None:
        flags |= 64
        tail += text(password)
    head = (
        text("MQIsdp" if level & 0x7F == 3 else "MQTT")
        + bytes([level, flags])
        + struct.pack(">H", keep_alive)
    )
    return packet(0x10, head + (properties(props) if v5 else b"") + tail)


def publish(
    topic: str | bytes,
    payload: bytes = b"",
    *,
    qos: int = 0,
    packet_id: int = 0,
    retain: bool = False,
    dup: bool = False,
    v5: bool = False,
    props: bytes = b"",
) -> bytes:
    first = 0x30 | qos << 1 | int(retain) | (8 if dup else 0)
    ident = struct.pack(">H", packet_id) if qos else b""
    return packet(first, text(topic) + ident + (properties(props) if v5 else b"") + payload)


def subscribe(
    packet_id: int, *filters: tuple[str | bytes, int], v5: bool = False, props: bytes = b""
) -> bytes:
    body = struct.pack(">H", packet_id) + (properties(props) if v5 else b"")
    return packet(0x82, body + b"".join(text(one) + bytes([options]) for one, options in filters))


def unsubscribe(packet_id: int, *filters: str, v5: bool = False) -> bytes:
    body = struct.pack(">H", packet_id) + (properties() if v5 else b"")
    return packet(0xA2, body + b"".join(text(one) for one in filters))


def ack(kind: int, packet_id: int, code: int | None = None) -> bytes:
    """PUBACK 0x40, PUBREC 0x50, PUBREL 0x62, PUBCOMP 0x70."""
    return packet(kind, struct.pack(">H", packet_id) + (bytes([code]) if code is not None else b""))


def packets(data: bytes) -> list[bytes]:
    """The whole packets that `data` consists of."""
    found = []
    while data:
        size, shift, pos = 0, 0, 1
        while True:
            size |= (data[pos] & 127) << shift
            shift += 7
            pos += 1
            if data[pos - 1] < 128:
                break
        found.append(data[: pos + size])
        data = data[pos + size :]
    return found


PINGREQ = packet(0xC0)
PINGRESP = packet(0xD0)
DISCONNECT = packet(0xE0)


class Raw:
    """A blocking client. `read` gives whole packets; b"" is the end of the connection."""

    def __init__(
        self, port: int, tls: ssl.SSLContext | None = None, *, timeout: float = 5.0, source: str = ""
    ) -> None:
        """`source` is the address to come from: on Linux any of 127.0.0.0/8."""
        plain = socket.create_connection(
            ("127.0.0.1", port), timeout=timeout, source_address=(source, 0) if source else None
        )
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = "{}:{}".format(*plain.getsockname())
        """From where it comes, as the gateway writes it in its log."""
        self._socket = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, *packets: bytes) -> Raw:
        self._socket.sendall(b"".join(packets))
        return self

    def read(self, timeout: float = 5.0) -> bytes:
        """The next packet; b"" when the other side closed. TimeoutError if nothing comes."""
        deadline = time.monotonic() + timeout
        while True:
            found = self._take()
            if found:
                return found
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                more = self._socket.recv(65536)
            except (ConnectionError, ssl.SSLEOFError):
                more = b""
            if not more:
                return b""
            self._buffer += more

    def read_all(self, quiet: float = 0.3) -> list[bytes]:
        """Everything that comes until it is quiet for so long; b"" last if the connection ended."""
        packets: list[bytes] = []
        while True:
            try:
                packets.append(self.read(quiet))
            except TimeoutError:
                return packets
            if not packets[-1]:
                return packets

    def _take(self) -> bytes:
        data, size, shift, pos = self._buffer, 0, 0, 1
        while pos < len(data):
            size |= (data[pos] & 127) << shift
            shift += 7
            pos += 1
            if data[pos - 1] < 128:
                if len(data) < pos + size:
                    return b""
                self._buffer = data[pos + size :]
                return data[: pos + size]
        return b""

    def close(self) -> None:
        """Close the TCP connection without a word."""
        self._socket.close()
