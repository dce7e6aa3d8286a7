"""What was sealed again under another key: the retained message is delivered, live nobody hears it again."""

from __future__ import annotations

import pytest
from harness import raw
from harness.playbook import LAMP, READER, context, established, seal

from gateway.connection.audit_vocabulary import Report
from gateway.connection.commands import SendToBus, SendToDevice
from gateway.connection.events import BusBytes

TOPIC = "private/pin"
SEALED = seal(b"4711", TOPIC)
AGAIN = SEALED[:-1] + b',"rewrapped":true}'
both = pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
whoever = pytest.mark.parametrize(
    ("device", "gets"), [(READER, b"4711"), (LAMP, AGAIN)], ids=["opened for it", "sealed for it"]
)


@both
@whoever
def test_whoever_subscribes_later_gets_it(v5, device, gets):
    kept = raw.publish(TOPIC, AGAIN, retain=True, v5=v5)
    assert (
        established(v5=v5, device=device)
        >> BusBytes(kept)
        << SendToDevice(raw.publish(TOPIC, gets, retain=True, v5=v5))
    )


@both
@whoever
@pytest.mark.parametrize("qos", [0, 1])
def test_who_has_heard_it_does_not_hear_it_again(v5, device, gets, qos):
    packet_id = 3 if qos else 0
    world = context()
    live = raw.publish(TOPIC, AGAIN, qos=qos, packet_id=packet_id, v5=v5)
    plain = raw.publish("ok", b"1", v5=v5)
    book = established(world, v5=v5, device=device) >> BusBytes(plain + live + plain)
    book = book << SendToDevice(plain + plain)
    assert book << SendToBus(raw.ack(0x40, packet_id)) if qos else book
    assert (world.counters.opened, world.counters.open_failed) == (0, 0)
    assert world.counters.rewrapped_dropped == 1


@both
@whoever
def test_the_mark_is_all_that_stands_beside_what_was_sealed(v5, device, gets):
    written = AGAIN.replace(b',"rewrapped"', b' , "request_id":"read me","rewrapped":false,"rewrapped"')
    assert (
        established(v5=v5, device=device)
        >> BusBytes(raw.publish(TOPIC, written, retain=True, v5=v5))
        << SendToDevice(raw.publish(TOPIC, gets, retain=True, v5=v5))
    )


@both
def test_the_mark_makes_nothing_good_that_is_not(v5):
    world = context()
    forged = raw.publish(TOPIC, AGAIN.replace(b"lamp-2", b"lamp-3"), retain=True, v5=v5)
    assert (
        established(world, v5=v5, device=READER)
        >> BusBytes(forged)
        << Report("open", "failed", "the message does not authenticate", "decrypt", TOPIC)
    )
