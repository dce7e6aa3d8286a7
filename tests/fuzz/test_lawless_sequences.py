"""Packet sequences on both sides, step by step: anything from anybody at any time.

What must never happen is held by `Twin`. `HYPOTHESIS_PROFILE=long pytest tests/fuzz --timeout=0`
searches for long.
"""

from __future__ import annotations

from harness import raw
from harness.playbook import disconnect, suback
from harness.split_chunk_twin import ALIASES_MAX, PROFILE, SECRET, SENSITIVE, TOPICS, Twin
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from gateway.connection.events import AccessWithdrawn, ShuttingDown, Tick
from gateway.connection.process_context import OnDeny
from gateway.connection.transition_table import State

CUTS = st.lists(st.integers(0, 400), max_size=6)
USER_PROPERTY = b"\x26" + raw.text("k") + raw.text("v")


class Lawless(RuleBasedStateMachine):
    """Anything from anybody at any time."""

    @initialize(
        v5=st.booleans(),
        reader=st.booleans(),
        on_deny=st.sampled_from(OnDeny),
        rate=st.sampled_from([{}, {"messages_per_second": 40}]),
    )
    def begin(self, v5: bool, reader: bool, on_deny: OnDeny, rate: dict[str, int]) -> None:
        self.v5 = v5
        self.twin = Twin(v5=v5, reader=reader, on_deny=on_deny, in_flight=8, **rate).begin()
        self.aliases: dict[int, str] = {}

    @rule(
        topic=st.sampled_from([*TOPICS, "", "ok/+", "ok/#", "ok/\0", "/", "ok/" + "x" * 1100]),
        payload=st.binary(max_size=20),
        first=st.integers(0x30, 0x3F),
        packet_id=st.integers(0, 3),
        alias=st.integers(-4, ALIASES_MAX + 1),
        claimed=st.booleans(),
        from_bus=st.booleans(),
        cuts=CUTS,
    )
    def publish(self, topic, payload, first, packet_id, alias, claimed, from_bus, cuts):
        props = b"" if alias < 0 else b"\x23" + alias.to_bytes(2, "big")
        ident = packet_id.to_bytes(2, "big") if first & 6 else b""
        known = topic or self.aliases.get(alias, "")
        if known.startswith(SENSITIVE) and not from_bus:
            payload = SECRET + payload
        if topic and alias > 0 and not from_bus:
            self.aliases[alias] = topic
        body = raw.text(topic) + ident + (raw.properties(props) if self.v5 or claimed else b"")
        self.say(raw.packet(first, body + payload), cuts, from_bus=from_bus)

    @rule(
        kind=st.sampled_from([0x40, 0x50, 0x62, 0x70]),
        packet_id=st.integers(0, 4),
        tail=st.sampled_from([b"", b"\0", b"\x87", b"\x92\0", b"\x10\x05"]),
        from_bus=st.booleans(),
        cuts=CUTS,
    )
    def acknowledge(self, kind, packet_id, tail, from_bus, cuts):
        self.say(raw.packet(kind, packet_id.to_bytes(2, "big") + tail), cuts, from_bus=from_bus)

    @rule(
        packet_id=st.integers(0, 3),
        filters=st.lists(
            st.tuples(
                st.sampled_from(["ok/#", "#", "private/+", "$share/g/ok", "$share//x", "a#", "", "\0", "ok"]),
                st.integers(0, 255),
            ),
            max_size=3,
        ),
        props=st.sampled_from([b"", b"\x0b\x01", USER_PROPERTY, b"\x01\x01", b"\xff"]),
        off=st.booleans(),
        cuts=CUTS,
    )
    def subscribe(self, packet_id, filters, props, off, cuts):
        packet = raw.subscribe(packet_id, *filters, v5=self.v5, props=props)
        self.say(b"\xa2" + packet[1:] if off else packet, cuts, from_bus=False)

    @rule(packet_id=st.integers(0, 3), codes=st.lists(st.integers(0, 255), max_size=4), cuts=CUTS)
    def suback(self, packet_id, codes, cuts):
        self.say(suback(packet_id, *codes, v5=self.v5), cuts, from_bus=True)

    @rule(
        packet=st.sampled_from(
            [
                raw.PINGREQ,
                raw.PINGRESP,
                raw.connect("d", username="lamp-1", password="s"),
                raw.connect("d", v5=True),
                raw.packet(0x20, b"\0\0\0"),
                raw.packet(0xF0, b"\0"),
                raw.packet(0xC0, b"x"),
                raw.packet(0x00),
                raw.packet(0x41, b"\0\1"),
                b"\x30\xff\xff\xff\xff\x01",
                b"\x30\xff\xff\xff\x7f",
                raw.packet(0xB0, b"\0\1\0\0"),
            ]
        ),
        from_bus=st.booleans(),
        cuts=CUTS,
    )
    def say_what_is_odd(self, packet, from_bus, cuts):
        self.twin.garbled |= not from_bus
        self.say(packet, cuts, from_bus=from_bus)

    @rule(data=st.binary(min_size=1, max_size=40), from_bus=st.booleans(), cuts=CUTS)
    def say_anything(self, data, from_bus, cuts):
        self.twin.garbled |= not from_bus
        self.say(data, cuts, from_bus=from_bus)

    @rule(size=st.integers(4000, 140_000), qos=st.integers(0, 2), packet_id=st.integers(1, 3), cuts=CUTS)
    def bus_says_much(self, size, qos, packet_id, cuts):
        packet = raw.publish("ok", b"m" * size, qos=qos, packet_id=packet_id, v5=self.v5)
        self.say(packet, [cut * 350 for cut in cuts], from_bus=True)

    @rule(packet=st.sampled_from([raw.DISCONNECT, disconnect(0x8E)]), from_bus=st.booleans())
    def goodbye(self, packet, from_bus):
        self.say(packet, [], from_bus=from_bus)

    @rule(qos=st.integers(0, 2))
    def goodbye_while_something_comes(self, qos):
        self.say(raw.DISCONNECT, [], from_bus=False)
        self.say(raw.publish("other", b"", qos=qos, packet_id=4, v5=self.v5), [], from_bus=True)

    @rule(event=st.sampled_from([Tick(), Tick(), Tick(), AccessWithdrawn("x"), ShuttingDown()]))
    def happens(self, event):
        self.twin.happens(event)

    @rule()
    def policy_changes(self):
        self.twin.flip()

    def say(self, data: bytes, cuts, *, from_bus: bool) -> None:
        if from_bus:
            self.twin.from_bus(data, cuts)
        else:
            self.twin.from_device(data, cuts)

    def teardown(self) -> None:
        if hasattr(self, "twin"):
            assert self.twin.closed == (self.twin.state is State.CLOSED)


class TestLawless(Lawless.TestCase):
    settings = settings(PROFILE, stateful_step_count=20)
