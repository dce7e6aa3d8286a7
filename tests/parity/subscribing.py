"""Subscriptions: filters, options, retained messages, shares, and topics at the edge."""

from __future__ import annotations

from harness import raw
from parity.exchange import Client, Scenario, Side

BOTH, V5 = (False, True), (True,)
NO_LOCAL, AS_PUBLISHED, IF_NEW, NO_RETAINED = 0x04, 0x08, 0x10, 0x20


def _release(client: Client, packet_id: int) -> None:
    client.ask(raw.ack(0x62, packet_id))


def filters_in_turn(side: Side) -> None:
    t = side.topic
    reader = side.connect("reader")
    for n, one in enumerate(
        (f"{t}/+/c", f"{t}/a/#", f"+/{t}", "$SYS/none", f"/{t}", f"{t}/", f"{t}//", f"{t}/a b/ü"), 1
    ):
        reader.ask(side.subscribe(n, (one, 0)))
    writer = side.connect("writer")
    for one in (f"{t}/a/c", f"{t}/b/c", f"{t}/a", f"x/{t}", f"/{t}", f"{t}/", f"{t}//", f"{t}/a b/ü", t):
        writer.ask(side.publish(one, one.encode()))
    reader.ask()


def overlapping_filters(side: Side) -> None:
    t = side.topic
    reader = side.reader((f"{t}/a", 0), (f"{t}/+", 1), (f"{t}/#", 2))
    side.connect("writer").ask(side.publish(f"{t}/a", b"x", qos=1, packet_id=1))
    reader.ask()


def unsubscribe(side: Side) -> None:
    t = side.topic
    reader = side.reader((f"{t}/a", 0), (f"{t}/b", 0))
    reader.ask(side.unsubscribe(2, f"{t}/a", f"{t}/none", f"{t}/a"))
    reader.ask(side.unsubscribe(3, f"{t}/never"))
    writer = side.connect("writer")
    writer.ask(side.publish(f"{t}/a", b"x"), side.publish(f"{t}/b", b"x"))
    reader.ask()
    reader.ask(side.unsubscribe(4, *(f"{t}/{n}" for n in range(30))))


def subscribe_again(side: Side) -> None:
    writer = side.connect("writer")
    writer.ask(side.publish(side.topic, b"kept", qos=1, packet_id=1, retain=True))
    reader = side.connect("reader")
    for qos in (0, 1, 2, 0):
        reader.ask(side.subscribe(qos + 1, (side.topic, qos)))
    writer.ask(side.publish(side.topic, b"", retain=True))


def many_filters_in_one_packet(side: Side) -> None:
    reader = side.connect("reader")
    reader.ask(side.subscribe(7, *((f"{side.topic}/{n}", n % 3) for n in range(200))))


def retained(side: Side) -> None:
    t = side.topic
    writer = side.connect("writer")
    for qos in (0, 1, 2):
        writer.ask(side.publish(f"{t}/{qos}", b"kept", qos=qos, packet_id=qos + 1, retain=True))
    _release(writer, 3)
    side.reader(*((f"{t}/{qos}", 2) for qos in (0, 1, 2)))
    for qos in (0, 1, 2):
        writer.ask(side.publish(f"{t}/{qos}", b"", qos=qos, packet_id=qos + 1, retain=True))
    _release(writer, 3)
    side.connect("later").ask(side.subscribe(1, (f"{t}/#", 2)))


def retained_while_listening(side: Side) -> None:
    reader = side.reader((side.topic, 1))
    writer = side.connect("writer")
    writer.ask(side.publish(side.topic, b"kept", qos=1, packet_id=1, retain=True))
    reader.ask()
    writer.ask(side.publish(side.topic, b"", retain=True))
    reader.ask()


def retain_handling(side: Side) -> None:
    side.connect("writer").ask(side.publish(side.topic, b"kept", retain=True))
    for handling in (0, IF_NEW, NO_RETAINED):
        reader = side.connect(f"{handling:#x}")
        reader.ask(side.subscribe(1, (side.topic, handling)))
        reader.ask(side.subscribe(2, (side.topic, handling)))
    side.connect("last").ask(side.publish(side.topic, b"", retain=True))


def retain_as_published(side: Side) -> None:
    readers = [
        side.reader((side.topic, AS_PUBLISHED), client_id=f"{side.topic}1"),
        side.reader((side.topic, 0), client_id=f"{side.topic}2"),
    ]
    writer = side.connect("writer")
    for retain in (True, False):
        writer.ask(side.publish(side.topic, b"x", retain=retain))
    writer.ask(side.publish(side.topic, b"", retain=True))
    for reader in readers:
        reader.ask()


def no_local(side: Side) -> None:
    client = side.connect("a")
    client.ask(side.subscribe(1, (side.topic, NO_LOCAL | 1), (f"{side.topic}/b", 1)))
    client.ask(side.publish(side.topic, b"x"), side.publish(f"{side.topic}/b", b"y"))
    side.connect("b").ask(side.publish(side.topic, b"z"))
    client.ask()


def subscription_identifiers(side: Side) -> None:
    t = side.topic
    reader = side.connect("reader")
    reader.ask(side.subscribe(1, (f"{t}/a", 1), props=b"\x0b\x05"))
    reader.ask(side.subscribe(2, (f"{t}/#", 0), props=b"\x0b\xff\xff\xff\x7f"))
    reader.ask(side.subscribe(3, (f"{t}/+", 0)))
    writer = side.connect("writer")
    writer.ask(side.publish(f"{t}/a", b"x", qos=1, packet_id=1), side.publish(f"{t}/b", b"y"))
    reader.ask()
    reader.ask(side.subscribe(4, (f"{t}/a", 1), props=b"\x0b\x07"))
    writer.ask(side.publish(f"{t}/a", b"x", retain=True))
    reader.ask()
    reader.ask(side.subscribe(5, (f"{t}/a", 1), props=b"\x0b\x08"))
    writer.ask(side.publish(f"{t}/a", b"", retain=True))


def topics_at_the_edge(side: Side) -> None:
    t = side.topic
    reader = side.reader((f"{t}/#", 0))
    writer = side.connect("writer")
    for one in (
        f"{t}//",
        f"{t}/ ",
        f"{t}/$SYS",
        f"{t}/\u00e9\U0001f600",
        f"{t}/" + "l" * 60_000,
        f"{t}/a" + "/a" * 150,
    ):
        writer.ask(side.publish(one, b"x"))
        reader.ask()


def dollar_topics(side: Side) -> None:
    t = side.topic
    reader = side.reader(("+/uptime-" + t, 0), ("$SYS/" + t, 0))
    writer = side.connect("writer")
    writer.ask(side.publish("$SYS/" + t, b"x", qos=1, packet_id=1), side.publish("$SYS/uptime-" + t, b"y"))
    reader.ask()


def shared_subscription(side: Side) -> None:
    t = side.topic
    readers = [side.reader((f"$share/g/{t}", 1), client_id=f"{t}{n}") for n in (1, 2)]
    alone = side.reader((t, 1))
    writer = side.connect("writer")
    for n in range(1, 7):
        writer.ask(side.publish(t, b"%d" % n, qos=1, packet_id=n))
    for reader in (*readers, alone):
        reader.ask()
    readers[0].ask(side.unsubscribe(2, f"$share/g/{t}"))
    writer.ask(side.publish(t, b"last", qos=1, packet_id=9))
    readers[1].ask()


def shared_subscription_and_retained(side: Side) -> None:
    writer = side.connect("writer")
    writer.ask(side.publish(side.topic, b"kept", retain=True))
    side.reader((f"$share/g/{side.topic}", 1))
    writer.ask(side.publish(side.topic, b"", retain=True))


_TABLE = [
    (filters_in_turn, BOTH),
    (overlapping_filters, BOTH),
    (unsubscribe, BOTH),
    (subscribe_again, BOTH),
    (many_filters_in_one_packet, BOTH),
    (retained, BOTH),
    (retained_while_listening, BOTH),
    (retain_handling, V5),
    (retain_as_published, V5),
    (no_local, V5),
    (subscription_identifiers, V5),
    (topics_at_the_edge, BOTH),
    (dollar_topics, BOTH),
    (shared_subscription, BOTH),
    (shared_subscription_and_retained, BOTH),
]


def table() -> list[tuple[str, tuple[bool, ...], Scenario]]:
    """Name, versions, scenario."""
    return [(function.__name__.replace("_", " "), versions, function) for function, versions in _TABLE]
