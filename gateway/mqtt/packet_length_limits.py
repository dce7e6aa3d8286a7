"""How long a packet may be: what its fixed header alone says (MQTT 5, 2.1.4).

As Mosquitto 2.1 reads it, whose bounds for these types no setting changes.
"""

from __future__ import annotations

from gateway.mqtt.data_types import encode_length
from gateway.mqtt.packets import PacketType, Version

_REMAINING_LENGTH_MAX = 268_435_455
"""The longest remaining length there can be (MQTT 5, 1.5.5)."""
_EMPTY = frozenset({PacketType.PINGREQ, PacketType.PINGRESP})
_IDENTIFIER = frozenset(
    {PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP, PacketType.UNSUBACK}
)
"""Of the packet identifier in MQTT 3.1.1, and nothing more."""
_LONGEST: dict[int, int] = {
    **dict.fromkeys((*_IDENTIFIER, PacketType.DISCONNECT), 10_000),
    **dict.fromkeys((PacketType.CONNECT, PacketType.AUTH), 100_000),
}
"""Of types that say little, what Mosquitto takes."""
_FILTERS = frozenset({PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE})
_FILTERS_BYTES_MAX = 100_000
"""Bytes of either in MQTT 5. Older clients may list as many filters as fit the bus's max_packet_size."""


def may_be_as_long(first: int, size: int, version: Version) -> bool:
    """Whether a packet with this first byte may have this remaining length, whatever else it holds."""
    kind = first >> 4
    old = version is not Version.V5
    if kind in _EMPTY or (old and kind == PacketType.DISCONNECT):
        return size == 0
    if old and kind in _IDENTIFIER:
        return size == 2
    if kind in _FILTERS:
        return old or size <= _FILTERS_BYTES_MAX
    longest = _LONGEST.get(kind)
    return longest is None or size <= longest


def longest_packet(announced: int) -> int:
    """The bytes of the longest packet that fits a Maximum Packet Size of Mosquitto.

    It counts one byte of the fixed header, which has two to five.
    """
    remaining = min(announced - 1, _REMAINING_LENGTH_MAX)
    return 1 + len(encode_length(remaining)) + remaining
