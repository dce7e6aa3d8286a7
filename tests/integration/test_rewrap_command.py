"""`gateway-admin keys rewrap`, on a real Mosquitto."""

from __future__ import annotations

import json
import os
import pty
import subprocess

import pytest
import typer
from harness import raw
from harness.bus_service_client import Caller
from harness.gateway import BIN, Gateway

from gateway.bus_client.connection import BusConnection
from gateway.cli.keys_rewrap_retained_messages import rewrap
from gateway.keys.key_files import read_sealing_file
from gateway.keys.key_ring import KeyRing, Nonces
from gateway.keys.payload_envelope import Sealer


@pytest.fixture
def admin(tmp_path, mosquitto) -> Gateway:
    one = Gateway(tmp_path / "gateway", mosquitto.port)
    one.admin("init")
    return one


def keep(port: int, topic: str, payload: bytes) -> None:
    with Caller(port, "unused") as caller:
        caller.send(topic, payload, retain=True)


def seal_as_the_gateway(admin: Gateway, payload: bytes, topic: str) -> bytes:
    """With the active key of its file."""
    keys = read_sealing_file(admin.folder / "data" / "keys" / "encryption.key", None)
    ring = KeyRing(keys, Nonces(os.urandom), {})
    return Sealer(ring, lambda: 1_764_000_000_000, topic=topic, sender="lamp-1").seal(payload)


def test_the_command_after_a_rotation(admin, mosquitto):
    topic = "devices/lamp-1/private/pin"
    keep(mosquitto.port, topic, seal_as_the_gateway(admin, b"4711", topic))
    keep(mosquitto.port, "devices/lamp-2/private/pin", b"plain")
    current = json.loads(admin.admin("keys", "rewrap", "--json").stdout)
    assert (current["resealed"], current["current"]) == (0, 1)
    admin.admin("keys", "rotate")
    done = admin.admin("keys", "rewrap")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "re-sealed    1",
        "current      0",
        "changed      0",
        "unreadable   1",
        "  devices/lamp-2/private/pin: not a sealed message",
    ]
    with Caller(mosquitto.port, topic) as caller:
        assert caller.hear().fields["key_id"] == "k2"
    keys = json.loads(admin.admin("keys", "list", "--json").stdout)["keys"]
    assert {key["key_id"]: key["uses"] for key in keys if key["kind"] == "sealing"} == {"k1": 0, "k2": 1}
    shown = json.loads(admin.admin("keys", "rewrap", "--json").stdout)
    assert shown == {
        "resealed": 0,
        "current": 1,
        "changed": 0,
        "left": 0,
        "lost": 0,
        "complete": True,
        "unreadable": [{"topic": "devices/lamp-2/private/pin", "reason": "not a sealed message"}],
    }


def test_the_command_shows_how_far_it_is_on_a_terminal_alone(admin, mosquitto):
    topics = [f"devices/lamp-{n}/private/pin" for n in range(30)]
    for topic in topics:
        keep(mosquitto.port, topic, seal_as_the_gateway(admin, b"4711", topic))
    admin.admin("keys", "rotate")
    terminal, other_end = pty.openpty()
    done = subprocess.run(
        [str(BIN / "gateway-admin"), "keys", "rewrap"],
        cwd=admin.folder,
        env=admin.env | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=other_end,
        timeout=60,
        check=True,
    )
    os.close(other_end)
    shown = os.read(terminal, 1_000_000).decode()
    os.close(terminal)
    assert "re-sealing" in shown
    assert "30/30" in shown
    assert done.stdout.decode().splitlines()[0] == "re-sealed    30"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_newer_message_that_was_lost_is_said_and_no_success(admin, mosquitto, monkeypatch, capsys, as_json):
    """In this process, so that it comes at the right moment."""
    topic = "devices/lamp-1/private/pin"
    keep(mosquitto.port, topic, seal_as_the_gateway(admin, b"4711", topic))
    admin.admin("keys", "rotate")
    limits = admin.folder / "acl" / "limits.toml"
    limits.write_text(limits.read_text().replace("packet_size = 16_777_216", "packet_size = 100_000"))
    publish, long = BusConnection.publish, [b"x" * 300_000]

    async def after_another(self, topic, payload, *, retain, properties=()):
        if retain and long:
            keep(mosquitto.port, topic, long.pop())
        await publish(self, topic, payload, retain=retain, properties=properties)

    monkeypatch.setattr(BusConnection, "publish", after_another)
    monkeypatch.chdir(admin.folder)
    for name, value in admin.env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(typer.Exit) as ended:
        rewrap(as_json=as_json)
    assert (ended.value.exit_code, long) == (1, [])
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == (
        "note: 1 that came meanwhile were overwritten by an older message, and are too long to be put back: "
        "publish them again"
    )
    if as_json:
        assert (json.loads(out)["lost"], json.loads(out)["unreadable"][0]["topic"]) == (1, topic)
    else:
        assert out.splitlines()[-1].startswith(f"  {topic}: too long to be put back")
    with Caller(mosquitto.port, topic) as caller:
        assert caller.hear().fields["key_id"] == "k2"


def test_the_command_without_a_bus(tmp_path):
    one = Gateway(tmp_path / "gateway", None)
    one.admin("init")
    refused = one.admin("keys", "rewrap", check=False)
    assert (refused.returncode, "MQTT_BROKER" in refused.stderr) == (1, True)
    one.env |= {"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": "1"}
    refused = one.admin("keys", "rewrap", "--json", check=False)
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"].startswith("the bus at 127.0.0.1:1: ")


def test_a_device_that_has_heard_it_does_not_hear_it_again(gateway, mosquitto):
    topic = "devices/lamp-1/private/pin"
    gateway.add_device("lamp-1", "full")
    secret = gateway.secrets["lamp-1"]

    def connected(name: str) -> raw.Raw:
        device = raw.Raw(gateway.port, gateway.tls())
        device.send(raw.connect(name, username="lamp-1", password=secret)).read()
        return device

    kept, live = raw.publish(topic, b"4711", retain=True), raw.publish(topic, b"4711")
    with connected("early") as early, connected("speaker") as speaker:
        early.send(raw.subscribe(1, (topic, 0))).read()
        speaker.send(raw.publish(topic, b"4711", qos=1, packet_id=1, retain=True)).read()
        assert early.read() == live
        gateway.admin("keys", "rotate")
        assert json.loads(gateway.admin("keys", "rewrap", "--json").stdout)["resealed"] == 1
        # What is published now comes next: nothing was in between.
        speaker.send(raw.publish(topic, b"0815", qos=1, packet_id=2)).read()
        assert early.read() == raw.publish(topic, b"0815")
    with connected("late") as late:
        late.send(raw.subscribe(1, (topic, 0)))
        assert kept in (late.read(), late.read())
    # And the older key can go.
    gateway.admin("keys", "destroy", "k1", "--yes")
    with connected("later") as later:
        later.send(raw.subscribe(1, (topic, 0)))
        assert kept in (later.read(), later.read())
