"""One packet of millions of parts: each costs microseconds, and all of them come in one turn of the loop.

Measured before there was a bound: a SUBSCRIBE of 2 MiB kept every other device waiting for 10 s.
"""

from __future__ import annotations

import pytest
from harness import raw
from harness.device import Device, join
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

MANY = 50_000


def user_properties(count: int) -> bytes:
    return b"\x26\0\0\0\0" * count


def of_filters(first: int, part: bytes, count: int, *, v5: bool) -> bytes:
    return raw.packet(first, b"\0\1" + (b"\0" if v5 else b"") + part * count)


@pytest.fixture(scope="module")
def house(world: tuple[Mosquitto, Gateway]) -> tuple[Mosquitto, Gateway]:
    enrol(world[1], bad="full")
    return world


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
@pytest.mark.parametrize(
    ("first", "part"), [(0x82, b"\0\1a\0"), (0xA2, b"\0\1a")], ids=["SUBSCRIBE", "UNSUBSCRIBE"]
)
def test_filters_of_a_packet_are_bounded(
    house: tuple[Mosquitto, Gateway], v5: bool, first: int, part: bytes
) -> None:
    _, gateway = house
    with join(gateway, "bad", "filters", v5=v5) as one:
        one.send(of_filters(first, part, 4_096, v5=v5))
        assert one.answer(first + 0x10 >> 4)
        one.barrier()
        one.send(of_filters(first, part, 8_192, v5=v5))  # of over 100,000 bytes nothing is said in MQTT 5
        assert one.ended()[2:3] == (b"\x97" if v5 else b"")


def test_properties_of_a_message_are_bounded(house: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = house
    with join(gateway, "bad", "properties", v5=True) as one:
        assert one.publish("a", props=user_properties(4_096)) == 0
        one.send(raw.publish("a", v5=True, props=user_properties(MANY)))
        assert one.ended()[2:3] == b"\x97"


def test_properties_of_a_connect_are_bounded(house: tuple[Mosquitto, Gateway]) -> None:
    """13,000 of them fit into what may come before anybody is known, and took 29 ms."""
    _, gateway = house
    join(gateway, "bad", "connect", v5=True, props=user_properties(256)).close()
    will = ("a", b"", 0, False)
    for words in ({"props": user_properties(257)}, {"will": will, "will_props": user_properties(257)}):
        with Device(gateway, v5=True) as one:
            connack = one.connect(client_id="c", username="bad", password=gateway.secrets["bad"], **words)
            assert connack == b"\x20\x03\0\x97\0"
