"""A site's Mosquitto that bridges to the gateway, with nothing set but the address and the credentials.

By the bridge bit of its protocol level the bus knows it for what it is: its own messages do not come back,
and what is retained there stays retained at the site.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.device import Device
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

ROLE = """[[allow]]
actions = ["publish", "subscribe"]
topics = ["site/#", "$SYS/broker/connection/+/state"]
"""


@pytest.fixture(params=["", "bridge_protocol_version mqttv50", "bridge_protocol_version mqttv31"])
def site(
    request: pytest.FixtureRequest, world: tuple[Mosquitto, Gateway], tmp_path: Path
) -> Iterator[Mosquitto]:
    _, gateway = world
    name = f"br-{request.param_index}"
    (gateway.acl / "roles" / "bridge.toml").write_text(ROLE)
    gateway.add_device(name, "bridge")
    connection = f"""
connection cloud
address localhost:{gateway.port}
bridge_cafile {gateway.ca}
remote_username {name}
remote_password {gateway.secrets[name]}
remote_clientid site1
topic site/# both 1
{request.param}
"""
    one = Mosquitto(tmp_path / "site", settings=connection).start()
    yield one
    one.kill()


def test_a_bridge_hears_its_own_messages_once_and_keeps_retained_ones(
    world: tuple[Mosquitto, Gateway], site: Mosquitto
) -> None:
    bus, _ = world
    with Device(bus.port) as cloud, Device(site.port) as here:
        cloud.connect(client_id="cloud")
        here.connect(client_id="here")
        cloud.subscribe("site/#")
        here.subscribe("site/#")
        _wait_until_bridged(cloud, here)
        here.publish("site/up", b"1")
        assert [one.payload for one in cloud.messages(0.5) if one.topic == "site/up"] == [b"1"]
        assert [one.payload for one in here.messages(0.5) if one.topic == "site/up"] == [b"1"]
        cloud.publish("site/kept", b"still", retain=True)
        assert [one.payload for one in here.messages(0.5) if one.topic == "site/kept"] == [b"still"]
    with Device(site.port) as late:
        late.connect(client_id="late")
        late.subscribe("site/kept")
        message = late.message()
        assert (message.payload, message.retain) == (b"still", True)
    with Device(bus.port) as cloud:
        cloud.connect(client_id="cloud")
        cloud.publish("site/kept", b"", retain=True)


def _wait_until_bridged(cloud: Device, here: Device) -> None:
    for number in range(100):
        cloud.publish("site/probe", b"%d" % number)
        if here.messages(0.1):
            cloud.messages(0.1)
            return
        time.sleep(0.05)
    raise AssertionError("the bridge does not connect")
