"""First packets, legal and not: each on a connection of its own, with a PINGREQ behind it."""

from __future__ import annotations

from collections.abc import Callable

from harness import raw
from parity.exchange import Scenario, Side

BOTH, V311, V5 = (False, True), (False,), (True,)


def _with(client_id: str | bytes | None = None, **description: object) -> Callable[[Side], bytes]:
    return lambda side: side.connect_packet(client_id, **description)


def _named(client_id: str | bytes) -> Callable[[Side], bytes]:
    """A CONNECT with this client id, and behind it what keeps the scenarios apart."""
    start = client_id.encode() if isinstance(client_id, str) else client_id
    return lambda side: side.connect_packet(start + side.topic.encode())


def _of_size(size: int) -> Callable[[Side], bytes]:
    """A CONNECT of so many bytes, most of them its will."""

    def build(side: Side) -> bytes:
        def packet(payload: int) -> bytes:
            return side.connect_packet(will=(side.topic, bytes(payload), 0, False))

        return packet(60_000 + size - len(packet(60_000)))

    return build


def _of_one_that_may_seal(side: Side) -> bytes:
    username, password = side.registry.sealed
    return side.connect_packet(username=username, password=password)


def _cut(count: int) -> Callable[[Side], bytes]:
    """A CONNECT whose body ends after so many bytes."""

    def build(side: Side) -> bytes:
        whole = side.connect_packet()
        return raw.packet(0x10, whole[2 : 2 + count])

    return build


# MQTT 3.1 says less of what may not be, and Mosquitto looks at less of it there.
_OF_3_1: dict[str, dict[str, object]] = {
    "reserved flag": {"flags": 0x01},
    "flags in the first byte": {"first": 0x1F},
    "will QoS without will": {"flags": 0x08},
    "will retain without will": {"flags": 0x20},
    "will QoS 3": {"will": ("t", b"x", 3, False)},
    "empty id": {"client_id": ""},
    "password without a user name": {"username": None, "password": b"x"},
    "bytes behind": {"tail": b"x"},
}


def _old(**description: object) -> Callable[[Side], bytes]:
    return lambda side: side.connect_packet(**{"name": b"MQIsdp", "level": 3, **description})


def _old_credentials(tail: bytes) -> Callable[[Side], bytes]:
    """A CONNECT of MQTT 3.1 that promises user name and password, with these bytes in their place."""

    def build(side: Side) -> bytes:
        nobody = {"username": None, "password": None}
        return side.connect_packet(name=b"MQIsdp", level=3, flags=0xC0, tail=tail, **nobody)

    return build


def _cut_behind(client_id: bytes, topic: bytes | None = None) -> Callable[[Side], bytes]:
    """A CONNECT whose end is missing: of the credentials, or, where it has a will, of its payload."""

    def build(side: Side) -> bytes:
        tail = b"\xff\xff"
        if topic is not None:
            tail = (raw.properties() if side.v5 else b"") + raw.text(topic) + tail
        nobody = {"username": None, "password": None}
        return side.connect_packet(client_id, flags=0xC0 if topic is None else 0x04, tail=tail, **nobody)

    return build


def _always(data: bytes) -> Callable[[Side], bytes]:
    return lambda _: data


_FIRST: list[tuple[str, tuple[bool, ...], Callable[[Side], bytes]]] = [
    ("plain", BOTH, _with()),
    ("not clean", BOTH, _with(clean=False)),
    ("keep alive 0", BOTH, _with(keep_alive=0)),
    ("keep alive 65535", BOTH, _with(keep_alive=65535)),
    ("name MQTX", BOTH, _with(name=b"MQTX")),
    ("name mqtt", BOTH, _with(name=b"mqtt")),
    ("no name", BOTH, _with(name=b"")),
    ("long name", BOTH, _with(name=b"MQTT" * 1000)),
    ("name MQIsdp", BOTH, _with(name=b"MQIsdp")),
    ("name ABCDEF", BOTH, _with(name=b"ABCDEF")),
    *[(f"level {level:#04x}", V311, _with(level=level)) for level in (0, 1, 2, 3, 6, 7, 0x83, 0x86, 0xFF)],
    ("level 3 of MQIsdp", V311, _with(name=b"MQIsdp", level=3)),
    ("level 4 as a bridge", V311, _with(level=0x84)),
    # The level is looked at before the name, and of the name nothing behind a NUL.
    *[
        (f"level {level} of {said}", V311, _with(name=name, level=level))
        for level in (2, 4, 6)
        for said, name in {"MQTX": b"MQTX", "MQIsdP": b"MQIsdP", "MQTT and NULs": b"MQTT\0\0"}.items()
    ],
    *[(f"MQIsdp, {name}", V311, _old(**one)) for name, one in _OF_3_1.items()],
    # The client id is looked at before all that stands behind it.
    *[
        (f"empty id of {name}, and {fault}", V311, packet(client_id="", clean=clean, **one))
        for name, packet, clean in (("MQIsdp", _old, True), ("a lasting session", _with, False))
        for fault, one in {
            "bytes behind": {"tail": b"x"},
            "a password alone": {"username": None, "password": b"x"},
            "a will topic with #": {"will": ("a/#", b"x", 0, False)},
        }.items()
    ],
    ("id with a control character, and no more", BOTH, _cut_behind(b"a\x01b")),
    ("id with a surrogate, and no more", BOTH, _cut_behind(b"a\xed\xa0\x80")),
    *[
        (f"will topic {name}, and no more", BOTH, _cut_behind(b"a", topic))
        for name, topic in {"NUL": b"a\0", "control": b"a\x01", "#": b"#", "not UTF-8": b"\xff"}.items()
    ],
    ("will topic #, wrong password", BOTH, _with(will=("#", b"x", 0, False), password=b"x")),
    ("MQIsdp, wrong password", V311, _old(password=b"x")),
    *[
        (f"MQIsdp, credentials {tail.hex()}", V311, _old_credentials(tail))
        for tail in (b"\0", b"\0\1\0", b"\0\2a", b"\0\1\xff\0", b"\0\1a\0", b"\0\1a\0\2b")
    ],
    ("flags in the first byte", BOTH, _with(first=0x11)),
    ("reserved flag", BOTH, _with(flags=0x01)),
    ("will QoS without will", BOTH, _with(flags=0x08)),
    ("will retain without will", BOTH, _with(flags=0x20)),
    ("will QoS 3", BOTH, _with(will=("t", b"x", 3, False))),
    ("will flag without will", BOTH, _with(flags=0x04)),
    ("password without a user name", V311, _with(username=None, password=b"x")),
    ("of one that may seal", BOTH, _of_one_that_may_seal),
    ("wrong password", BOTH, _with(password=b"top\0\0")),
    ("user name of nobody", BOTH, _with(username=b"nobody", password=b"x")),
    ("user name without a password", BOTH, _with(username=b"parity", password=None)),
    ("user name not UTF-8", BOTH, _with(username=b"\xff\xfe")),
    ("user name with NUL", BOTH, _with(username=b"a\0b")),
    ("user name with a control character", BOTH, _with(username=b"a\x1fb")),
    ("user name with C1", BOTH, _with(username=b"a\xc2\x9fb")),
    ("user name with a non-character", BOTH, _with(username=b"a\xef\xbf\xbe")),
    ("user name flag without user name", BOTH, _with(username=None, password=None, flags=0x80)),
    ("user name without flag", BOTH, _with(username=None, password=None, tail=raw.text("x"))),
    ("empty id, clean", BOTH, _with("")),
    ("empty id, not clean", BOTH, _with("", clean=False)),
    ("id not UTF-8", BOTH, _with(b"a\xff")),
    ("id with NUL", BOTH, _with(b"a\0b")),
    ("id with a control character", BOTH, _named(b"a\x01b")),
    ("id with C1", BOTH, _named(b"a\xc2\x85b")),
    ("id with a surrogate", BOTH, _with(b"a\xed\xa0\x80")),
    ("id with a non-character", BOTH, _named(b"a\xef\xbf\xbe")),
    ("id of wildcards", BOTH, _named("a/+/#")),
    ("id with a slash", BOTH, _named("/a//b/")),
    ("id of two dots", BOTH, _named("../..")),
    ("id of blanks and signs", BOTH, _named(" \"'\\%s{}$ ")),
    ("id in another script", BOTH, _named("машина-№1-🛵")),
    ("id of 24 characters", BOTH, _named("i" * 24)),
    ("id of 60,000 bytes", BOTH, _named("i" * 60_000)),
    ("password without a user name, v5", V5, _with(username=None, password=b"x")),
    ("of 65,536 bytes", BOTH, _of_size(65_536)),
    ("of 65,537 bytes", BOTH, _of_size(65_537)),
    ("bytes behind", BOTH, _with(tail=b"x")),
    *[(f"cut after {count}", BOTH, _cut(count)) for count in (0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13)],
    ("will", BOTH, _with(will=("t", b"x", 1, True))),
    ("will, empty payload", BOTH, _with(will=("t", b"", 2, True))),
    ("will, 60,000 bytes", BOTH, _with(will=("t", bytes(60_000), 0, False))),
    ("will, binary", BOTH, _with(will=("t", b"\xff\0\xfe", 0, False))),
    *[
        (f"will topic {name}", BOTH, _with(will=(topic, b"x", 0, False)))
        for name, topic in {
            "empty": b"",
            "+": b"a/+",
            "#": b"#",
            "NUL": b"a\0",
            "not UTF-8": b"\xff",
            "control": b"a\x01",
            "202 levels": b"/" * 201,
            "201 levels": b"/" * 200,
            "$SYS": b"$SYS/x",
            "$share": b"$share/g/t",
        }.items()
    ],
    *[
        (f"property {name}", V5, _with(props=props))
        for name, props in {
            "unknown": b"\x7f\x00",
            "of PUBLISH": b"\x01\x00",
            "of CONNACK": b"\x12\x00\x01a",
            "receive maximum": b"\x21\x00\x05",
            "receive maximum 0": b"\x21\x00\x00",
            "receive maximum twice": b"\x21\x00\x05\x21\x00\x05",
            "maximum packet size": b"\x27\x00\x00\x01\x00",
            "maximum packet size 0": b"\x27\x00\x00\x00\x00",
            "maximum packet size 1": b"\x27\x00\x00\x00\x01",
            "maximum packet size 10": b"\x27\x00\x00\x00\x0a",
            "maximum packet size 11": b"\x27\x00\x00\x00\x0b",
            "maximum packet size twice": b"\x27\x00\x00\x01\x00" * 2,
            "session expiry": b"\x11\x00\x00\x00\x05",
            "session expiry never": b"\x11\xff\xff\xff\xff",
            "session expiry twice": b"\x11\x00\x00\x00\x05" * 2,
            "alias maximum": b"\x22\x00\x05",
            "alias maximum 0": b"\x22\x00\x00",
            "alias maximum twice": b"\x22\x00\x05\x22\x00\x05",
            "problem information 0": b"\x17\x00",
            "problem information 1": b"\x17\x01",
            "problem information 2": b"\x17\x02",
            "problem information twice": b"\x17\x01\x17\x01",
            "response information 1": b"\x19\x01",
            "response information 2": b"\x19\x02",
            "response information twice": b"\x19\x01\x19\x01",
            "user": b"\x26\x00\x01a\x00\x01b" * 3,
            "user, 257 times": b"\x26\x00\x01a\x00\x01b" * 257,
            "user not UTF-8": b"\x26\x00\x01\xff\x00\x01b",
            "user with NUL": b"\x26\x00\x01\0\x00\x01b",
            "user cut": b"\x26\x00\x01a",
            "method": b"\x15\x00\x01X",
            "method empty": b"\x15\x00\x00",
            "method twice": b"\x15\x00\x01X" * 2,
            "method and data": b"\x15\x00\x01X\x16\x00\x01Y",
            "method empty, and data": b"\x15\x00\x00\x16\x00\x01Y",
            "data without method": b"\x16\x00\x01Y",
            "data empty": b"\x16\x00\x00",
            # The first fault that is met is answered, wherever the list was to end.
            "of PUBLISH, then unknown": b"\x01\x00\x7f\x00",
            "of PUBLISH, then no text": b"\x01\x00\x26\x00\x01\xff\x00\x01b",
            "no text, then unknown": b"\x26\x00\x01\xff\x00\x01b\x7f\x00",
            "no text, then cut": b"\x26\x00\x01\xff\x00\x05b",
            "twice, then no text": b"\x21\x00\x05\x21\x00\x05\x26\x00\x01\xff\x00\x01b",
            "that runs into the client id": b"\x1f\x00\x01",
            "user with a control character": b"\x26\x00\x01\x1f\x00\x01b",
            "method with a non-character": b"\x15\x00\x03\xef\xbf\xbe",
            "id in more bytes than it needs": b"\xa6\x00\x00\x01a\x00\x01b",
            "cut": b"\x21\x00",
            "id of two bytes": b"\xa1\x00\x05",
            "all": b"\x11\x00\x00\x00\x05\x21\x00\x05\x22\x00\x05",
        }.items()
    ],
    *[
        (f"will property {name}", V5, _with(will=("t", b"x", 0, False), will_props=props))
        for name, props in {
            "delay": b"\x18\x00\x00\x00\x05",
            "delay twice": b"\x18\x00\x00\x00\x05" * 2,
            "of CONNECT": b"\x21\x00\x05",
            "alias": b"\x23\x00\x01",
            "unknown": b"\x7f\x00",
            "format 1": b"\x01\x01",
            "format 2": b"\x01\x02",
            "content type": b"\x03\x00\x01a",
            "response topic": b"\x08\x00\x01a",
            "response topic +": b"\x08\x00\x01+",
            "correlation": b"\x09\x00\x01\xff",
            "user": b"\x26\x00\x01a\x00\x01b" * 2,
            "expiry": b"\x02\x00\x00\x00\x05",
            "cut": b"\x18\x00",
        }.items()
    ],
    ("properties of five bytes", V5, _always(raw.packet(0x10, b"\0\4MQTT\5\2\0\x3c\xff\xff\xff\xff\1"))),
    ("properties of two bytes", V5, _always(raw.packet(0x10, b"\0\4MQTT\5\2\0\x3c\x80\0\0\1a"))),
    ("properties overrun", V5, _always(raw.packet(0x10, b"\0\4MQTT\5\2\0\x3c\x30\0\1a"))),
    *[
        (f"first packet {name}", V311, _always(data))
        for name, data in {
            "CONNACK": raw.packet(0x20, b"\0\0"),
            "PUBLISH": raw.publish("t", b"x"),
            "PUBACK": raw.ack(0x40, 1),
            "PUBREC": raw.ack(0x50, 1),
            "PUBREL": raw.ack(0x62, 1),
            "PUBCOMP": raw.ack(0x70, 1),
            "SUBSCRIBE": raw.subscribe(1, ("t", 0)),
            "UNSUBSCRIBE": raw.unsubscribe(1, "t"),
            "SUBACK": raw.packet(0x90, b"\0\1\0"),
            "UNSUBACK": raw.ack(0xB0, 1),
            "PINGREQ": raw.PINGREQ,
            "PINGRESP": raw.PINGRESP,
            "DISCONNECT": raw.DISCONNECT,
            "AUTH": raw.packet(0xF0),
            "type 0": raw.packet(0),
            "of another protocol": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "with a length of five bytes": b"\x10\xff\xff\xff\xff\x01",
            "CONNECT of nothing": raw.packet(0x10),
        }.items()
    ],
]


def _alone(packet: Callable[[Side], bytes]) -> Scenario:
    def scenario(side: Side) -> None:
        side.open("a").ask(packet(side))

    return scenario


def _byte_by_byte(side: Side) -> None:
    client = side.open("a").trickle(side.connect_packet() + side.subscribe(1, (side.topic, 1)))
    client.ask()


def _all_at_once(side: Side) -> None:
    topic = side.topic
    packets = [side.publish(topic, b"%d" % n, qos=1, packet_id=n) for n in range(1, 20)]
    side.open("a").ask(side.connect_packet(), side.subscribe(30, (topic, 0)), *packets)


def table() -> list[tuple[str, tuple[bool, ...], Scenario]]:
    """Every first packet as a scenario."""
    rows = [(f"connect {name}", versions, _alone(packet)) for name, versions, packet in _FIRST]
    rows.append(("connect byte by byte", BOTH, _byte_by_byte))
    rows.append(("connect and all at once", BOTH, _all_at_once))
    return rows
