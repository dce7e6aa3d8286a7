"""A will was checked at CONNECT; what changed since must hold for it too."""

from __future__ import annotations

import time

import pytest
from harness.device import join, spy
from harness.enrol import enrol
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

CHANGES = {
    "its topic is sensitive now": (
        "encryption.toml",
        '[[sensitive]]\ntopics = ["devices/+/private/#", "devices/+/state"]\n',
    ),
    "its topic is denied now": (
        "roles/sensor.toml",
        '[[allow]]\nactions = ["publish"]\ntopics = ["nothing"]\n',
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_will_of_before_is_not_published(mosquitto: Mosquitto, gateway: Gateway, change: str) -> None:
    enrol(gateway, thermo="sensor")
    with spy(mosquitto.port, "devices/#") as listener:
        one = join(gateway, "thermo", will=("devices/thermo/state", b"last words", 0, False))
        gateway.write_policy(*CHANGES[change])
        time.sleep(1.5)  # promise 6: within a second
        one.close()
        assert all(b"last words" not in message.payload for message in listener.messages(1.0))
