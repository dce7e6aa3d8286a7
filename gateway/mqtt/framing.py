"""Framing: where a packet begins and ends in a stream of bytes, by its fixed header (MQTT 5, 2.1).

    first byte | Remaining Length, 1 to 4 bytes | body
    pos                                          body_at end

Of packet types it knows only which flags they have. `gateway.connection.one_way_relay` has the same inlined
in its loop, where a call for each packet would be measurable; a test compares the two.
"""

from __future__ import annotations

from gateway.mqtt.data_types import encode_length, read_length
from gateway.mqtt.errors import MalformedPacket, PacketTooLarge, ProtocolError

_FIRST_BYTES = tuple(kind << 4 | (2 if kind in {6, 8, 10} else 0) for kind in range(16))
"""The only legal first byte of each packet type, indexed by type (MQTT 5, 2.1.3). Not for PUBLISH: its flags
differ."""
_REFUSED_BEFORE_FLAGS = frozenset({0, 2, 15})
"""Types that Mosquitto 2.1 refuses before it checks flags."""


def packet_at(data: bytes | bytearray, pos: int) -> tuple[int, int] | None:
    """Where the body of the packet at `pos` begins and ends; None while its fixed header is incomplete.

    The end may lie beyond `data`. Raises Unanswerable for a length of more than four bytes.
    """
    length = read_length(data, pos + 1, len(data))
    if length is None:
        return None
    size, body_at = length
    return body_at, body_at + size


def first_packet(data: bytes | bytearray, most: int, too_long: str) -> tuple[int, int] | None:
    """Where the body of the packet at the start of `data` begins and ends; None while it is incomplete.

    Raises PacketTooLarge with the text `too_long` as soon as its header says that it has over `most` bytes.
    """
    if len(data) >= 2 and data[1] < 0x80:
        found: tuple[int, int] | None = (2, 2 + data[1])  # as most are
    else:
        found = packet_at(data, 0)
    if found is None:
        return None
    _, end = found
    if end > most:
        raise PacketTooLarge(too_long)
    return found if end <= len(data) else None


def check_first_byte(first: int) -> int:
    """The packet type, if the flags beside it are the standard's [MQTT-2.1.3-1]. Not for PUBLISH."""
    kind = first >> 4
    if first != _FIRST_BYTES[kind]:
        if kind in _REFUSED_BEFORE_FLAGS:
            raise ProtocolError("a packet that may not come here")
        raise MalformedPacket("flags that this packet may not have")
    return kind


def framed(first_byte: int, body: bytes) -> bytes:
    """A packet from its first byte and its body. Raises PacketTooLarge."""
    return bytes((first_byte,)) + encode_length(len(body)) + body
