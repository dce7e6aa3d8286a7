"""The few MQTT 3.1.1 packets that the load generator writes. Its own, not the gateway's: it measures it."""

from __future__ import annotations

DISCONNECT = b"\xe0\x00"


def _text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def _packet(first: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, digit = size >> 7, size & 0x7F
        length += bytes([digit | 0x80 if size else digit])
        if not size:
            return bytes([first]) + length + body


def connect(client_id: str, username: str, password: str) -> bytes:
    """Clean session, no keep-alive (a PINGREQ would be counted as a message's cost)."""
    return _packet(
        0x10, _text("MQTT") + b"\x04\xc2\x00\x00" + _text(client_id) + _text(username) + _text(password)
    )


def publish(topic: str, payload: bytes, packet_id: int = 0) -> bytes:
    """QoS 1 with a packet id, QoS 0 without."""
    if packet_id:
        return _packet(0x32, _text(topic) + packet_id.to_bytes(2, "big") + payload)
    return _packet(0x30, _text(topic) + payload)


def subscribe(topic_filter: str) -> bytes:
    return _packet(0x82, b"\x00\x01" + _text(topic_filter) + b"\x00")


def unsubscribe(topic_filter: str) -> bytes:
    return _packet(0xA2, b"\x00\x01" + _text(topic_filter))


def payload_of(packet: bytes, topic: str) -> bytes:
    """The payload of a QoS 0 PUBLISH on this topic. Raises ValueError for anything else."""
    start = next((number for number in range(1, 5) if not packet[number] & 0x80), 0) + 1
    payload = packet[start + len(_text(topic)) :]
    if publish(topic, payload) != packet:
        raise ValueError(f"{packet[:64]!r} is no whole message on {topic}")
    return payload
