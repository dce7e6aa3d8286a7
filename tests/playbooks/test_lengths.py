"""Packets whose length can't be right: refused from the header alone, as on Mosquitto 2.1.2.

Nobody waits for the rest, which may be 256 MiB that never come.
"""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from harness import raw
from harness.playbook import Playbook, established

from gateway.connection.commands import Close, SendToBus, SendToDevice
from gateway.connection.events import BusBytes, DeviceBytes
from gateway.mqtt.packet_length_limits import longest_packet

both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
cut = pytest.mark.parametrize("cut", [False, True], ids=["header alone", "whole"])
ACKNOWLEDGEMENTS = {"PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x62, "PUBCOMP": 0x70, "UNSUBACK": 0xB0}


def ends_at(book: Playbook, first: int, size: int, *, whole: bool) -> Playbook:
    """The connection ends without a word of the gateway's at the header, or at the packet."""
    packet = raw.packet(first, bytes(size))
    return book >> DeviceBytes(packet if whole else packet[:-size]) << Close(ANY)


@both
@cut
@pytest.mark.parametrize("size", [1, 2, 3, 200, 20_000])
@pytest.mark.parametrize("first", [0xC0, 0xC1, 0xD0, 0xD1], ids=hex)
def test_a_ping_is_empty_whatever_its_flags(v5, cut, size, first):
    assert ends_at(established(v5=v5), first, size, whole=cut)


@cut
@pytest.mark.parametrize("size", [1, 3, 4, 200, 20_000])
@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("first", ACKNOWLEDGEMENTS.values(), ids=ACKNOWLEDGEMENTS)
def test_an_acknowledgement_of_mqtt_311_is_a_packet_identifier(cut, size, flags, first):
    assert ends_at(established(), first | flags, size, whole=cut)


@cut
@pytest.mark.parametrize("size", [1, 2, 200])
def test_a_disconnect_of_mqtt_311_is_empty(cut, size):
    assert ends_at(established(), 0xE0, size, whole=cut)


@cut
@pytest.mark.parametrize("first", [*ACKNOWLEDGEMENTS.values(), 0xE0], ids=[*ACKNOWLEDGEMENTS, "DISCONNECT"])
def test_what_says_little_is_short_in_mqtt_5_too(cut, first):
    assert ends_at(established(v5=True), first, 10_001, whole=cut)


@both
@cut
@pytest.mark.parametrize("first", [0x10, 0xF0], ids=["CONNECT", "AUTH"])
def test_a_second_connect_and_an_auth_have_a_bound(v5, cut, first):
    assert ends_at(established(v5=v5), first, 100_001, whole=cut)


@cut
@pytest.mark.parametrize("first", [0x82, 0xA2], ids=["SUBSCRIBE", "UNSUBSCRIBE"])
def test_the_filters_of_mqtt_5_have_a_bound(cut, first):
    assert ends_at(established(v5=True), first, 100_001, whole=cut)


@pytest.mark.parametrize(
    ("v5", "size"), [(False, 200_000), (True, 100_000)], ids=["any length in 3.1.1", "the longest in 5"]
)
def test_as_many_filters_as_mosquitto_takes_are_waited_for(v5, size):
    """In 3.1.1 no bound but the bus's own; in MQTT 5 up to the very byte."""
    header = raw.packet(0x82, bytes(size))[:-size]
    assert established(v5=v5) >> DeviceBytes(header) >> DeviceBytes(b"\0\1")


@both
def test_a_length_that_comes_in_pieces_is_judged_when_it_is_whole(v5):
    book = established(v5=v5)
    assert book >> DeviceBytes(b"\xc0") >> DeviceBytes(b"\x80") >> DeviceBytes(b"\x01") << Close(ANY)


@both
def test_what_may_be_right_is_waited_for(v5):
    book = established(v5=v5)
    for packet in (raw.PINGREQ, raw.ack(0x62, 7), raw.publish("ok", bytes(20_000), v5=v5)):
        book = book >> DeviceBytes(packet[:-1]) >> DeviceBytes(packet[-1:]) << SendToBus(packet)
    assert book


@pytest.mark.parametrize(
    "announced", [2, 127, 128, 129, 130, 16_384, 16_385, 2_000_000, 2_097_153, 268_435_460]
)
def test_the_longest_packet_has_one_byte_less_behind_its_header_than_the_bus_announces(announced):
    rest = min(announced - 1, 268_435_455)
    assert longest_packet(announced) == 1 + len(raw.varint(rest)) + rest


def test_mqtt_31_may_subscribe_to_nothing():
    book = established(level=3)
    assert (
        book
        >> DeviceBytes(raw.packet(0x82, b"\0\7"))
        << SendToDevice(raw.packet(0x90, b"\0\7"))
        >> DeviceBytes(raw.packet(0xA2, b"\0\7"))
        << SendToDevice(raw.ack(0xB0, 7))
        >> BusBytes(raw.PINGRESP)
        << SendToDevice(raw.PINGRESP)
    )
