"""One exchange, carried out directly on a Mosquitto or through the gateway, and what came back.

A scenario is a function that gets a `Side`. It connects clients, sends bytes, and asks them what came:
everything ends in `Side.trace`, which must be the same on both sides. To ask means to send a PINGREQ and
to read up to its PINGRESP or to the end of the connection, so nothing depends on how long a wait is.
"""

from __future__ import annotations

import contextlib
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness import raw
from harness.raw import Raw

# On a busy machine an answer may take long; it is only waited for when something is wrong.
PATIENCE = 20.0

NOTHING = "(nothing came)"
ASSIGNED = b"\x12\x00\x29" + b"auto-" + b"?" * 36


@dataclass
class ConnectionRegistry:
    """Where a side's clients connect, and the credentials that the place asks for."""

    port: int
    tls: ssl.SSLContext | None = None
    username: bytes | None = None
    password: bytes | None = None
    sealed: tuple[bytes | None, bytes | None] = (None, None)
    """The credentials of a device that may publish on a sensitive topic."""


class Client:
    """A connection whose answers are noted."""

    def __init__(self, side: Side, name: str) -> None:
        self._side = side
        self._name = name
        self._raw = Raw(side.registry.port, side.registry.tls, timeout=PATIENCE)
        side.opened.append(self)

    def send(self, *packets: bytes) -> Client:
        """Send; a connection that the other side has closed already takes it too."""
        with contextlib.suppress(OSError, ssl.SSLError):
            self._raw.send(*packets)
        return self

    def trickle(self, data: bytes) -> Client:
        """Send one byte a write."""
        for i in range(len(data)):
            self.send(data[i : i + 1])
        return self

    def read(self, *, count: int = 1) -> list[bytes]:
        """Note the next packets, or the end of the connection."""
        found: list[bytes] = []
        for _ in range(count):
            try:
                found.append(self._note(self._raw.read(PATIENCE)))
            except TimeoutError:
                self._side.trace.append((self._name, NOTHING))
                break
        return found

    def ask(self, *packets: bytes) -> list[bytes]:
        """Send, and note what comes up to the answer of a PINGREQ behind it, or to the end."""
        self.send(*packets, raw.PINGREQ)
        return self._until(raw.PINGRESP)

    def end(self, *packets: bytes) -> list[bytes]:
        """Send, and note what comes up to the end of the connection."""
        self.send(*packets)
        return self._until(b"")

    def _until(self, last: bytes) -> list[bytes]:
        found: list[bytes] = []
        while True:
            packet = self.read()
            found += packet
            if not packet or packet[0] in {last, b""}:
                return found

    def _note(self, packet: bytes) -> bytes:
        known = assigned_hidden(packet)
        told = known if len(known) < 200 else known[:60] + b"... %d bytes" % len(known)
        self._side.trace.append((self._name, told.hex(" ") if known else "(closed)"))
        return packet

    def close(self) -> None:
        """Close the TCP connection without a word."""
        self._raw.close()


@dataclass
class Side:
    """A scenario on one of the two sides."""

    registry: ConnectionRegistry
    v5: bool
    topic: str
    """What all topics and client ids of the scenario begin with."""
    trace: list[tuple[str, str]] = field(default_factory=list)
    opened: list[Client] = field(default_factory=list)

    def connect_packet(self, client_id: str | bytes | None = None, **description: object) -> bytes:
        """A CONNECT from a description (see `connect_bytes`), with the credentials of this side."""
        description.setdefault("username", self.registry.username)
        description.setdefault("password", self.registry.password)
        if client_id is None:
            client_id = self.topic
        return connect_bytes(client_id, v5=self.v5, **description)  # type: ignore[arg-type]

    def open(self, name: str = "a") -> Client:
        """A connection that said nothing yet."""
        return Client(self, name)

    def connect(self, name: str = "a", *more: bytes, **description: object) -> Client:
        """A client that sent its CONNECT and got its answer. Its client id is its name if none is given."""
        client = self.open(name)
        client_id = description.pop("client_id", f"{self.topic}-{name}")
        client.send(self.connect_packet(client_id, **description), *more)  # type: ignore[arg-type]
        client.read()
        return client

    def reader(self, *filters: tuple[str, int], **description: object) -> Client:
        """A client that subscribed to these filters, else to the scenario's topic with QoS 2."""
        client = self.connect("reader", **description)
        client.ask(self.subscribe(1, *(filters or ((self.topic, 2),))))
        return client

    def publish(self, topic: str | bytes, payload: bytes = b"", **description: object) -> bytes:
        """A PUBLISH of this version."""
        return raw.publish(topic, payload, v5=self.v5, **description)  # type: ignore[arg-type]

    def subscribe(self, packet_id: int, *filters: tuple[str | bytes, int], props: bytes = b"") -> bytes:
        """A SUBSCRIBE of this version."""
        return raw.subscribe(packet_id, *filters, v5=self.v5, props=props)

    def unsubscribe(self, packet_id: int, *filters: str) -> bytes:
        """An UNSUBSCRIBE of this version."""
        return raw.unsubscribe(packet_id, *filters, v5=self.v5)

    def disconnect(self, code: int = 0, props: bytes = b"") -> bytes:
        """A DISCONNECT of this version."""
        if not self.v5 or not (code or props):
            return raw.DISCONNECT
        return raw.packet(0xE0, bytes([code]) + raw.properties(props))

    def wait(self, seconds: float) -> None:
        """Let time pass: keep alive, expiry, delays."""
        time.sleep(seconds)

    def shut(self) -> None:
        """Close what the scenario left open."""
        for client in self.opened:
            client.close()


def connect_bytes(
    client_id: str | bytes,
    *,
    v5: bool,
    username: bytes | None,
    password: bytes | None,
    name: bytes = b"MQTT",
    level: int | None = None,
    clean: bool = True,
    flags: int = 0,
    keep_alive: int = 60,
    props: bytes = b"",
    will: tuple[str | bytes, bytes, int, bool] | None = None,
    will_props: bytes = b"",
    tail: bytes = b"",
    first: int = 0x10,
) -> bytes:
    """A CONNECT, legal or not: `flags` are set in addition, `tail` stands behind its end."""
    flags |= (
        (2 if clean else 0) | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    )
    body = raw.text(client_id)
    if will is not None:
        topic, payload, qos, retain = will
        flags |= 4 | qos << 3 | (0x20 if retain else 0)
        body += (raw.properties(will_props) if v5 else b"") + raw.text(topic) + raw.text(payload)
    body += b"".join(raw.text(one) for one in (username, password) if one is not None)
    head = raw.text(name) + bytes([level if level is not None else 5 if v5 else 4, flags])
    head += struct.pack(">H", keep_alive) + (raw.properties(props) if v5 else b"")
    return raw.packet(first, head + body + tail)


def assigned_hidden(packet: bytes) -> bytes:
    """The packet with the Assigned Client Identifier masked: the one thing that must differ."""
    at = packet.find(b"\x12\x00\x29auto-") if packet[:1] == b"\x20" else -1
    return packet[:at] + ASSIGNED + packet[at + len(ASSIGNED) :] if at >= 0 else packet


Scenario = Callable[[Side], None]
