"""What takes a second or more: keep alive, delayed wills, expiry of messages."""

from __future__ import annotations

from harness import raw
from parity.exchange import Scenario, Side

BOTH, V5 = (False, True), (True,)
_DELAY_1 = b"\x18\x00\x00\x00\x01"
_DELAY_2 = b"\x18\x00\x00\x00\x02"
_LASTING = b"\x11\x00\x00\x00\x3c"


def keep_alive_runs_out(side: Side) -> None:
    reader = side.reader(keep_alive=0)
    side.connect("device", keep_alive=1, will=(side.topic, b"gone", 1, False)).end()
    reader.ask()


def keep_alive_kept_by_pings(side: Side) -> None:
    device = side.connect("device", keep_alive=2)
    for _ in range(4):
        side.wait(1.2)
        device.ask()


def keep_alive_kept_by_messages(side: Side) -> None:
    device = side.connect("device", keep_alive=2)
    for _ in range(4):
        side.wait(1.2)
        device.send(side.publish(side.topic, b"x"))
    device.ask()


def half_a_packet_is_not_a_sign_of_life(side: Side) -> None:
    side.connect("device", keep_alive=1).end(side.publish(side.topic, bytes(100))[:50])


def delayed_will(side: Side) -> None:
    reader = side.reader(keep_alive=0)
    device = side.connect("device", props=_LASTING, will=(side.topic, b"gone", 1, False), will_props=_DELAY_1)
    device.close()
    reader.ask()
    reader.read()


def delayed_will_of_who_came_back(side: Side) -> None:
    reader = side.reader(keep_alive=0)
    for clean in (True, False):
        device = side.connect(
            "device", clean=clean, props=_LASTING, will=(side.topic, b"gone", 1, False), will_props=_DELAY_2
        )
        device.close()
    side.connect("device", clean=False, props=_LASTING).ask()
    side.wait(4)
    reader.ask()


def delayed_will_and_a_short_session(side: Side) -> None:
    reader = side.reader(keep_alive=0)
    side.connect(
        "device",
        props=b"\x11\x00\x00\x00\x01",
        will=(side.topic, b"gone", 1, False),
        will_props=b"\x18\x00\x00\x00\x3c",
    ).close()
    reader.read()


def delayed_will_and_take_over(side: Side) -> None:
    reader = side.reader(keep_alive=0)
    old = side.connect(
        "old", client_id=side.topic, props=_LASTING, will=(side.topic, b"gone", 1, False), will_props=_DELAY_1
    )
    side.connect("new", client_id=side.topic, clean=False, props=_LASTING).ask()
    old.end()
    side.wait(3)
    reader.ask()


def expired_on_the_way(side: Side) -> None:
    lasting = {"client_id": f"{side.topic}-l", "clean": False, "props": _LASTING}
    side.connect("reader", **lasting).end(side.subscribe(1, (side.topic, 1)), raw.DISCONNECT)
    writer = side.connect("writer")
    writer.ask(side.publish(side.topic, b"short", qos=1, packet_id=1, props=b"\x02\x00\x00\x00\x01"))
    writer.ask(side.publish(side.topic, b"without", qos=1, packet_id=2))
    side.wait(3)
    side.connect("reader", **lasting).ask()


def expired_retained(side: Side) -> None:
    writer = side.connect("writer")
    writer.ask(side.publish(side.topic, b"short", retain=True, props=b"\x02\x00\x00\x00\x01"))
    side.wait(3)
    side.connect("reader").ask(side.subscribe(1, (side.topic, 1)))


_TABLE = [
    (keep_alive_runs_out, BOTH),
    (keep_alive_kept_by_pings, BOTH),
    (keep_alive_kept_by_messages, BOTH),
    (half_a_packet_is_not_a_sign_of_life, BOTH),
    (delayed_will, V5),
    (delayed_will_of_who_came_back, V5),
    (delayed_will_and_a_short_session, V5),
    (delayed_will_and_take_over, V5),
    (expired_on_the_way, V5),
    (expired_retained, V5),
]


def table() -> list[tuple[str, tuple[bool, ...], Scenario]]:
    """Name, versions, scenario."""
    return [(function.__name__.replace("_", " "), versions, function) for function, versions in _TABLE]
