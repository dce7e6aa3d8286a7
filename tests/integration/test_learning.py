"""A role is learned from what three devices did on a real bus: it admits that run, and nothing of others.

The role they begin with allows nearly everything. Run, record, proposal, and the same run once more under the
proposal, in the same gateway.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import raw
from harness.device import Device, join, spy
from harness.enrol import enrol, enrol_with_labels, in_store
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action, Policy
from gateway.policy.engine.topic_generalisation import topics_of
from gateway.policy.engine.usage_record import Passage, UsageRecord
from gateway.policy.files.loader import load_policy
from gateway.policy.usage.replay import replay

WIDE = """description = "Too much."
[[allow]]
actions = ["publish", "subscribe", "encrypt", "decrypt"]
topics = ["#"]

[[deny]]
actions = ["publish", "subscribe", "encrypt"]
topics = ["locks/#", "rooms/+/set/lock"]
"""
OTHER = """description = "Is nobody's."
[[allow]]
actions = ["publish"]
topics = ["never/#"]
"""
ROOMS = {"t-1": "kitchen", "t-2": "hall", "t-3": "attic"}
World = tuple[Mosquitto, Gateway]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("learning")
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port)
    gateway.write_policy("roles/thermo.toml", WIDE)
    gateway.write_policy("roles/other.toml", OTHER)
    try:
        gateway.start()
        yield bus, gateway
    finally:
        gateway.kill()
        bus.kill()


def run_of(gateway: Gateway, bus: Mosquitto, device: str) -> dict[str, object]:
    """What a device does in an hour, in a second: each answer it gets."""
    room = ROOMS[device]
    found: dict[str, object] = {}
    will = (f"devices/{device}/gone", b"x", 0, False)
    with join(gateway, device, v5=True, will=will) as one, Device(bus.port) as talker:
        for topic in (
            f"devices/{device}/telemetry",
            f"devices/{device}/private/pin",
            f"rooms/{room}/temperature",
            f"jobs/{device[-1]}/done",
            "jobs/common",
            "locks/front",
        ):
            found[f"publish {topic}"] = one.publish(topic, b"1")
        filters = (f"devices/{device}/commands/#", f"rooms/{room}/set/+", "alarm", "locks/#")
        found["subscribe"] = one.subscribe(*filters)
        talker.connect(client_id=f"talker-{device}")
        for topic in (f"devices/{device}/commands/go", f"rooms/{room}/set/heat", f"rooms/{room}/set/lock"):
            talker.publish(topic, b"1")
        found["delivered"] = sorted(one.message().topic for _ in range(2))
        for topic in (f"devices/{device}/private/pin", "locks/front"):
            one.send(
                raw.publish("gateway/encrypt", json.dumps({"topic": topic, "message": 1}).encode(), v5=True)
            )
            answer = json.loads(one.message().payload)
            found[f"encrypt {topic}"] = answer.get("error", "sealed")
        one.barrier()
    return found


def recorded(gateway: Gateway) -> list[UsageRecord]:
    """All that was recorded, once nothing more comes."""
    deadline, last = time.monotonic() + 30, -1
    while True:
        found = in_store(gateway, lambda store: store.usage.records(0))
        total = sum(one.count for one in found)
        if total == last and total:
            return found
        assert time.monotonic() < deadline, found
        last = total
        time.sleep(2.5)


def folder_with(gateway: Gateway, role: str, folder: Path) -> Policy:
    """The policy with another text for the role of the devices."""
    for name in ("encryption.toml", "limits.toml"):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text((gateway.acl / name).read_text())
    (folder / "roles").mkdir()
    (folder / "roles" / "thermo.toml").write_text(role)
    return load_policy(folder, reserved="gateway")


def test_three_devices_of_one_role(world: World, tmp_path: Path) -> None:
    bus, gateway = world
    enrol_with_labels(gateway, {name: (("thermo",), {"room": room}) for name, room in ROOMS.items()})
    run = {name: run_of(gateway, bus, name) for name in ROOMS}
    for name, answers in run.items():
        assert answers["publish locks/front"] == 0x87
        assert answers["subscribe"] == [1, 1, 1, 0x87]
        assert answers["encrypt locks/front"] == "not_authorized"
        assert [answer for what, answer in answers.items() if what.startswith("publish")].count(0) == 5, name
    seen = recorded(gateway)
    proposal = tmp_path / "thermo.toml"
    learned = json.loads(
        gateway.admin(
            "acl", "learn", "--role", "thermo", "--for", "1h", "--out", str(proposal), "--json"
        ).stdout
    )
    assert learned["devices"] == sorted(ROOMS)
    assert {(one["action"], one["topic"]) for one in learned["allow"]} == {
        ("publish", "devices/{device}/telemetry"),
        ("publish", "devices/{device}/private/pin"),
        ("publish", "devices/{device}/gone"),
        ("publish", "rooms/{label.room}/temperature"),
        ("publish", "jobs/+/done"),
        ("publish", "jobs/common"),
        ("subscribe", "devices/{device}/commands/#"),
        ("subscribe", "rooms/{label.room}/set/+"),
        ("subscribe", "alarm"),
        ("encrypt", "devices/{device}/private/pin"),
    }
    assert {(one["action"], one["topic"], one["count"]) for one in learned["refused"]} == {
        ("publish", "locks/front", 3),
        ("subscribe", "locks/#", 3),
        ("subscribe", "rooms/{label.room}/set/lock", 3),
        ("encrypt", "locks/front", 3),
    }
    assert learned["role"] == proposal.read_text()
    # In a replay: exactly that run.
    devices = {one.device_id: one for one in in_store(gateway, lambda store: store.devices.read())}
    before = load_policy(gateway.acl, reserved="gateway")
    after = folder_with(gateway, learned["role"], tmp_path / "acl")
    found = replay(before, after, seen, devices)
    assert (found.changes, found.replayed, found.gone, found.overflow) == ((), len(seen), 0, 0)
    assert len(seen) >= 3 * 14
    # Another device's topics: all of them that are its own.
    crossed = 0
    for one in seen:
        for other in devices.values():
            if "{" in one.template and one.device_id != other.device_id and one.passage is Passage.ALLOWED:
                (theirs,) = topics_of(one.template, Identity(other.device_id, (), other.labels, "c"))
                me = devices[one.device_id]
                access = after.rights(Identity(me.device_id, me.roles, me.labels, "c"))
                decide = access.decide_filter if one.action is Action.SUBSCRIBE else None
                decision = decide(theirs) if decide else access.decide(one.action, theirs)
                assert not decision.allowed, (one, theirs)
                crossed += 1
    assert crossed >= 3 * 2 * 7
    # And in the gateway itself.
    in_force = gateway.health("/health")[1]
    gateway.write_policy("roles/thermo.toml", learned["role"])
    deadline = time.monotonic() + 10
    while (
        json.loads(gateway.health("/health")[1])["checks"]["policy"]["detail"]
        == json.loads(in_force)["checks"]["policy"]["detail"]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for name, answers in run.items():
        assert run_of(gateway, bus, name) == answers
    with join(gateway, "t-1", v5=True) as one:
        for topic in ("devices/t-2/telemetry", "rooms/hall/temperature", "devices/t-1/other", "jobs/x"):
            assert one.publish(topic) == 0x87, topic
        assert one.subscribe("devices/t-2/commands/#", "rooms/hall/set/+", "#") == [0x87, 0x87, 0x87]


def test_rights_that_nobody_used(world: World) -> None:
    _, gateway = world
    found = json.loads(gateway.admin("acl", "unused", "--for", "1h", "--json").stdout)
    by_rule = {(one["role"], one["topic"]): one for one in found["unused"]}
    assert by_rule["other", "never/#"]["unused"] == ["publish"]
    assert by_rule["other", "never/#"]["role_has_devices"] is False
    role = (gateway.acl / "roles" / "sensor.toml").read_text().splitlines()
    line = next(number for number, text in enumerate(role, 1) if text.startswith("topics"))
    assert by_rule["sensor", "devices/{device}/telemetry"]["rule"].endswith(f"sensor.toml:{line}")
    assert not any(role == "thermo" for role, _ in by_rule), "all of it was learned from what they did"


def test_what_an_observed_device_would_be_refused(world: World) -> None:
    """It passes, is told, ends by itself, and `learn` knows it from what was refused."""
    bus, gateway = world
    enrol(gateway, watched="other", ear="full")
    secret = "devices/watched/private/no"
    with join(gateway, "watched", v5=True) as one, spy(bus.port, "new/#", "devices/#") as bus_ear:
        assert one.publish("new/topic", b"0") == 0x87
        gateway.admin("device", "observe", "watched", "--for", "1h")
        deadline = time.monotonic() + 10
        while one.publish("new/topic", b"1") == 0x87:
            assert time.monotonic() < deadline
        assert one.publish(secret, b"plain") == 0
        assert one.subscribe("else/#") == [1]
        assert one.publish("gateway/x") == 0x87
        assert one.publish("$CONTROL/dynamic-security/v1") == 0x87
        assert "observed until" in gateway.admin("device", "show", "watched").stdout
        # Its time comes to its end, and nothing happens but that.
        until = in_store(gateway, lambda store: store.devices.observe("watched", 2)).observe_until
        while one.publish("new/topic", b"2") != 0x87:
            assert time.time() < until + 1
        heard = bus_ear.messages()
        assert {message.payload for message in heard if message.topic == "new/topic"} >= {b"1"}
        assert b"0" not in {message.payload for message in heard}
        (sealed,) = [message.payload for message in heard if message.topic == secret]
        assert b"plain" not in sealed
        assert json.loads(sealed)["encrypted"] is True
    told = [line for line in gateway.log_lines() if line.get("kind") == "observe"]
    assert {(line["action"], line["topic"], line["outcome"]) for line in told} == {
        ("publish", "new/topic", "done"),
        ("publish", secret, "done"),
        ("subscribe", "else/#", "done"),
    }
    assert "observed" not in gateway.admin("device", "show", "watched").stdout
    recorded(gateway)
    learned = json.loads(gateway.admin("acl", "learn", "--device", "watched", "--json").stdout)
    assert {(one["action"], one["topic"], one["observed"]) for one in learned["allow"]} == {
        ("publish", "new/topic", True),
        ("publish", "devices/{device}/private/no", True),
        ("subscribe", "else/#", True),
    }
    assert [(one["action"], one["topic"]) for one in learned["refused"]] == [
        ("publish", "$CONTROL/dynamic-security/v1")
    ]
    # It was refused before and after, too; and what administers the bus gets no rule of any kind.
    at_times, barred = learned["role"].partition("# Refused at times")[2].split("# Refused by rules")
    assert '"new/topic"' in at_times
    assert "# [[allow]]" not in learned["role"]
    assert '"$CONTROL/dynamic-security/v1"' in barred


def test_what_was_recorded_outlives_the_gateway(world: World) -> None:
    _, gateway = world
    enrol(gateway, leaver="full")
    with join(gateway, "leaver") as one:
        one.publish("last/words")
    gateway.stop()
    found = in_store(gateway, lambda store: store.usage.records(0))
    assert [one.template for one in found if one.device_id == "leaver"] == ["last/words"]
    gateway.start()
