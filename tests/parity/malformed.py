"""Packets that the standard forbids or hardly allows, each behind a good CONNECT."""

from __future__ import annotations

import struct
from collections.abc import Callable

from harness import raw
from parity.exchange import Scenario, Side

BOTH, V311, V5 = (False, True), (False,), (True,)


def _id(number: int = 1) -> bytes:
    return struct.pack(">H", number)


def _publish(side: Side, first: int, topic: bytes, ident: bytes = b"", props: bytes = b"") -> bytes:
    return raw.packet(first, raw.text(topic) + ident + (raw.properties(props) if side.v5 else b"") + b"x")


def _subscribe(
    side: Side, body: bytes, *, first: int = 0x82, ident: bytes = _id(), props: bytes = b""
) -> bytes:
    return raw.packet(first, ident + (raw.properties(props) if side.v5 else b"") + body)


def _prop_publish(props: bytes) -> Callable[[Side], bytes]:
    return lambda side: side.publish("t", b"x", qos=1, packet_id=1, props=props)


def _filters_of(first: int, size: int) -> Callable[[Side], bytes]:
    """A good SUBSCRIBE or UNSUBSCRIBE of two long filters, with this remaining length."""

    def packet(side: Side) -> bytes:
        options = b"\0" if first == 0x82 else b""
        head = _id() + (raw.properties(b"") if side.v5 else b"")
        room = size - len(head) - 2 * (2 + len(options))
        lengths = (room // 2, room - room // 2)
        return raw.packet(first, head + b"".join(raw.text(b"f" * length) + options for length in lengths))

    return packet


# Topics and filters that are none, and what may not stand where.
_BAD_UTF8 = (b"a\xc0\xafb", b"a\xed\xa0\x80", b"\xff", b"a\xf4\x90\x80\x80", b"\xc3")
_BAD_NAMES = {
    "wildcard #": b"a/#",
    "wildcard +": b"a/+/b",
    "NUL": b"a\0b",
    "empty": b"",
    "lone #": b"#",
    "201 levels": b"/" * 200,
    "200 levels": b"/" * 199,
    "202 levels": b"/" * 201,
    "control": b"a\x01b",
    "delete": b"a\x7fb",
    "non-character": b"a\xef\xbf\xbe",
    "byte order mark": b"\xef\xbb\xbfa",
    "4 bytes": b"\xf0\x9f\x98\x80",
    "C1": b"a\xc2\x85b",
    "share": b"$share/g/t",
    "$SYS": b"$SYS/broker/uptime",
} | {f"UTF-8 {i}": one for i, one in enumerate(_BAD_UTF8)}
# No topic of the table above matches one of these: the scenarios run at the same time.
_BAD_FILTERS = {
    "# inside": b"f/#/b",
    "# behind": b"f#",
    "+ in level": b"f+/b",
    "+ behind": b"f/b+",
    "NUL": b"f\0b",
    "empty": b"",
    "## ": b"##",
    "201 levels": b"f" + b"/" * 200,
    "202 levels": b"f" + b"/" * 201,
    "200 levels": b"f" + b"/" * 199,
    "control": b"f\x01b",
    "non-character": b"f\xef\xbf\xbe",
    "share without filter": b"$share/g",
    "share, empty filter": b"$share/g/",
    "share, empty group": b"$share//f",
    "share, + in group": b"$share/g+/f",
    "share, # in group": b"$share/#/f",
    "share alone": b"$share",
    "share, nothing": b"$share/",
    "share, bad filter": b"$share/g/f#",
    "share, lone +": b"$share/+",
    "share, lone #": b"$share/#",
    "share, + as group": b"$share/+/f",
    "share, # as filter": b"$share/g/f/#",
    "share, slash": b"$share/g//",
} | {f"UTF-8 {i}": one for i, one in enumerate(_BAD_UTF8)}
_BAD_OPTIONS = {
    0x03: BOTH,
    0x04: V311,
    0x08: V311,
    0x30: BOTH,
    0x40: BOTH,
    0x80: BOTH,
    0xFF: BOTH,
    0x10: V311,
}

_PUBLISH_PROPS = {
    "unknown": b"\x7f\x00",
    "id 0": b"\x00\x00",
    "of CONNECT": b"\x21\x00\x05",
    "of CONNACK": b"\x12\x00\x01a",
    "cut string": b"\x03\x00\x05ab",
    "cut integer": b"\x02\x00\x00",
    "no value": b"\x01",
    "twice": b"\x01\x00\x01\x00",
    "expiry twice": b"\x02\x00\x00\x00\x09" * 2,
    "format 2": b"\x01\x02",
    "response topic with +": b"\x08\x00\x03a/+",
    "response topic empty": b"\x08\x00\x00",
    "response topic with NUL": b"\x08\x00\x03a\0b",
    "content type not UTF-8": b"\x03\x00\x01\xff",
    "user property not UTF-8": b"\x26\x00\x01\xff\x00\x01a",
    "user property with NUL": b"\x26\x00\x01\0\x00\x01a",
    "cut user property": b"\x26\x00\x01a",
    # The first fault that is met is answered: none for bad text.
    "user property not UTF-8, then unknown": b"\x26\x00\x01\xff\x00\x01a\x7f\x00",
    "of CONNECT, then user property not UTF-8": b"\x21\x00\x05\x26\x00\x01\xff\x00\x01a",
    "alias twice, then user property not UTF-8": b"\x23\x00\x01" * 2 + b"\x26\x00\x01\xff\x00\x01a",
    "subscription identifier": b"\x0b\x01",
    "subscription identifier 0": b"\x0b\x00",
    "subscription identifier of five bytes": b"\x0b\x80\x80\x80\x80\x01",
    "alias 0": b"\x23\x00\x00",
    "alias over the maximum": b"\x23\x00\x0b",
    "alias twice": b"\x23\x00\x01\x23\x00\x02",
    "reason string": b"\x1f\x00\x01a",
    "two content types": b"\x03\x00\x01a\x03\x00\x01b",
    "correlation twice": b"\x09\x00\x01a\x09\x00\x01b",
    "two response topics": b"\x08\x00\x01a\x08\x00\x01b",
}

# Name, versions, the packet.
_PACKETS: list[tuple[str, tuple[bool, ...], Callable[[Side], bytes]]] = [
    ("publish QoS 3", BOTH, lambda s: _publish(s, 0x36, b"t", _id())),
    ("publish QoS 0 DUP", BOTH, lambda s: _publish(s, 0x38, b"t")),
    ("publish QoS 1 DUP", BOTH, lambda s: _publish(s, 0x3A, b"t", _id())),
    ("publish packet id 0, QoS 1", BOTH, lambda s: _publish(s, 0x32, b"t", _id(0))),
    ("publish packet id 0, QoS 2", BOTH, lambda s: _publish(s, 0x34, b"t", _id(0))),
    ("publish of nothing", BOTH, lambda s: raw.packet(0x30)),
    ("publish QoS 1 of nothing", BOTH, lambda s: raw.packet(0x32)),
    ("publish cut in topic", BOTH, lambda s: raw.packet(0x30, b"\0\x09abc")),
    ("publish cut in length", BOTH, lambda s: raw.packet(0x30, b"\0")),
    ("publish without packet id", BOTH, lambda s: raw.packet(0x32, raw.text("t"))),
    ("publish half a packet id", BOTH, lambda s: raw.packet(0x32, raw.text("t") + b"\0")),
    ("publish without properties", V5, lambda s: raw.packet(0x30, raw.text("t"))),
    ("publish properties overrun", V5, lambda s: raw.packet(0x30, raw.text("t") + b"\x09\x01\x00")),
    (
        "publish properties of five bytes",
        V5,
        lambda s: raw.packet(0x30, raw.text("t") + b"\xff\xff\xff\xff\x01"),
    ),
    ("publish properties cut in length", V5, lambda s: raw.packet(0x30, raw.text("t") + b"\x80")),
    ("publish no topic, no alias", V5, lambda s: _publish(s, 0x30, b"")),
    ("publish unknown alias", V5, lambda s: _publish(s, 0x30, b"", props=b"\x23\x00\x03")),
    ("publish longer than the bus takes", BOTH, lambda s: s.publish(s.topic, bytes(2_000_000))),
    ("publish length of five bytes", BOTH, lambda s: b"\x30\xff\xff\xff\xff\x01" + bytes(9)),
    ("puback flags", BOTH, lambda s: raw.packet(0x41, _id())),
    ("puback unknown", BOTH, lambda s: raw.packet(0x40, _id(77))),
    ("puback packet id 0", BOTH, lambda s: raw.packet(0x40, _id(0))),
    ("puback empty", BOTH, lambda s: raw.packet(0x40)),
    ("puback one byte", BOTH, lambda s: raw.packet(0x40, b"\0")),
    ("puback longer", V311, lambda s: raw.packet(0x40, _id(77) + b"\0")),
    ("puback bad reason", V5, lambda s: raw.packet(0x40, _id(77) + b"\x03")),
    ("puback bad properties", V5, lambda s: raw.packet(0x40, _id(77) + b"\x00\x03\x21\x00\x01")),
    ("pubrec unknown", BOTH, lambda s: raw.packet(0x50, _id(77))),
    ("pubrec flags", BOTH, lambda s: raw.packet(0x52, _id(77))),
    ("pubrec packet id 0", BOTH, lambda s: raw.packet(0x50, _id(0))),
    ("pubrec empty", BOTH, lambda s: raw.packet(0x50)),
    ("pubrec bad reason", V5, lambda s: raw.packet(0x50, _id(77) + b"\x03")),
    ("pubrel unknown", BOTH, lambda s: raw.packet(0x62, _id(77))),
    ("pubrel flags 0", BOTH, lambda s: raw.packet(0x60, _id(77))),
    ("pubrel flags", BOTH, lambda s: raw.packet(0x6F, _id(77))),
    ("pubrel packet id 0", BOTH, lambda s: raw.packet(0x62, _id(0))),
    ("pubrel empty", BOTH, lambda s: raw.packet(0x62)),
    ("pubrel bad reason", V5, lambda s: raw.packet(0x62, _id(77) + b"\x03")),
    ("pubrel longer", V311, lambda s: raw.packet(0x62, _id(77) + b"\0")),
    ("pubcomp unknown", BOTH, lambda s: raw.packet(0x70, _id(77))),
    ("pubcomp flags", BOTH, lambda s: raw.packet(0x72, _id(77))),
    ("pubcomp packet id 0", BOTH, lambda s: raw.packet(0x70, _id(0))),
    ("subscribe flags 0", BOTH, lambda s: _subscribe(s, raw.text(s.topic) + b"\0", first=0x80)),
    ("subscribe flags 3", BOTH, lambda s: _subscribe(s, raw.text(s.topic) + b"\0", first=0x83)),
    ("subscribe packet id 0", BOTH, lambda s: _subscribe(s, raw.text(s.topic) + b"\0", ident=_id(0))),
    ("subscribe to nothing", BOTH, lambda s: _subscribe(s, b"")),
    ("subscribe of nothing", BOTH, lambda s: raw.packet(0x82)),
    ("subscribe half a packet id", BOTH, lambda s: raw.packet(0x82, b"\0")),
    ("subscribe without options", BOTH, lambda s: _subscribe(s, raw.text(s.topic))),
    ("subscribe cut in filter", BOTH, lambda s: _subscribe(s, b"\0\x09ab")),
    (
        "subscribe good then bad",
        BOTH,
        lambda s: _subscribe(s, raw.text(s.topic) + b"\0" + raw.text("a/#/b") + b"\0"),
    ),
    ("subscribe identifier 0", V5, lambda s: _subscribe(s, raw.text(s.topic) + b"\0", props=b"\x0b\x00")),
    (
        "subscribe identifier twice",
        V5,
        lambda s: _subscribe(s, raw.text(s.topic) + b"\0", props=b"\x0b\x01\x0b\x02"),
    ),
    (
        "subscribe identifier largest",
        V5,
        lambda s: _subscribe(s, raw.text(s.topic) + b"\0", props=b"\x0b\xff\xff\xff\x7f"),
    ),
    (
        "subscribe identifier of five bytes",
        V5,
        lambda s: _subscribe(s, raw.text(s.topic) + b"\0", props=b"\x0b\xff\xff\xff\xff\x01"),
    ),
    ("subscribe wrong property", V5, lambda s: _subscribe(s, raw.text(s.topic) + b"\0", props=b"\x01\x00")),
    ("subscribe unknown property", V5, lambda s: _subscribe(s, raw.text(s.topic) + b"\0", props=b"\x7f\x00")),
    (
        "subscribe property not UTF-8, then unknown",
        V5,
        lambda s: _subscribe(s, raw.text(s.topic) + b"\0", props=b"\x26\0\1\xff\0\1b\x7f\0"),
    ),
    *[
        (
            f"{name} property not UTF-8, then a filter that is cut",
            V5,
            lambda s, f=first: raw.packet(f, _id() + raw.properties(b"\x26\0\1\xff\0\1b") + b"\0\x09a"),
        )
        for name, first in {"subscribe": 0x82, "unsubscribe": 0xA2}.items()
    ],
    (
        "unsubscribe property not UTF-8, then unknown",
        V5,
        lambda s: _subscribe(s, raw.text(s.topic), first=0xA2, props=b"\x26\0\1\xff\0\1b\x7f\0"),
    ),
    (
        "subscribe user property",
        V5,
        lambda s: _subscribe(s, raw.text(s.topic) + b"\0", props=b"\x26\x00\x01a\x00\x01b" * 2),
    ),
    ("subscribe properties overrun", V5, lambda s: raw.packet(0x82, _id() + b"\x63" + raw.text("t") + b"\0")),
    ("subscribe shared, no local", V5, lambda s: _subscribe(s, raw.text(f"$share/g/{s.topic}") + b"\x04")),
    ("subscribe twice the same", BOTH, lambda s: _subscribe(s, (raw.text(s.topic) + b"\0") * 2)),
    ("unsubscribe flags 0", BOTH, lambda s: _subscribe(s, raw.text(s.topic), first=0xA0)),
    ("unsubscribe packet id 0", BOTH, lambda s: _subscribe(s, raw.text(s.topic), first=0xA2, ident=_id(0))),
    ("unsubscribe from nothing", BOTH, lambda s: _subscribe(s, b"", first=0xA2)),
    ("unsubscribe of nothing", BOTH, lambda s: raw.packet(0xA2)),
    ("unsubscribe cut in filter", BOTH, lambda s: _subscribe(s, b"\0\x09ab", first=0xA2)),
    (
        "unsubscribe wrong property",
        V5,
        lambda s: _subscribe(s, raw.text(s.topic), first=0xA2, props=b"\x0b\x01"),
    ),
    (
        "unsubscribe user property",
        V5,
        lambda s: _subscribe(s, raw.text(s.topic), first=0xA2, props=b"\x26\x00\x01a\x00\x01b"),
    ),
    *[
        (f"{name} of {size:,} bytes", BOTH, _filters_of(first, size))
        for name, first in {"subscribe": 0x82, "unsubscribe": 0xA2}.items()
        for size in (100_000, 100_001)
    ],
    ("pingreq flags", BOTH, lambda s: raw.packet(0xC1)),
    ("pingreq with a body", BOTH, lambda s: raw.packet(0xC0, b"x")),
    ("disconnect flags", BOTH, lambda s: raw.packet(0xE1)),
    ("disconnect with a body", V311, lambda s: raw.packet(0xE0, b"\0")),
    ("disconnect bad reason", V5, lambda s: raw.packet(0xE0, b"\x03")),
    ("disconnect wrong property", V5, lambda s: raw.packet(0xE0, b"\0\x03\x21\0\x01")),
    ("disconnect bytes behind", V5, lambda s: raw.packet(0xE0, b"\0\0x")),
    ("disconnect properties overrun", V5, lambda s: raw.packet(0xE0, b"\0\x09")),
    ("disconnect expiry though 0 before", V5, lambda s: raw.packet(0xE0, b"\0\x05\x11\0\0\0\x09")),
    ("second connect", BOTH, lambda s: s.connect_packet()),
    ("second connect with flags", BOTH, lambda s: s.connect_packet(first=0x11)),
    ("type 0", BOTH, lambda s: raw.packet(0x00)),
    ("type 0 with flags", BOTH, lambda s: raw.packet(0x05, b"abc")),
    ("connack", BOTH, lambda s: raw.packet(0x20, b"\0\0")),
    ("connack flags", BOTH, lambda s: raw.packet(0x29, b"\0\x01")),
    ("suback", BOTH, lambda s: raw.packet(0x90, _id() + b"\0")),
    ("unsuback", BOTH, lambda s: raw.packet(0xB0, _id())),
    ("pingresp", BOTH, lambda s: raw.packet(0xD0)),
    ("suback flags", BOTH, lambda s: raw.packet(0x92, _id() + b"\0")),
    ("unsuback flags", BOTH, lambda s: raw.packet(0xB2, _id())),
    ("pingresp flags", BOTH, lambda s: raw.packet(0xD1)),
    ("pingresp with a body", BOTH, lambda s: raw.packet(0xD0, b"x")),
    ("pingresp with flags and a body", BOTH, lambda s: raw.packet(0xD1, b"x")),
    ("pingreq with flags and a body", BOTH, lambda s: raw.packet(0xC1, b"x")),
    ("auth", BOTH, lambda s: raw.packet(0xF0)),
    ("auth continue", V5, lambda s: raw.packet(0xF0, b"\x18\x00")),
    ("auth with a method", V5, lambda s: raw.packet(0xF0, b"\x19" + raw.properties(b"\x15" + raw.text("X")))),
    ("auth flags", BOTH, lambda s: raw.packet(0xF1)),
]


def table() -> list[tuple[str, tuple[bool, ...], Scenario]]:
    """Every malformed packet as a scenario."""
    rows = list(_PACKETS)
    for name, topic in _BAD_NAMES.items():
        rows.append((f"publish topic {name}", BOTH, lambda s, t=topic: _publish(s, 0x32, t, _id())))
    for name, one in _BAD_FILTERS.items():
        rows.append((f"subscribe filter {name}", BOTH, lambda s, t=one: _subscribe(s, raw.text(t) + b"\0")))
        rows.append(
            (f"unsubscribe filter {name}", BOTH, lambda s, t=one: _subscribe(s, raw.text(t), first=0xA2))
        )
    for options, versions in _BAD_OPTIONS.items():
        rows.append(
            (
                f"subscribe options {options:#04x}",
                versions,
                lambda s, o=options: _subscribe(s, raw.text(s.topic) + bytes([o])),
            )
        )
    rows += [(f"publish property {name}", V5, _prop_publish(props)) for name, props in _PUBLISH_PROPS.items()]
    return [(name, versions, _behind_connect(packet)) for name, versions, packet in rows]


def _behind_connect(packet: Callable[[Side], bytes]) -> Scenario:
    def scenario(side: Side) -> None:
        side.connect("a").ask(packet(side))

    return scenario
