"""Promise 7: what one device does over many connections is counted as what one device does.

Forty connections of one sensor that sent what has to be taken apart held the event loop for seconds: an
honest ping took six, `/health` timed out, and a decision waited with everything else.
"""

from __future__ import annotations

import re
import time

import pytest
from harness import raw
from harness.device import join
from harness.flood import flood
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

CONNECTIONS = 40
LASTS = 3.0
"""Seconds for which an honest device is watched."""
AT_MOST = 2.0
"""For the answer to an honest message, in seconds, on two shared cores."""

FLOODS = {
    "refused": raw.publish("elsewhere", b"x") * 3_000,
    "refused, each to be answered": b"".join(
        raw.publish("elsewhere", b"x", qos=1, packet_id=number) for number in range(1, 3_000)
    ),
    "sealed": raw.publish("devices/bad/private/x", b"x" * 64) * 1_000,
    "acknowledgements": raw.ack(0x40, 1) * 50_000,
    "subscriptions": b"".join(
        raw.subscribe(number, *[(f"elsewhere/{one}", 0) for one in range(50)]) for number in range(1, 100)
    ),
}


@pytest.fixture(scope="module")
def house(world: tuple[Mosquitto, Gateway]) -> Gateway:
    gateway = world[1]
    gateway.add_device("good", "full")
    # With as many connections as limits.toml gives: the limits of the shipped role would keep most of it out.
    role = (gateway.acl / "roles" / "sensor.toml").read_text()
    gateway.write_policy("roles/flooding.toml", re.sub(r"\[limits\]\n(\w.*\n)+", "", role))
    gateway.add_device("bad", "flooding")
    return gateway


@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS.keys())
def test_an_honest_device_is_served_while_another_floods(house: Gateway, data: bytes) -> None:
    took = []
    with join(house, "good", "pinging", v5=True) as one:
        before = house.memory()
        with flood(house, "bad", data, connections=CONNECTIONS, seconds=60):
            until = time.monotonic() + LASTS
            while time.monotonic() < until:
                begin = time.monotonic()
                one.publish("good/x", b"ping")
                took.append(time.monotonic() - begin)
                time.sleep(0.02)
            assert house.health("/health")[0] == 200
            assert house.memory() - before < 200 << 20
    assert max(took) < AT_MOST
    assert len(took) > 20


def test_disabling_the_device_acts_while_it_floods(house: Gateway) -> None:
    """Within a second of the decision all of its connections are told; nothing more of them is taken."""
    with flood(house, "bad", FLOODS["refused"], connections=CONNECTIONS, seconds=60) as flooding:
        time.sleep(1.0)
        seen = len(house.log_lines())
        house.admin("device", "disable", "bad")
        decided = time.monotonic()
        while sum(line["event"] == "closed" for line in house.log_lines()[seen:]) < CONNECTIONS:
            assert time.monotonic() - decided < 1.5, "a connection of a disabled device goes on"
            time.sleep(0.02)
        flooding.wait(20)
    house.admin("device", "enable", "bad")
