"""The way of README with a new device: observe it, learn from that, give it the role, end the observing.

On a real bus, by the commands themselves. Afterwards it may do exactly what it did, and nothing of others.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.device import Device, join, spy
from harness.enrol import enrol_with_labels
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.receivers import wait_until
from harness.stored_rows import wait_for_row

World = tuple[Mosquitto, Gateway]
PASSED = ("devices/lamp-1/state", "rooms/kitchen/light", "devices/lamp-1/private/pin")
FILTERS = ("devices/lamp-1/commands/#", "$share/lamps/rooms/kitchen/set/+", "alarm")
CALLED = ("devices/lamp-1/commands/on", "rooms/kitchen/set/dim", "alarm")
OF_NEIGHBOUR = ("devices/lamp-2/state", "rooms/hall/light", "devices/lamp-2/private/pin")
FILTERS_OF_NEIGHBOUR = ("devices/lamp-2/commands/#", "rooms/hall/set/+", "devices/+/commands/#", "#")
WILL = ("devices/lamp-1/online", b"0", 1, False)
NO = 0x87


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    bus = Mosquitto(tmp_path / "bus").start()
    gateway = Gateway(tmp_path / "gateway", bus.port)
    try:
        yield bus, gateway.start()
    finally:
        gateway.kill()
        bus.kill()


def use(lamp: Device, bus: Mosquitto) -> None:
    """All that the device is for, in a second."""
    assert lamp.subscribe(*FILTERS) == [1, 1, 1]
    for topic in PASSED:
        assert lamp.publish(topic, b"21.5", retain=topic == PASSED[0]) == 0, topic
    with Device(bus.port) as talker:
        talker.connect(client_id="talker")
        for topic in CALLED:
            talker.publish(topic, b"1")
        assert sorted(lamp.message().topic for _ in CALLED) == sorted(CALLED)


def test_a_device_without_roles_gets_one_by_what_it_did_observed(world: World) -> None:
    bus, gateway = world
    rooms = {"lamp-1": "kitchen", "lamp-2": "hall"}
    enrol_with_labels(gateway, {name: ((), {"room": room}) for name, room in rooms.items()})
    with join(gateway, "lamp-1", v5=True) as lamp:
        assert lamp.publish(PASSED[0]) == NO
        gateway.admin("device", "observe", "lamp-1", "--for", "2h")
        wait_until(lambda: lamp.publish(PASSED[0]) == 0)
        use(lamp, bus)
        for topic in ("gateway/x", "$CONTROL/dynamic-security/v1"):
            assert lamp.publish(topic) == NO
        with join(gateway, "lamp-1", "again", v5=True, will=WILL), spy(bus.port, WILL[0]) as listener:
            gateway.admin("device", "kick", "lamp-1")
            assert listener.messages() == [], "it connects without its will"
    with join(gateway, "lamp-1", v5=True) as lamp:
        gateway.admin("device", "observe", "lamp-1", "--off")
        wait_until(lambda: lamp.publish(PASSED[1]) == NO)
        assert lamp.publish("locks/front") == NO
        assert lamp.subscribe("locks/#") == [NO]
    wait_for_row(gateway, "SELECT 1 FROM observations WHERE template = 'locks/#'")

    role = gateway.acl / "roles" / "lamp.toml"
    learned = json.loads(
        gateway.admin(
            "acl", "learn", "--device", "lamp-1", "--for", "2h", "--out", str(role), "--json"
        ).stdout
    )
    assert {(one["action"], one["topic"], one["observed"]) for one in learned["allow"]} == {
        ("publish", "devices/{device}/state", True),
        ("publish", "devices/{device}/online", True),
        ("publish", "rooms/{label.room}/light", True),
        ("publish", "devices/{device}/private/pin", True),
        ("subscribe", "devices/{device}/commands/#", True),
        ("subscribe", "rooms/{label.room}/set/+", True),
        ("subscribe", "alarm", True),
    }
    assert {(one["action"], one["topic"]) for one in learned["refused"]} == {
        ("publish", "$CONTROL/dynamic-security/v1"),
        ("publish", "locks/front"),
        ("subscribe", "locks/#"),
    }
    text = role.read_text()
    assert text.count("it passed only because the device was observed") == 2
    assert '#   "locks/front",  # ' in text
    assert len(tomllib.loads(text)["allow"]) == 2
    gateway.admin("acl", "check")
    gateway.admin("device", "set", "lamp-1", "--role", "lamp")
    gateway.admin("device", "set", "lamp-2", "--role", "lamp")

    with spy(bus.port, WILL[0]) as listener:
        with join(gateway, "lamp-1", "again", v5=True, will=WILL):
            gateway.admin("device", "kick", "lamp-1")
        assert listener.message().payload == b"0", "by its role it may have that will"
    with join(gateway, "lamp-1", v5=True) as lamp:
        wait_until(lambda: lamp.publish(PASSED[0]) == 0)
        use(lamp, bus)
        for topic in (*OF_NEIGHBOUR, "locks/front", "devices/lamp-1/other", "rooms/kitchen"):
            assert lamp.publish(topic) == NO, topic
        refused = (*FILTERS_OF_NEIGHBOUR, "locks/#")
        assert lamp.subscribe(*refused) == [NO] * len(refused)
    with join(gateway, "lamp-2", v5=True) as neighbour:
        assert [neighbour.publish(topic) for topic in (*OF_NEIGHBOUR, *PASSED)] == [0, 0, 0, NO, NO, NO]
    # Nothing more is learned as observed, and no right of the new role stands idle.
    again = json.loads(gateway.admin("acl", "learn", "--device", "lamp-1", "--json").stdout)
    assert not any(one["observed"] for one in again["allow"])
    unused = json.loads(gateway.admin("acl", "unused", "--json").stdout)["unused"]
    assert "lamp" not in {one["role"] for one in unused}
