"""How long a device's packet may be so that the bus accepts it after it is sealed, which makes it longer.

The Maximum Packet Size that the gateway announces (MQTT 5, 3.2.2.3.6) is a promise that a packet of that size
is accepted. With the bus's own figure that promise could not be kept for packets that are sealed.
"""

from __future__ import annotations

_OVERHEAD = 256
"""Bytes of an envelope beside payload, topic and sender: 190 with the longest key id and time, and some by
which the packet's header may grow."""
_TOPIC_ROOM = 1_024
"""Bytes set aside for the topic, which the envelope contains once more. Nearly all topics are shorter; with a
longer one a packet of the announced size may be refused."""
_PACKET_BYTES_MIN = 64
"""Bytes that are announced at least, however small the bus's limit is."""


def announced(bus_packet_max: int, sender: str) -> int:
    """The Maximum Packet Size, in bytes, for a device that may publish to sensitive topics.

    `bus_packet_max` is that of the bus, `sender` the device id.
    """
    topic = min(_TOPIC_ROOM, bus_packet_max // 8)
    room = (bus_packet_max - _OVERHEAD - len(sender) - topic) * 3 // 4  # base64
    return min(bus_packet_max, max(room, _PACKET_BYTES_MIN))
