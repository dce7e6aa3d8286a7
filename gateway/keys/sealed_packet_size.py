"""How long a packet of a device may be for the bus to take it, when it is sealed on its way.

What the gateway announces as Maximum Packet Size (MQTT 5, 3.2.2.3.6) is a promise: a packet of that size is
taken. The bus's own figure would be none for messages that are sealed on their way.
"""

from __future__ import annotations

_BESIDE = 256
"""What an envelope has beside payload, topic and sender: 190 bytes with the longest key id and time, and what
the packet's header grows by."""
_TOPIC_ROOM = 1_024
"""The topic stands in the envelope once more. Nearly all are shorter; for a longer one see the answer."""
_PACKET_BYTES_MIN = 64
"""What is announced however small the bus's limit is."""


def announced(bus_packet_max: int, sender: str) -> int:
    """The Maximum Packet Size for a device that may publish what is sealed, in bytes."""
    topic = min(_TOPIC_ROOM, bus_packet_max // 8)
    room = (bus_packet_max - _BESIDE - len(sender) - topic) * 3 // 4  # base64
    return min(bus_packet_max, max(room, _PACKET_BYTES_MIN))
