"""Sessions: take-over, resumption, expiry, redelivery, and the ways a connection ends."""

from __future__ import annotations

from harness import raw
from parity.exchange import Client, Scenario, Side

BOTH, V311, V5 = (False, True), (False,), (True,)


def _expiry(seconds: int) -> bytes:
    return b"\x11" + seconds.to_bytes(4, "big")


def _lasting(
    side: Side, name: str = "a", *, clean: bool = False, props: bytes = b"", **more: object
) -> Client:
    """A client whose session outlives its connection; all its connections have one client id."""
    props = props or (_expiry(1000) if side.v5 else b"")
    return side.connect(name, client_id=f"{side.topic}-lasting", clean=clean, props=props, **more)


def take_over(side: Side) -> None:
    old = side.connect("old", client_id=side.topic)
    new = side.connect("new", client_id=side.topic)
    old.end()
    new.ask()


def take_over_again_and_again(side: Side) -> None:
    last = None
    for n in range(5):
        new = side.connect(f"{n}", client_id=side.topic)
        if last is not None:
            last.end()
        last = new
    assert last is not None
    last.ask()


def take_over_of_a_session(side: Side) -> None:
    old = _lasting(side, "old")
    old.ask(side.subscribe(1, (side.topic, 1)))
    new = _lasting(side, "new")
    old.end()
    new.ask(side.publish(side.topic, b"x", qos=1, packet_id=1))


def take_over_publishes_the_will(side: Side) -> None:
    reader = side.reader((side.topic, 1))
    old = side.connect("old", client_id=side.topic, will=(side.topic, b"gone", 0, False))
    new = side.connect("new", client_id=side.topic)
    old.end()
    new.ask()
    reader.ask()


def take_over_of_a_session_with_a_will(side: Side) -> None:
    reader = side.reader((side.topic, 1))
    old = _lasting(side, "old", will=(side.topic, b"gone", 0, False))
    new = _lasting(side, "new")
    old.end()
    new.ask()
    reader.ask()


def take_over_by_the_other_version(side: Side) -> None:
    old = _lasting(side, "old")
    old.ask(side.subscribe(1, (side.topic, 1)))
    side.v5 = not side.v5
    new = _lasting(side, "new")
    old.end()
    new.ask(side.publish(side.topic, b"x", qos=1, packet_id=1))


def reconnect_behind_disconnect(side: Side) -> None:
    for _ in range(4):
        _lasting(side).end(side.subscribe(1, (side.topic, 1)), raw.DISCONNECT)


def reconnect_behind_a_bare_close(side: Side) -> None:
    for _ in range(4):
        client = _lasting(side)
        client.ask(side.subscribe(1, (side.topic, 1)))
        client.close()


def clean_reconnect_behind_a_bare_close(side: Side) -> None:
    for _ in range(3):
        client = _lasting(side)
        client.ask(side.subscribe(1, (side.topic, 1)))
        client.close()
        _lasting(side, clean=True).ask(side.publish(side.topic, b"x", qos=1, packet_id=1))


def offline_messages(side: Side) -> None:
    _lasting(side).end(side.subscribe(1, (f"{side.topic}/#", 2)), raw.DISCONNECT)
    other = side.connect("other")
    for qos in (0, 1, 2):
        other.ask(side.publish(f"{side.topic}/{qos}", b"x", qos=qos, packet_id=qos + 1))
    other.ask(raw.ack(0x62, 3))
    back = _lasting(side, "back")
    back.ask()
    back.ask(raw.ack(0x40, 1), raw.ack(0x50, 2))
    back.ask(raw.ack(0x70, 2))


def _unacknowledged(side: Side, qos: int) -> None:
    first = _lasting(side, "first")
    first.ask(side.subscribe(1, (side.topic, qos)))
    other = side.connect("other")
    for n in (1, 2, 3):
        other.ask(side.publish(side.topic, b"%d" % n, qos=qos, packet_id=n))
        if qos == 2:
            other.ask(raw.ack(0x62, n))
    first.ask()
    if qos == 1:
        first.ask(raw.ack(0x40, 2))
    else:
        first.ask(raw.ack(0x50, 1), raw.ack(0x50, 2))
        first.ask(raw.ack(0x70, 1))
    first.close()
    again = _lasting(side, "again")
    again.ask()
    if qos == 1:
        again.ask(raw.ack(0x40, 1), raw.ack(0x40, 3))
    else:
        again.ask(raw.ack(0x70, 2), raw.ack(0x50, 3))
        again.ask(raw.ack(0x70, 3))
    again.end(raw.DISCONNECT)
    _lasting(side, "last").ask()


def qos_1_redelivered(side: Side) -> None:
    _unacknowledged(side, 1)


def qos_2_redelivered(side: Side) -> None:
    _unacknowledged(side, 2)


def qos_2_taken_up_by_the_publisher(side: Side) -> None:
    reader = side.reader()
    first = _lasting(side, "first")
    first.ask(side.publish(side.topic, b"x", qos=2, packet_id=9))
    first.close()
    again = _lasting(side, "again")
    again.ask(side.publish(side.topic, b"x", qos=2, packet_id=9, dup=True))
    again.ask(raw.ack(0x62, 9))
    again.ask(raw.ack(0x62, 9))
    reader.ask()


def qos_2_sent_twice(side: Side) -> None:
    client = side.connect("a")
    client.ask(side.subscribe(1, (side.topic, 0)))
    packet = side.publish(side.topic, b"x", qos=2, packet_id=9)
    client.ask(packet, packet)
    client.ask(side.publish(side.topic, b"y", qos=2, packet_id=9))
    client.ask(raw.ack(0x62, 9))


def qos_1_sent_twice(side: Side) -> None:
    client = side.connect("a")
    client.ask(side.subscribe(1, (side.topic, 0)))
    packet = side.publish(side.topic, b"x", qos=1, packet_id=9)
    client.ask(packet, packet, side.publish(side.topic, b"x", qos=1, packet_id=9, dup=True))


def session_of_zero(side: Side) -> None:
    _lasting(side, props=_expiry(0)).end(side.subscribe(1, (side.topic, 1)), raw.DISCONNECT)
    _lasting(side, props=_expiry(0)).ask()


def session_without_expiry(side: Side) -> None:
    for _ in range(2):
        client = side.connect("a", client_id=side.topic, clean=False)
        client.end(side.subscribe(1, (side.topic, 1)), raw.DISCONNECT)


def session_ended_by_disconnect(side: Side) -> None:
    _lasting(side).end(side.subscribe(1, (side.topic, 1)), side.disconnect(props=_expiry(0)))
    _lasting(side).ask()


def session_prolonged_by_disconnect(side: Side) -> None:
    _lasting(side, props=_expiry(1)).end(
        side.subscribe(1, (side.topic, 1)), side.disconnect(props=_expiry(99))
    )
    side.wait(2.5)
    _lasting(side).ask()


def session_expired(side: Side) -> None:
    _lasting(side, props=_expiry(1)).end(side.subscribe(1, (side.topic, 1)), raw.DISCONNECT)
    side.wait(3.5)
    _lasting(side).ask()


def disconnect_with_properties(side: Side) -> None:
    client = side.connect("a", props=_expiry(5))
    client.end(side.disconnect(0, b"\x1f\x00\x03bye\x26\x00\x01a\x00\x01b"))


def disconnect_with_a_code(side: Side) -> None:
    for code in (0x04, 0x80, 0x81, 0x93, 0x98):
        side.connect(f"{code:#04x}").end(side.disconnect(code))


def nothing_behind_disconnect(side: Side) -> None:
    reader = side.reader((side.topic, 1))
    side.connect("a").end(raw.DISCONNECT, side.publish(side.topic, b"late"))
    reader.ask()


def everything_before_disconnect(side: Side) -> None:
    reader = side.reader((side.topic, 0))
    packets = [side.publish(side.topic, b"%d" % n, qos=n % 2, packet_id=n) for n in range(1, 50)]
    side.connect("a").end(*packets, raw.DISCONNECT)
    reader.ask()


def everything_before_a_bare_close(side: Side) -> None:
    reader = side.reader((side.topic, 0), (f"{side.topic}/gone", 0))
    client = side.connect("a", will=(f"{side.topic}/gone", b"gone", 0, False))
    client.send(*[side.publish(side.topic, b"%d" % n) for n in range(1, 50)])
    client.close()
    reader.read(count=50)


def everything_before_a_fault(side: Side) -> None:
    reader = side.reader((side.topic, 0))
    packets = [side.publish(side.topic, b"%d" % n, qos=1, packet_id=n) for n in range(1, 20)]
    side.connect("a").end(*packets, raw.packet(0x36, raw.text("t") + b"\0\1"))
    reader.ask()


_TABLE = [
    (take_over, BOTH),
    (take_over_again_and_again, BOTH),
    (take_over_of_a_session, BOTH),
    (take_over_publishes_the_will, BOTH),
    (take_over_of_a_session_with_a_will, BOTH),
    (take_over_by_the_other_version, BOTH),
    (reconnect_behind_disconnect, BOTH),
    (reconnect_behind_a_bare_close, BOTH),
    (clean_reconnect_behind_a_bare_close, BOTH),
    (offline_messages, BOTH),
    (qos_1_redelivered, BOTH),
    (qos_2_redelivered, BOTH),
    (qos_2_taken_up_by_the_publisher, BOTH),
    (qos_2_sent_twice, BOTH),
    (qos_1_sent_twice, BOTH),
    (session_of_zero, V5),
    (session_without_expiry, V5),
    (session_ended_by_disconnect, V5),
    (session_prolonged_by_disconnect, V5),
    (session_expired, V5),
    (disconnect_with_properties, V5),
    (disconnect_with_a_code, V5),
    (nothing_behind_disconnect, BOTH),
    (everything_before_disconnect, BOTH),
    (everything_before_a_bare_close, BOTH),
    (everything_before_a_fault, BOTH),
]


def table() -> list[tuple[str, tuple[bool, ...], Scenario]]:
    """Name, versions, scenario."""
    return [(function.__name__.replace("_", " "), versions, function) for function, versions in _TABLE]
