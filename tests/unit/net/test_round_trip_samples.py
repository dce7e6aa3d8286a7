"""Which answer of the bus a chunk of a device waits for."""

import pytest
from harness import raw

from gateway.net.round_trip_samples import answers_to


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
