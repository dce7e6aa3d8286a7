"""Which answer of the bus a chunk of a device waits for."""

import weakref
from types import SimpleNamespace

import pytest
from harness import raw

from gateway.net.puback_latency_samples import RoundTripSamples, Tap, answers_to


@pytest.mark.parametrize(
    ("chunk", "answer"),
    [
        (bytes.fromhex("320b 0003 742f31 0008 32312e35"), b"\x40\x02\x00\x08"),
        (raw.publish("t/1", b"x" * 300, qos=1, packet_id=515, v5=True), b"\x40\x02\x02\x03"),
        (raw.publish("t/1", b"x", qos=1, packet_id=7, retain=True) + b"\xc0\x00", b"\x40\x02\x00\x07"),
        (raw.PINGREQ, b"\xd0\x00"),
        (raw.publish("t/1", b"x", qos=0), b""),
        (raw.publish("t/1", b"x", qos=2, packet_id=7), b""),
        (b"\x40\x02\x00\x01", b""),
        (b"\x32", b""),
        (b"\x32\x0b\x00", b""),
        (b"\x32\x0b\x00\x03t/", b""),
        (b"\x32\xff\xff\xff\xff\x7f", b""),
    ],
)
def test_the_answer(chunk, answer):
    of_mqtt_5 = b"\x40\x03" + answer[2:]  # nobody is subscribed
    assert answers_to(chunk) == ((answer, of_mqtt_5) if len(answer) > 2 else (answer,) if answer else ())


class End:
    """A transport, as far as a tap needs one; what it hears its protocol gets."""

    def __init__(self):
        self.real = self.protocol = SimpleNamespace(data_received=lambda data: None)

    def get_protocol(self):
        return self.protocol

    def set_protocol(self, protocol):
        self.protocol = protocol


async def test_a_connection_that_waits_for_an_answer_is_not_tapped_once_more():
    """Kind: what is put over the same thing again and can only be taken off from outside piles up."""
    ends = End(), End()
    upstream = SimpleNamespace(has_partial_packet=False, unprocessed=None)
    connection = SimpleNamespace(established=SimpleNamespace(upstream=upstream))
    side = SimpleNamespace(transports=ends, connection=connection)
    samples = RoundTripSamples(SimpleNamespace(live=[side]), lambda _: None)
    samples.look()
    for number in range(1, 6):
        samples.look()
        ends[0].protocol.data_received(raw.publish("t", b"", qos=1, packet_id=number))
        bus = ends[1].protocol
        assert isinstance(bus, Tap)
        assert bus._real is ends[1].real
    ends[1].protocol.data_received(b"\x40\x02\x00\x01")
    assert (ends[0].protocol, ends[1].protocol) == (ends[0].real, ends[1].real)


async def test_those_that_are_not_watched_are_not_kept_and_each_has_its_turn():
    """Kind: a list of all, made once and gone through slowly, keeps in memory those that ended."""
    sides = [one_side() for _ in range(10)]
    registry = SimpleNamespace(live=sides)
    samples, watched = RoundTripSamples(registry, lambda _: None), set()
    for _ in range(3):
        samples.look()
        watched |= {at for at, side in enumerate(sides) if isinstance(side.transports[0].protocol, Tap)}
    assert watched == set(range(10))
    samples.look()
    left = [weakref.ref(side) for side in sides]
    del sides, registry.live[:]
    assert not any(one() for one in left)


def one_side():
    upstream = SimpleNamespace(has_partial_packet=False, unprocessed=None)
    connection = SimpleNamespace(established=SimpleNamespace(upstream=upstream))
    return Side(transports=(End(), End()), connection=connection)


class Side(SimpleNamespace):
    """One that a weak reference can be made to."""


async def test_a_connection_that_asks_nothing_is_left_after_some_chunks():
    ends, heard = (End(), End()), []
    ends[0].real.data_received = heard.append
    upstream = SimpleNamespace(has_partial_packet=False, unprocessed=None)
    connection = SimpleNamespace(established=SimpleNamespace(upstream=upstream))
    samples = RoundTripSamples(
        SimpleNamespace(live=[SimpleNamespace(transports=ends, connection=connection)]), lambda _: None
    )
    samples.look()
    samples.look()
    for _ in range(50):
        assert isinstance(ends[0].protocol, Tap) == (len(heard) <= 20)
        ends[0].protocol.data_received(raw.publish("t", b"", qos=0))
    assert len(heard) == 50
    samples.look()
    samples.look()
    assert isinstance(ends[0].protocol, Tap), "a second later"
