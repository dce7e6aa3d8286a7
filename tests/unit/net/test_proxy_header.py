"""The bytes of a PROXY header: what proxies send, what attackers send, and each cut at every byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.net.proxy_header import HEADER_MAX, BadHeader, Header, read_header
from gateway.system.ip_address_blocks import Address

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
HERE = bytes([192, 0, 2, 7, 10, 0, 0, 2]) + struct.pack(">HH", 51234, 8883)
HERE6 = bytes.fromhex("20010db8000000000000000000000007" + "fd" + 15 * "00") + struct.pack(">HH", 51234, 8883)
SOURCE, SOURCE6 = Address("192.0.2.7", 51234), Address("2001:db8::7", 51234)
TLV = b"\x02\x00\x03abc"


def binary(family: int, body: bytes, *, command: int = 0x21, said: int | None = None) -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(body) if said is None else said) + body


GOOD = {
    "1, TCP4": (b"PROXY TCP4 192.0.2.7 10.0.0.2 51234 8883\r\n", SOURCE),
    "1, TCP6": (b"PROXY TCP6 2001:db8::7 fd00:: 51234 8883\r\n", SOURCE6),
    "1, the longest": (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None),
    "1, unknown": (b"PROXY UNKNOWN\r\n", None),
    "1, unknown with addresses": (b"PROXY UNKNOWN 192.0.2.7 10.0.0.2 1 2\r\n", None),
    "2, TCP4": (binary(0x11, HERE), SOURCE),
    "2, TCP6": (binary(0x21, HERE6), SOURCE6),
    "2, with TLVs": (binary(0x11, HERE + TLV + b"\x04\x00\x00"), SOURCE),
    "2, LOCAL": (binary(0x00, b"", command=0x20), None),
    "2, LOCAL with an address": (binary(0x11, HERE, command=0x20), None),
    "2, LOCAL with anything": (binary(0xFF, b"any bytes", command=0x20), None),
    "2, unspecified": (binary(0x00, b""), None),
    "2, unspecified with TLVs": (binary(0x00, TLV), None),
    "2, a Unix socket": (binary(0x31, bytes(216)), None),
    "2, the longest": (binary(0x11, HERE + b"\x04" + struct.pack(">H", 4_065) + bytes(4_065)), SOURCE),
}
BAD = {
    "TLS": bytes.fromhex("1603010200010001fc0303"),
    "MQTT": bytes.fromhex("100c00044d515454"),
    "HTTP": b"GET / HTTP/1.1\r\n",
    "lower case": b"proxy TCP4 192.0.2.7 10.0.0.2 1 2\r\n",
    "a tab": b"PROXY\tTCP4 192.0.2.7 10.0.0.2 1 2\r\n",
    "two spaces": b"PROXY TCP4  192.0.2.7 10.0.0.2 1 2\r\n",
    "a space at the end": b"PROXY TCP4 192.0.2.7 10.0.0.2 1 2 \r\n",
    "a bare line feed": b"PROXY TCP4 192.0.2.7 10.0.0.2 1 2\nPROXY UNKNOWN\r\n",
    "a control byte": b"PROXY UNKNOWN \x1b[2J\r\n",
    "UDP": b"PROXY UDP4 192.0.2.7 10.0.0.2 1 2\r\n",
    "a port too much": b"PROXY TCP4 192.0.2.7 10.0.0.2 65536 2\r\n",
    "a port with a zero": b"PROXY TCP4 192.0.2.7 10.0.0.2 01 2\r\n",
    "no port": b"PROXY TCP4 192.0.2.7 10.0.0.2 1\r\n",
    "octal": b"PROXY TCP4 192.0.2.07 10.0.0.2 1 2\r\n",
    "a short address": b"PROXY TCP4 192.0.2 10.0.0.2 1 2\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 fd00:: 1 2\r\n",
    "of another family": b"PROXY TCP4 2001:db8::7 fd00:: 1 2\r\n",
    "of two families": b"PROXY TCP6 2001:db8::7 10.0.0.2 1 2\r\n",
    "no end": b"PROXY UNKNOWN " + b"f" * 93,
    "an end too late": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    "version 3": binary(0x11, HERE, command=0x31),
    "an unknown command": binary(0x11, HERE, command=0x22),
    "UDP in 2": binary(0x12, HERE),
    "an unknown family": binary(0x41, HERE),
    "no room for addresses": binary(0x11, HERE[:-1]),
    "no room for those of IPv6": binary(0x21, HERE),
    "no room for those of Unix": binary(0x31, bytes(215)),
    "half a TLV": binary(0x11, HERE + b"\x02\x00"),
    "a TLV longer than the header": binary(0x11, HERE + b"\x02\x00\x04abc"),
    "too long": binary(0x11, HERE, said=HEADER_MAX - 15),
    "the longest there is": binary(0x11, b"", said=65_535),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_one_at_every_cut_and_with_more_behind_it(name):
    data, source = GOOD[name]
    for cut in range(1, len(data)):
        assert read_header(data[:cut]) is None, cut
    for behind in (b"", b"\x16\x03\x01", data):
        assert read_header(data + behind) == Header(len(data), source)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_one_is_refused_and_not_shown(name):
    with pytest.raises(BadHeader) as refused:
        read_header(BAD[name])
    assert "192.0.2" not in str(refused.value)
    assert str(refused.value).isprintable()


def test_the_longest_is_as_long_as_we_say():
    assert len(GOOD["2, the longest"][0]) == HEADER_MAX
    assert len(GOOD["1, the longest"][0]) == 107


@given(st.one_of(st.binary(), st.binary().map(SIGNATURE.__add__), st.binary().map(b"PROXY TCP4 ".__add__)))
def test_any_bytes_are_a_header_or_not_whole_or_refused(data):
    try:
        header = read_header(data) if data else None
    except BadHeader:
        return
    assert header is None or header.length <= len(data)
