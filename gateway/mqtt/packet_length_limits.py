"""How long a packet of each type may be, which can be checked by its fixed header alone (MQTT 5, 2.1.4).

The bounds are those that Mosquitto 2.1 has built in.
"""

from __future__ import annotations

from gateway.mqtt.data_types import encode_length
from gateway.mqtt.packets import PacketType, Version

_REMAINING_LENGTH_MAX = 268_435_455
"""Largest Remaining Length there can be, in bytes (MQTT 5, 1.5.5)."""
_EMPTY = frozenset({PacketType.PINGREQ, PacketType.PINGRESP})
_IDENTIFIER = frozenset(
    {PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP, PacketType.UNSUBACK}
)
"""In MQTT 3.1.1 their body is the packet identifier alone."""
_LONGEST: dict[int, int] = {
    **dict.fromkeys((*_IDENTIFIER, PacketType.DISCONNECT), 10_000),
    **dict.fromkeys((PacketType.CONNECT, PacketType.AUTH), 100_000),
}
"""Largest Remaining Length by packet type, in bytes. What is not here has no such bound."""
_FILTERS = frozenset({PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE})
_FILTERS_BYTES_MAX = 100_000
"""Largest Remaining Length of those two in MQTT 5, in bytes. In older versions there is no such bound."""


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
    """Bytes of the longest packet that Mosquitto accepts when it announces this Maximum Packet Size.

    Mosquitto counts one byte of the fixed header, which has two to five.
    """
    remaining = min(announced - 1, _REMAINING_LENGTH_MAX)
    return 1 + len(encode_length(remaining)) + remaining
