"""Where packets begin and end."""

from __future__ import annotations

import pytest
from harness import raw

from gateway.mqtt.errors import MqttError, PacketTooLarge, Unanswerable
from gateway.mqtt.framing import check_first_byte, first_packet, framed, packet_at


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_a_packet_is_found_where_it_was_put(size):
    packet = framed(0x30, b"x" * size)
    assert packet == raw.packet(0x30, b"x" * size)
    body = len(packet) - size
    assert packet_at(b"before" + packet + b"behind", 6) == (6 + body, 6 + len(packet))
    assert packet_at(packet[:body], 0) == (body, len(packet))
    for cut in range(body):
        assert packet_at(packet[:cut], 0) is None


def test_a_fifth_byte_of_length_is_not_waited_for():
    with pytest.raises(Unanswerable):
        packet_at(b"\x30\xff\xff\xff\xff", 0)


def test_the_first_packet_is_waited_for_unless_it_is_too_long():
    packet = framed(0x10, b"123")
    assert first_packet(packet[:-1], 5, "") is None
    assert first_packet(packet + b"more", 5, "") == (2, 5)
    with pytest.raises(PacketTooLarge, match="so long"):
        first_packet(packet[:2], 4, "so long")


@pytest.mark.parametrize("kind", range(16))
def test_flags_that_a_packet_may_not_have(kind):
    right = 2 if kind in {6, 8, 10} else 0
    assert check_first_byte(kind << 4 | right) == kind
    for flags in set(range(16)) - {right}:
        if kind != 3:
            with pytest.raises(MqttError):
                check_first_byte(kind << 4 | flags)
