"""Promise 7: whoever guesses keeps nobody out.

Forty addresses with two or three wrong logins a second each, or one with many connections, kept every
newcomer out: there was one queue for the hashes, and it was full.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from harness.device import Device
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.guessers import guessing
from harness.mosquitto import Mosquitto

FIRST_LOGIN = 5.0
"""For an honest device's first login while others guess, in seconds."""
NEWCOMERS = 4
"""One after the other: what kept one out kept all out, so more would only take longer."""


@pytest.fixture
def house(mosquitto: Mosquitto, start_gateway: Callable[..., Gateway]) -> Gateway:
    gateway = start_gateway(mosquitto.port, LOG_LEVEL="info")
    enrol(gateway, **{f"new_{number}": "sensor" for number in range(NEWCOMERS)})
    return gateway


def first_login(gateway: Gateway, number: int, source: str) -> float:
    """How long it took, in seconds."""
    begin = time.monotonic()
    with Device(gateway, source=source, timeout=30) as one:
        name = f"new-{number}"
        connack = one.connect(client_id="c", username=name, password=gateway.secrets[name])
        assert connack[:4] == b"\x20\x02\x00\x00", f"{name} got {connack!r}"
    return time.monotonic() - begin


@pytest.mark.parametrize(
    ("addresses", "rate"), [(40, 100.0), (1, 60.0)], ids=["forty addresses", "one address"]
)
def test_newcomers_get_in_while_others_guess(house: Gateway, addresses: int, rate: float) -> None:
    with guessing(house, addresses=addresses, rate=rate, seconds=60):
        time.sleep(2.0)
        took = [first_login(house, number, f"127.0.{200 + number}.1") for number in range(NEWCOMERS)]
    assert max(took) < FIRST_LOGIN


def test_a_restart_during_a_storm_makes_strangers_of_none(house: Gateway) -> None:
    """Remembered secrets are gone then. Whoever logged in from there before goes first all the same."""
    source = "127.0.7.1"
    for number in range(NEWCOMERS):
        first_login(house, number, source)
    house.stop()
    house.start()
    # They guess from the same address, too.
    with guessing(house, addresses=40, rate=100.0, seconds=60):
        time.sleep(2.0)
        took = [first_login(house, number, source) for number in range(NEWCOMERS)]
    assert max(took) < FIRST_LOGIN
