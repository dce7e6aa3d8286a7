"""Integers, strings and binary data, and every way of running past an end."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.data_types import Reader, decode_utf8, encode_binary, encode_length, read_length
from gateway.mqtt.errors import MalformedPacket, MqttError, PacketTooLarge


# MQTT 5, table 1-1
@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_the_table_of_the_standard(value, encoded):
    data = bytes.fromhex(encoded)
    assert encode_length(value) == data
    assert read_length(data, 0, len(data)) == (value, len(data))


@given(st.integers(0, 268_435_455), st.binary(max_size=3), st.binary(max_size=3))
def test_a_length_reads_as_it_was_written(value, before, behind):
    data = before + encode_length(value) + behind
    assert read_length(data, len(before), len(data)) == (value, len(data) - len(behind))
    for end in range(len(before), len(data) - len(behind)):
        assert read_length(data, len(before), end) is None


def test_what_is_too_long_is_not_written():
    with pytest.raises(PacketTooLarge):
        encode_length(268_435_456)


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x80\x80\x80\x80\x00", b"\xff\xff\xff\x80\x01"])
def test_a_fifth_byte_is_not_waited_for(data):
    with pytest.raises(MqttError):
        read_length(data, 0, len(data))
    with pytest.raises(MalformedPacket):
        Reader(data, 0, len(data)).length()


@pytest.mark.parametrize("text", ["", "a", "ü€🌍", "\ufeff", "\u0001"])
def test_strings(text):
    assert decode_utf8(text.encode()) == text


@pytest.mark.parametrize(
    "data", [b"\0", b"a\0b", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"]
)
def test_what_is_no_string(data):
    with pytest.raises(MalformedPacket):
        decode_utf8(data)


def test_a_reader_reads_from_front_to_back():
    data = b"??" + b"\x01" + b"\x02\x03" + b"\0\0\1\0" + b"\x80\x01" + b"\0\2hi" + b"rest" + b"??"
    reader = Reader(data, 2, len(data) - 2)
    assert reader.byte() == 1
    assert reader.two_bytes() == 0x0203
    assert reader.raw(4) == b"\0\0\1\0"
    assert reader.length() == 128
    assert reader.binary() == b"hi"
    assert reader.left == 4
    assert reader.raw(4) == b"rest"
    assert reader.left == 0
    for read in (reader.byte, reader.two_bytes, reader.length, reader.binary):
        with pytest.raises(MalformedPacket):
            read()
    with pytest.raises(MalformedPacket):
        reader.raw(1)
    assert reader.raw(0) == b""


@given(
    st.binary(max_size=8),
    st.integers(0, 8),
    st.sampled_from(["byte", "two_bytes", "length", "binary"]),
)
def test_a_reader_never_reads_behind_its_end(data, end, name):
    end = min(end, len(data))
    reader = Reader(data, 0, end)
    with contextlib.suppress(MalformedPacket):
        getattr(reader, name)()
    assert reader.pos <= end


@given(st.binary(max_size=300))
def test_binary_data_reads_as_it_was_written(data):
    written = encode_binary(data)
    assert Reader(written, 0, len(written)).binary() == data
