r"""The header by which a proxy says whose connection it passes on: PROXY protocol, versions 1 and 2.

Owns what its bytes mean (HAProxy's specification, proxy-protocol.txt, section 2). Must not know sockets, nor
whom to believe: that is `gateway.net.proxy_header_wait`. Sans-I/O: call it with what has come so far.

    1   PROXY TCP4 192.0.2.7 10.0.0.2 51234 8883\r\n                  a line of text
    2   \r\n\r\n\0\r\nQUIT\n 0x21 0x11 0x000c addresses ports TLVs   16 bytes, and as many as the last two say

Only the source address is used. What else a header may hold (a server name, a certificate's common name, an
id) is a claim about a TLS connection that the gateway has not seen: it must be well-formed, and is ignored.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass

from gateway.system.ip_address_blocks import Address

HEADER_MAX = 4_096
"""Bytes of a header, at most. Addresses take up to 232; proxies send a few hundred bytes of TLVs."""

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16
_LINE_MAX = 107
"""Bytes of version 1, its line end included (2.1)."""
_LINE = re.compile(rb"PROXY (TCP[46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) ([0-9]{1,5}) ([0-9]{1,5})")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?")
_VERSIONS = {b"TCP4": 4, b"TCP6": 6}

_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_NO_ADDRESS = {0x00: 0, 0x31: 216}
"""AF_UNSPEC and Unix sockets, where the proxy's client had no IP address: the bytes of their addresses."""


class BadHeader(Exception):
    """What came is not a valid PROXY header. The text says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class Header:
    """A complete header."""

    length: int
    """Its bytes; what follows belongs to the connection."""
    source: Address | None
    """Whose connection it is; None where the header names no address: it is the proxy's own."""


def read_header(data: bytes) -> Header | None:
    """The header that `data` begins with; None while it is not whole. Raises BadHeader."""
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _binary(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _text(data)
    raise BadHeader("it does not begin with a PROXY header")


def _text(data: bytes) -> Header | None:
    line, end, _ = data[:_LINE_MAX].partition(b"\r\n")
    if not end:
        if len(data) >= _LINE_MAX:
            raise BadHeader("the line of its PROXY header does not end")
        return None
    length = len(line) + len(end)
    if _UNKNOWN.fullmatch(line):
        return Header(length, None)
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadHeader("the line of its PROXY header is none")
    family, source, destination, *ports = match.groups()
    try:
        hosts = [ipaddress.ip_address(host.decode("ascii")) for host in (source, destination)]
    except ValueError:
        raise BadHeader("its PROXY header names no IP address") from None
    if {host.version for host in hosts} != {_VERSIONS[family]}:
        raise BadHeader("its PROXY header names an address of another family")
    numbers = [int(port) for port in ports]
    if max(numbers) > 65_535 or any(len(port) > 1 and port.startswith(b"0") for port in ports):
        raise BadHeader("its PROXY header names no port")
    return Header(length, Address(str(hosts[0]), numbers[0]))


def _binary(data: bytes) -> Header | None:
    if len(data) < _FIXED:
        return None
    command, family, rest = struct.unpack_from(">BBH", data, len(_SIGNATURE))
    if command not in {_LOCAL, _PROXY}:
        raise BadHeader("its PROXY header has an unknown version or command")
    length = _FIXED + rest
    if length > HEADER_MAX:
        raise BadHeader(f"its PROXY header is longer than {HEADER_MAX} bytes")
    if len(data) < length:
        return None
    if command == _LOCAL:
        return Header(length, None)  # "and must discard the protocol block" (2.2)
    body = data[_FIXED:length]
    if family in {_TCP4, _TCP6}:
        wide = 4 if family == _TCP4 else 16
        _demand_whole_tlvs(body, 2 * wide + 4)
        (port,) = struct.unpack_from(">H", body, 2 * wide)
        return Header(length, Address(str(ipaddress.ip_address(body[:wide])), port))
    if family in _NO_ADDRESS:
        _demand_whole_tlvs(body, _NO_ADDRESS[family])
        return Header(length, None)
    raise BadHeader("its PROXY header is of a protocol that is not TCP")


def _demand_whole_tlvs(body: bytes, at: int) -> None:
    """Addresses up to `at`, and then type, length and value, again and again (2.2.1)."""
    if len(body) < at:
        raise BadHeader("the addresses of its PROXY header are cut short")
    while at < len(body):
        if at + 3 > len(body):
            raise BadHeader("a part of its PROXY header is cut short")
        at += 3 + int.from_bytes(body[at + 1 : at + 3], "big")
    if at > len(body):
        raise BadHeader("a part of its PROXY header is longer than the header")
