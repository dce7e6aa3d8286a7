"""Whoever came in on Mosquitto comes in after the import, also with a will that the rules do not allow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.device import Device, join, spy
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.stored_rows import wait_for_refusal

ACL = """user lamp-1
topic write devices/lamp-1/telemetry
user br-2
topic readwrite site/#
"""
STATE = "$SYS/broker/connection/site1/state"


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Gateway]]:
    folder = tmp_path_factory.mktemp("migrated")
    bus = Mosquitto(folder / "bus").start()
    (folder / "acl_file").write_text(ACL)
    gateway = Gateway(folder / "gateway", bus.port, ACL_PATH=str(folder / "acl"))
    try:
        gateway.admin(
            "acl", "import", "mosquitto", "--acl", str(folder / "acl_file"), "--out", str(folder / "acl")
        )
        gateway.start()
        gateway.add_device("lamp-1", "lamp-1")
        gateway.add_device("br-2", "br-2")
        yield bus, gateway
    finally:
        gateway.kill()
        bus.kill()


def dropped(gateway: Gateway, device: str) -> dict[str, object]:
    """The audit line of the will of this device."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for line in gateway.log_lines():
            if line["event"] == "audit" and (line["kind"], line.get("device")) == ("will", device):
                return line
        time.sleep(0.05)
    raise AssertionError("no line tells of the will")


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
def test_a_device_with_a_will_elsewhere_comes_in(migrated: tuple[Mosquitto, Gateway], v5: bool) -> None:
    bus, gateway = migrated
    with spy(bus.port, "devices/#", "lamps/#") as ear:  # the gateway asks the bus for itself now and then
        with Device(gateway, v5=v5) as lamp:
            connack = lamp.connect(
                username="lamp-1", password=gateway.secrets["lamp-1"], will=("lamps/gone", b"lamp-1", 1, True)
            )
            assert connack[3] == 0
            assert lamp.publish("devices/lamp-1/telemetry", b"21") == 0
        # It went without a DISCONNECT, and nothing is published for it.
        assert [one.payload for one in ear.messages(0.5)] == [b"21"]


def test_the_log_and_why_say_what_became_of_the_will(migrated: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = migrated
    with Device(gateway) as lamp:
        words = {"username": "lamp-1", "password": gateway.secrets["lamp-1"]}
        assert lamp.connect(**words, will=("lamps/gone", b"lamp-1", 1, True))[3] == 0
    line = dropped(gateway, "lamp-1")
    assert "goes on without its will" in str(line["reason"])
    wait_for_refusal(gateway, line["id"])
    answer = json.loads(gateway.admin("acl", "why", str(line["id"]), "--json", check=False).stdout)
    assert answer["refusal"]["reason"] == line["reason"]
    assert (answer["action"], answer["topic"], answer["allowed"]) == ("publish", "lamps/gone", False)


def test_a_bridge_with_its_notifications_comes_in(
    migrated: tuple[Mosquitto, Gateway], tmp_path: Path
) -> None:
    """Its will is on `$SYS/broker/connection/<id>/state`, which no line allows."""
    bus, gateway = migrated
    settings = f"""
connection cloud
address localhost:{gateway.port}
bridge_cafile {gateway.ca}
remote_username br-2
remote_password {gateway.secrets["br-2"]}
remote_clientid site1
topic site/# both 1
"""
    site = Mosquitto(tmp_path / "site", settings=settings).start()
    try:
        with Device(site.port) as here, spy(bus.port, "site/#") as cloud:
            here.connect(client_id="here")
            for number in range(50):
                here.publish("site/up", b"%d" % number)
                if cloud.messages(0.1):
                    break
            else:
                raise AssertionError("the bridge does not come in")
    finally:
        site.kill()
    assert dropped(gateway, "br-2")["topic"] == STATE


CHANGES = {
    "no rule allows it": '[[allow]]\nactions = ["publish"]\ntopics = ["devices/{device}/telemetry"]\n',
    "a rule denies it": '[[allow]]\nactions = ["publish"]\ntopics = ["devices/#"]\n'
    '[[deny]]\nactions = ["publish"]\ntopics = ["devices/+/state"]\n',
    "not with the retain flag": '[[allow]]\nactions = ["publish"]\ntopics = ["devices/#"]\nretain = false\n',
}


@pytest.mark.parametrize("v5", [False, True], ids=["3.1.1", "5"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", ["refuse", "drop"])
def test_who_comes_back_after_a_change_took_its_will_back_goes_on_without_it(
    mosquitto: Mosquitto,
    start_gateway: Callable[..., Gateway],
    mode: str,
    change: str,
    v5: bool,
) -> None:
    gateway = start_gateway(mosquitto.port, GATEWAY_ON_DENIED_WILL=mode)
    gateway.add_device("lamp-1", "sensor")
    will = ("devices/lamp-1/state", b"gone", 1, True)
    with spy(mosquitto.port, "devices/#") as ear:
        with join(gateway, "lamp-1", v5=v5, will=will) as lamp:
            gateway.write_policy("roles/sensor.toml", CHANGES[change])
            lamp.ended()
        for _ in range(2):
            # It leaves without a DISCONNECT each time.
            join(gateway, "lamp-1", v5=v5, will=will).close()
        assert dropped(gateway, "lamp-1")["topic"] == will[0]
        assert ear.messages(0.5) == []
