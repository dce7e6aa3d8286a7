"""Messages on their way: QoS, properties, aliases, sizes, flow control, wills."""

from __future__ import annotations

from harness import raw
from parity.exchange import Client, Scenario, Side

BOTH, V311, V5 = (False, True), (False,), (True,)
EVERY_PROPERTY = (
    b"\x26\x00\x01b\x00\x012"
    b"\x01\x01"
    b"\x08\x00\x05reply"
    b"\x26\x00\x01a\x00\x011"
    b"\x09\x00\x03\xff\x00\xfe"
    b"\x03\x00\x0atext/plain"
    b"\x26\x00\x01b\x00\x012"
    b"\x26\x00\x00\x00\x00"
)


def _release(client: Client, packet_id: int) -> None:
    client.ask(raw.ack(0x62, packet_id))


def every_qos_to_every_qos(side: Side) -> None:
    reader = side.reader(*((f"{side.topic}/{qos}", qos) for qos in (0, 1, 2)))
    writer = side.connect("writer")
    number = 0
    for to in (0, 1, 2):
        for qos in (0, 1, 2):
            number += 1
            writer.ask(side.publish(f"{side.topic}/{to}", b"%d" % number, qos=qos, packet_id=number))
            if qos == 2:
                _release(writer, number)
    reader.ask()
    reader.ask(*[raw.ack(0x40, n) for n in (1, 2, 3)], raw.ack(0x50, 4))
    reader.ask(raw.ack(0x70, 4))


def properties_pass(side: Side) -> None:
    reader = side.reader()
    writer = side.connect("writer")
    for qos in (0, 1):
        writer.ask(side.publish(side.topic, b"x", qos=qos, packet_id=1, props=EVERY_PROPERTY))
        reader.ask()


def properties_of_a_retained_message(side: Side) -> None:
    writer = side.connect("writer")
    writer.ask(side.publish(side.topic, b"x", retain=True, props=EVERY_PROPERTY))
    side.reader()
    writer.ask(side.publish(side.topic, b"", retain=True, props=EVERY_PROPERTY))
    side.connect("later").ask(side.subscribe(1, (side.topic, 0)))


def properties_to_the_old_version(side: Side) -> None:
    writer = side.connect("writer")
    side.v5 = False
    reader = side.reader()
    side.v5 = True
    writer.ask(side.publish(side.topic, b"x", qos=1, packet_id=1, props=EVERY_PROPERTY))
    reader.ask()


def messages_of_the_old_version(side: Side) -> None:
    reader = side.reader()
    side.v5 = False
    side.connect("writer").ask(side.publish(side.topic, b"x", qos=1, packet_id=1))
    reader.ask()


def no_matching_subscribers(side: Side) -> None:
    writer = side.connect("writer")
    writer.ask(
        side.publish(side.topic, b"x", qos=1, packet_id=1), side.publish(side.topic, b"y", qos=2, packet_id=2)
    )
    _release(writer, 2)


def topic_aliases(side: Side) -> None:
    t = side.topic
    reader = side.reader((f"{t}/#", 0))
    writer = side.connect("writer")
    writer.ask(
        side.publish(f"{t}/a", b"1", props=b"\x23\x00\x01"),
        side.publish("", b"2", props=b"\x23\x00\x01"),
        side.publish(f"{t}/b", b"3", props=b"\x23\x00\x0a"),
        side.publish("", b"4", qos=1, packet_id=1, props=b"\x23\x00\x0a"),
        side.publish(f"{t}/c", b"5", props=b"\x23\x00\x01"),
        side.publish("", b"6", props=b"\x23\x00\x01"),
    )
    reader.ask()
    writer.close()
    side.connect("writer").ask(side.publish("", b"7", props=b"\x23\x00\x01"))


def topic_alias_and_properties(side: Side) -> None:
    reader = side.reader()
    side.connect("writer").ask(
        side.publish(side.topic, b"1", props=b"\x26\x00\x01a\x00\x01b\x23\x00\x01\x01\x01"),
        side.publish("", b"2", props=b"\x01\x01\x23\x00\x01\x26\x00\x01a\x00\x01b"),
    )
    reader.ask()


def aliases_offered_by_the_client(side: Side) -> None:
    reader = side.connect("reader", props=b"\x22\x00\x05")
    reader.ask(side.subscribe(1, (side.topic, 0)))
    writer = side.connect("writer")
    for _ in range(3):
        writer.ask(side.publish(side.topic, b"x"))
    reader.ask()


def message_expiry(side: Side) -> None:
    reader = side.reader()
    side.connect("writer").ask(side.publish(side.topic, b"x", props=b"\x02\x00\x00\x0f\xff"))
    reader.ask()


def receive_maximum_of_the_client(side: Side) -> None:
    reader = side.connect("reader", props=b"\x21\x00\x02")
    reader.ask(side.subscribe(1, (side.topic, 1)))
    writer = side.connect("writer")
    for n in range(1, 6):
        writer.ask(side.publish(side.topic, b"%d" % n, qos=1, packet_id=n))
    reader.ask()
    reader.ask(raw.ack(0x40, 1), raw.ack(0x40, 2))
    reader.ask(raw.ack(0x40, 3), raw.ack(0x40, 4))
    reader.ask(raw.ack(0x40, 5))


def receive_maximum_of_the_server(side: Side) -> None:
    reader = side.reader()
    writer = side.connect("writer")
    writer.ask(*[side.publish(side.topic, b"%d" % n, qos=2, packet_id=n) for n in range(1, 30)])
    reader.ask()


def in_flight_without_acknowledgement(side: Side) -> None:
    reader = side.reader((side.topic, 1))
    writer = side.connect("writer")
    writer.ask(*[side.publish(side.topic, b"%d" % n, qos=1, packet_id=n) for n in range(1, 40)])
    reader.ask()
    reader.ask(*[raw.ack(0x40, n) for n in range(1, 21)])


def acknowledged_out_of_order(side: Side) -> None:
    reader = side.reader((side.topic, 1))
    writer = side.connect("writer")
    writer.ask(*[side.publish(side.topic, b"%d" % n, qos=1, packet_id=n) for n in range(1, 6)])
    reader.ask()
    reader.ask(*[raw.ack(0x40, n) for n in (5, 3, 1, 4, 2)])


def qos_2_refused_by_the_reader(side: Side) -> None:
    reader = side.reader()
    writer = side.connect("writer")
    writer.ask(side.publish(side.topic, b"x", qos=2, packet_id=1))
    _release(writer, 1)
    reader.ask()
    reader.ask(raw.ack(0x50, 1, 0x80))
    reader.ask(raw.ack(0x62, 1))


def wrong_acknowledgements(side: Side) -> None:
    for kind in (0x40, 0x70):
        reader = side.reader(client_id=f"{side.topic}{kind}")
        writer = side.connect("writer")
        writer.ask(side.publish(side.topic, b"x", qos=2, packet_id=1))
        _release(writer, 1)
        reader.ask()
        reader.ask(raw.ack(kind, 1))
        reader.close()


def released_again_in_mqtt_31(side: Side) -> None:
    reader = side.reader()
    writer = side.open("writer").send(side.connect_packet(f"{side.topic}-writer", name=b"MQIsdp", level=3))
    writer.read()
    writer.ask(side.publish(side.topic, b"x", qos=2, packet_id=1))
    for first in (0x62, 0x6A, 0x60):
        writer.ask(raw.ack(first, 1))
    reader.ask()


def largest_packet_of_the_client(side: Side) -> None:
    reader = side.connect("reader", props=b"\x27\x00\x00\x00\x28")
    reader.ask(side.subscribe(1, (side.topic, 2)))
    writer = side.connect("writer")
    number = 0
    for size in (1, 10, 20, 28, 29, 30, 31, 32, 33, 34, 35, 36, 40, 200, 5):
        for qos in (0, 1):
            number += 1
            writer.ask(side.publish(side.topic, bytes(size), qos=qos, packet_id=number))
            for packet in reader.ask():
                if packet[0] & 0xF6 == 0x32:
                    at = 4 + len(side.topic)
                    reader.ask(b"\x40\x02" + packet[at : at + 2])


def large_messages(side: Side) -> None:
    reader = side.reader((side.topic, 1))
    writer = side.connect("writer")
    for n, size in enumerate((127, 128, 16_383, 16_384, 65_535, 65_536, 1_000_000, 3_000_000), 1):
        writer.ask(side.publish(side.topic, bytes(size), qos=n % 2, packet_id=n))
        reader.ask()


def byte_by_byte(side: Side) -> None:
    reader = side.reader((side.topic, 1))
    writer = side.connect("writer")
    packets = [side.publish(side.topic, b"%d" % n, qos=n % 2, packet_id=n) for n in range(1, 6)]
    writer.trickle(b"".join(packets) + raw.PINGREQ * 2 + side.subscribe(9, (f"{side.topic}/x", 0)))
    writer.ask()
    writer.ask()
    writer.ask()
    reader.ask()


def many_small_in_one_write(side: Side) -> None:
    reader = side.reader((side.topic, 0))
    writer = side.connect("writer")
    writer.ask(*[side.publish(side.topic, b"%d" % n, qos=n & 1, packet_id=n) for n in range(1, 500)])
    reader.ask()


def will(side: Side) -> None:
    for n, (payload, qos, retain) in enumerate(((b"gone", 0, False), (b"", 1, False), (b"gone", 2, True))):
        topic = f"{side.topic}/{n}"
        reader = side.reader((topic, 2), client_id=f"{topic}-r")
        device = side.connect("device", client_id=f"{topic}-d", will=(topic, payload, qos, retain))
        device.close()
        reader.read()
        reader.ask(side.publish(topic, b"", retain=True))


def will_with_properties(side: Side) -> None:
    reader = side.reader()
    device = side.connect("device", will=(side.topic, b"gone", 1, False), will_props=EVERY_PROPERTY)
    device.close()
    reader.read()


def no_will_behind_disconnect(side: Side) -> None:
    reader = side.reader()
    side.connect("device", will=(side.topic, b"gone", 1, False)).end(raw.DISCONNECT)
    reader.ask()


def will_by_disconnect(side: Side) -> None:
    reader = side.reader()
    side.connect("device", will=(side.topic, b"gone", 1, False)).end(side.disconnect(0x04))
    reader.ask()


def will_behind_a_fault(side: Side) -> None:
    reader = side.reader()
    device = side.connect("device", will=(side.topic, b"gone", 1, False))
    device.end(raw.packet(0x36, raw.text("t") + b"\0\1"))
    reader.read()


_TABLE = [
    (every_qos_to_every_qos, BOTH),
    (properties_pass, V5),
    (properties_of_a_retained_message, V5),
    (properties_to_the_old_version, V5),
    (messages_of_the_old_version, V5),
    (no_matching_subscribers, BOTH),
    (topic_aliases, V5),
    (topic_alias_and_properties, V5),
    (aliases_offered_by_the_client, V5),
    (message_expiry, V5),
    (receive_maximum_of_the_client, V5),
    (receive_maximum_of_the_server, BOTH),
    (in_flight_without_acknowledgement, BOTH),
    (acknowledged_out_of_order, BOTH),
    (qos_2_refused_by_the_reader, V5),
    (wrong_acknowledgements, BOTH),
    (released_again_in_mqtt_31, V311),
    (largest_packet_of_the_client, V5),
    (large_messages, BOTH),
    (byte_by_byte, BOTH),
    (many_small_in_one_write, BOTH),
    (will, BOTH),
    (will_with_properties, V5),
    (no_will_behind_disconnect, BOTH),
    (will_by_disconnect, V5),
    (will_behind_a_fault, BOTH),
]


def table() -> list[tuple[str, tuple[bool, ...], Scenario]]:
    """Name, versions, scenario."""
    return [(function.__name__.replace("_", " "), versions, function) for function, versions in _TABLE]
