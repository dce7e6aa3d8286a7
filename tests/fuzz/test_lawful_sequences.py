"""Packet sequences on both sides, step by step, from a device and a bus that keep the standard.

The gateway has to be invisible to them: everything allowed arrives, in order and unchanged, everything
is acknowledged once and in order, and nothing stays behind. What must never happen is held by `Twin`.

`HYPOTHESIS_PROFILE=long pytest tests/fuzz --timeout=0` searches for long.
"""

from __future__ import annotations

import json

from harness import raw, reference_parser
from harness.playbook import seal, suback
from harness.reference_parser import Packet, Peer
from harness.split_chunk_twin import ALIASES_MAX, PROFILE, SECRET, SENSITIVE, TOPICS, Said, Twin, allowed
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.connection.events import Tick

CUTS = st.lists(st.integers(0, 400), max_size=6)
COUNT = st.integers(1, 4)
# Few lengths: what begins like the message before it takes another way through the gateway.
PAYLOADS = st.sampled_from([b"", b"x", b"y", b"y", b"0123456789abcdefg"])
ALIAS_WAYS = st.sampled_from(["none", "set", "use"])
USER_PROPERTY = b"\x26" + raw.text("k") + raw.text("v")


def _secret(topic: str, payload: bytes) -> bytes:
    return SECRET + payload if payload and topic.startswith(SENSITIVE) else payload


class Lawful(RuleBasedStateMachine):
    """Device and bus as the standard wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.held = b""
        # What the device said and not every part of the world has taken notice of.
        self.ids = 0
        self.aliases: dict[int, str] = {}
        self.to_bus: list[tuple[object, ...]] = []
        self.unacked: dict[int, list[int]] = {1: [], 2: []}
        self.half: set[int] = set()
        self.asked: dict[int, int] = {}
        self.pings = 0
        # The same for the bus.
        self.bus_ids = 0
        self.to_device: list[tuple[object, ...]] = []
        self.bus_unacked: dict[int, list[int]] = {1: [], 2: []}
        self.bus_half: set[int] = set()
        # Answers each side has to give, in order.
        self.device_owes: list[bytes] = []
        self.bus_owes: list[bytes] = []

    @initialize(
        v5=st.booleans(),
        reader=st.booleans(),
        max_size=st.sampled_from([None, None, 45, 120]),
        keep_alive=st.sampled_from([0, 4]),
    )
    def begin(self, v5: bool, reader: bool, max_size: int | None, keep_alive: int) -> None:
        self.v5 = v5
        max_size = max_size if v5 else None
        self.twin = Twin(v5=v5, reader=reader, max_size=max_size, keep_alive=keep_alive).begin()
        self.said = Peer(v5=v5, aliases_max=ALIASES_MAX)

    # The device

    @rule(
        topic=st.sampled_from(TOPICS[:9]),
        payload=PAYLOADS,
        qos=st.sampled_from([0, 1, 1, 2]),
        retain=st.booleans(),
        way=ALIAS_WAYS,
        alias=st.integers(1, 2),
        user=st.booleans(),
        hold=st.booleans(),
        cuts=CUTS,
    )
    def device_publishes(self, topic, payload, qos, retain, way, alias, user, hold, cuts):
        props = USER_PROPERTY if user else b""
        name = topic
        if self.v5 and way != "none":
            if way == "use" and alias in self.aliases:
                name, topic = "", self.aliases[alias]
            self.aliases[alias] = topic
            props += b"\x23" + alias.to_bytes(2, "big")
        self.ids += 1
        self.send(
            raw.publish(
                name,
                _secret(topic, payload),
                qos=qos,
                packet_id=self.ids if qos else 0,
                retain=retain,
                v5=self.v5,
                props=props,
            ),
            cuts,
            hold=hold,
        )

    @precondition(lambda self: self.v5)
    @rule(topic=st.sampled_from(["ok/a", "ok/no/a", "private/a"]), uses=st.integers(0, 3), cuts=CUTS)
    def device_sets_and_uses_an_alias(self, topic, uses, cuts):
        # The same bytes each time but for the topic, which they do not name.
        props = b"\x23\0\1"
        self.aliases[1] = topic
        payload = SECRET if topic == "private/a" else bytes(len(SECRET))
        first = raw.publish(topic, payload, v5=True, props=props)
        self.send(first + raw.publish("", payload, v5=True, props=props) * uses, cuts)

    @rule(
        filters=st.lists(
            st.tuples(
                st.sampled_from(["ok/#", "#", "low/+", "private/#", "$share/g/ok", "ok/no/a"]),
                st.integers(0, 2),
            ),
            min_size=1,
            max_size=4,
        ),
        cuts=CUTS,
    )
    def device_subscribes(self, filters, cuts):
        self.ids += 1
        self.asked[self.ids] = len(filters)
        self.send(raw.subscribe(self.ids, *filters, v5=self.v5), cuts)

    @rule(cuts=CUTS)
    def device_unsubscribes(self, cuts):
        self.ids += 1
        self.send(raw.unsubscribe(self.ids, "ok/#", v5=self.v5), cuts)

    @rule(hold=st.booleans())
    def device_pings(self, hold):
        self.pings += 1
        self.send(raw.PINGREQ, hold=hold)

    @precondition(lambda self: self.device_owes)
    @rule(count=COUNT, hold=st.booleans(), cuts=CUTS)
    def device_answers(self, count, hold, cuts):
        due, self.device_owes = self.device_owes[:count], self.device_owes[count:]
        self.send(b"".join(due), cuts, hold=hold)

    @rule(part=st.integers(1, 200), cuts=CUTS)
    def device_lets_some_go(self, part, cuts):
        data, self.held = self.held[:part], self.held[part:]
        self.release(data, cuts)

    def send(self, data: bytes, cuts=(), *, hold: bool = False) -> None:
        self.held += data
        if not hold:
            data, self.held = self.held, b""
            self.release(data, cuts)

    def release(self, data: bytes, cuts=()) -> None:
        for packet in self.said.feed(data):
            self.expect(packet)
        self.hear(self.twin.from_device(data, cuts))

    def expect(self, packet: Packet) -> None:
        if packet.kind != reference_parser.PUBLISH:
            return
        if packet.qos:
            self.unacked[packet.qos].append(packet.packet_id)
        if allowed(
            packet.topic,
            qos=packet.qos,
            retain=packet.retain,
            size=len(packet.payload),
            flipped=self.twin.flipped,
        ):
            self.to_bus.append(packet.key)

    # The bus

    @rule(
        topic=st.sampled_from(TOPICS[:9]),
        payload=PAYLOADS,
        form=st.sampled_from(["sealed", "sealed", "plain", "moved", "broken", "no text"]),
        qos=st.integers(0, 2),
        retain=st.booleans(),
        user=st.booleans(),
        cuts=CUTS,
    )
    def bus_publishes(self, topic, payload, form, qos, retain, user, cuts):
        opens = None
        shown = payload
        if topic.startswith(SENSITIVE) and form != "plain":
            shown = seal(_secret(topic, payload), topic if form == "sealed" else "private/b")
            opens = _secret(topic, payload) if form == "sealed" else None
            if form == "no text":
                shown = shown.replace(b"lamp-2", b"lamp-\xff")
            if form == "broken":
                shown = json.dumps(json.loads(seal(payload, topic)) | {"timestamp": 1}).encode()
        self.bus_ids += 1

        def form_of(content: bytes) -> bytes:
            return raw.publish(
                topic,
                content,
                qos=qos,
                packet_id=self.bus_ids if qos else 0,
                retain=retain,
                v5=self.v5,
                props=USER_PROPERTY if user else b"",
            )

        if qos:
            self.bus_unacked[qos].append(self.bus_ids)
        # An empty message that nobody sealed says no more than that the topic was cleared, with the flag.
        cleared = not shown and retain
        readable = not topic.startswith(SENSITIVE) or cleared or opens is not None
        content = opens if opens is not None and self.twin.reader else shown
        fits = not self.twin.max_size or len(form_of(content)) - 1 <= self.twin.max_size
        if (
            readable
            and fits
            and allowed(
                topic,
                qos=0,
                retain=retain,
                size=len(shown if opens is None else opens),
                flipped=self.twin.flipped,
            )
        ):
            self.to_device += [packet.key for packet in Peer(v5=self.v5).feed(form_of(content))]
        self.hear(self.twin.from_bus(form_of(shown), cuts))

    @precondition(lambda self: self.bus_owes)
    @rule(count=COUNT, cuts=CUTS)
    def bus_answers(self, count, cuts):
        due, self.bus_owes = self.bus_owes[:count], self.bus_owes[count:]
        self.hear(self.twin.from_bus(b"".join(due), cuts))

    # Others

    @rule()
    def second_goes_by(self):
        self.hear(self.twin.happens(Tick()))

    @rule()
    def policy_changes(self):
        self.hear(self.twin.flip())

    @rule(topic=st.sampled_from(["ok/a", "flip"]), from_bus=st.booleans(), qos=st.integers(0, 1))
    def policy_changes_between_two_of_the_same(self, topic, from_bus, qos):
        for _ in range(2):
            if from_bus:
                self.bus_publishes(topic, b"y", "plain", qos, retain=False, user=False, cuts=[])
            else:
                packet_id = 60_000 if qos else 0
                self.send(raw.publish(topic, b"y", qos=qos, packet_id=packet_id, v5=self.v5))
            self.hear(self.twin.flip())

    # What each side makes of what it hears

    def hear(self, said: Said) -> None:
        assert not self.twin.closed
        for packet in said.to_bus:
            self.bus_hears(packet)
        for packet in said.to_device:
            self.device_hears(packet)

    def bus_hears(self, packet: Packet) -> None:
        ident = packet.packet_id
        if packet.kind == reference_parser.PUBLISH:
            assert packet.key == self.to_bus.pop(0)
            if packet.qos:
                self.bus_owes.append(raw.ack(0x40 if packet.qos == 1 else 0x50, ident))
        elif packet.kind == reference_parser.PUBACK:
            assert self.bus_unacked[1].pop(0) == ident
        elif packet.kind == reference_parser.PUBREC:
            assert self.bus_unacked[2].pop(0) == ident
            self.bus_half.add(ident)
            self.bus_owes.append(raw.ack(0x62, ident))
        elif packet.kind == reference_parser.PUBREL:
            self.bus_owes.append(raw.ack(0x70, ident))
        elif packet.kind == reference_parser.PUBCOMP:
            self.bus_half.remove(ident)
        elif packet.kind == reference_parser.SUBSCRIBE:
            asked = packet.body.count(b"ok") + packet.body.count(b"low") + packet.body.count(b"private")
            self.bus_owes.append(suback(ident, *[1] * asked, v5=self.v5))
        elif packet.kind == reference_parser.UNSUBSCRIBE:
            self.bus_owes.append(raw.packet(0xB0, packet.body[:2] + (b"\0\0" if self.v5 else b"")))
        else:
            assert packet.kind == reference_parser.PINGREQ
            self.bus_owes.append(raw.PINGRESP)

    def device_hears(self, packet: Packet) -> None:
        ident = packet.packet_id
        if packet.kind == reference_parser.PUBLISH:
            assert packet.key == self.to_device.pop(0)
            if packet.qos:
                self.device_owes.append(raw.ack(0x40 if packet.qos == 1 else 0x50, ident))
        elif packet.kind == reference_parser.PUBACK:
            assert self.unacked[1].pop(0) == ident
        elif packet.kind == reference_parser.PUBREC:
            assert self.unacked[2].pop(0) == ident
            if packet.code < 0x80:
                self.half.add(ident)
                self.device_owes.append(raw.ack(0x62, ident))
        elif packet.kind == reference_parser.PUBREL:
            self.device_owes.append(raw.ack(0x70, ident))
        elif packet.kind == reference_parser.PUBCOMP:
            self.half.remove(ident)
        elif packet.kind == reference_parser.SUBACK:
            codes = packet.body[3:] if self.v5 else packet.body[2:]
            assert self.asked.pop(ident) == len(codes)
        elif packet.kind == reference_parser.PINGRESP:
            self.pings -= 1
            assert self.pings >= 0
        else:
            assert packet.kind == reference_parser.UNSUBACK

    def teardown(self) -> None:
        if not hasattr(self, "twin") or not self.twin.sound:
            return
        self.send(b"")
        while self.bus_owes or self.device_owes:
            due, self.device_owes = b"".join(self.device_owes), []
            self.release(due)
            due, self.bus_owes = b"".join(self.bus_owes), []
            self.hear(self.twin.from_bus(due))
        assert not self.to_bus
        assert not self.to_device
        assert self.unacked == self.bus_unacked == {1: [], 2: []}
        assert not self.half | self.bus_half
        assert not self.asked
        assert not self.pings


class TestLawful(Lawful.TestCase):
    settings = settings(PROFILE, stateful_step_count=40)
