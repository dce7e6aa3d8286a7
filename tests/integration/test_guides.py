"""The guides in docs/: their roles load, their commands run, their Mosquitto bridges and moves."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import time

import pytest
import yaml
from harness import fork_server
from harness import mosquitto as bus
from harness.device import Device, join
from harness.gateway import BIN, Gateway
from harness.guides import DOCS, GUIDES, blocks, commands
from harness.mosquitto import Mosquitto
from harness.stored_rows import wait_for_row

from bench.ports import free_port

WITH_ROLES = [name for name in GUIDES if "# acl/roles/" in (DOCS / name).read_text("utf-8")]


class Yaml(yaml.SafeLoader):
    """With the tags that these programs have of their own."""


Yaml.add_constructor("!secret", lambda loader, node: loader.construct_scalar(node))


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_somewhere_and_settings_are_ones(guide):
    text = (DOCS / guide).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (DOCS / target).exists(), target
    for block in blocks(guide, "yaml"):
        assert yaml.load(block, Yaml)
    for block in blocks(guide, "json"):
        assert json.loads(block)


def shell(gateway: Gateway, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    found = [fork_server.folder(), str(BIN), os.environ["PATH"], "/usr/sbin"]
    path = more.pop("path", "") + os.pathsep.join(found)
    return subprocess.run(
        ["sh", "-c", line],
        cwd=gateway.folder,
        env={**gateway.env, "PATH": path, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write_roles(gateway: Gateway, guide: str) -> None:
    for block in blocks(guide, "toml"):
        name = re.match(r"# acl/(roles/[a-z0-9-]+\.toml)\n", block)
        assert name is not None, block
        gateway.write_policy(name[1], block)


@pytest.mark.parametrize("guide", WITH_ROLES)
def test_its_roles_load_and_its_devices_are_added(world, guide):
    _, gateway = world
    write_roles(gateway, guide)
    ran = 0
    for line in commands(guide):
        if line.startswith("gateway-admin"):
            done = shell(gateway, line)
            assert done.returncode == 0, line + done.stdout + done.stderr
            assert "can never match" not in done.stderr
            ran += 1
    assert ran


def ask(gateway: Gateway, *words: str) -> bool:
    """Whether the policy allows it."""
    return gateway.admin("acl", "why", *words, check=False).stdout.startswith("allowed")


@pytest.mark.parametrize(
    ("guide", "device", "allowed", "denied"),
    [
        (
            "tasmota-esphome.md",
            "plug-1",
            ["publish tele/plug-1/SENSOR", "subscribe cmnd/plug-1/#", "subscribe cmnd/DVES_B3C4D5_fb/#"],
            ["publish tele/plug-2/SENSOR", "subscribe cmnd/#", "subscribe cmnd/DVES_000000_fb/#"],
        ),
        (
            "tasmota-esphome.md",
            "kitchen-1",
            [
                "subscribe kitchen-1/switch/relay/command",
                "publish homeassistant/switch/kitchen-1/relay/config",
                "subscribe kitchen-1/cover/blind/position/command",
            ],
            ["publish homeassistant/switch/other/relay/config", "publish other/status"],
        ),
        (
            "home-assistant.md",
            "homeassistant",
            [
                "subscribe #",
                "publish homeassistant/status",
                "publish kitchen-1/switch/relay/command",
                "publish kitchen-1/cover/blind/position/command",
                "publish zigbee2mqtt/lamp/set",
                "publish zigbee2mqtt/lamp/set/brightness",
                "publish zigbee2mqtt/switch/left/set",
                "publish zigbee2mqtt/switch/left/set/state",
            ],
            ["publish homeassistant/x", "publish tele/plug-1/SENSOR", "publish zigbee2mqtt/lamp"],
        ),
        (
            "zigbee2mqtt.md",
            "zigbee2mqtt",
            [
                "publish zigbee2mqtt/lamp",
                "subscribe zigbee2mqtt/#",
                "publish homeassistant/light/0x1/light/config",
            ],
            ["publish tele/plug-1/SENSOR", "subscribe devices/#"],
        ),
        (
            "node-red.md",
            "node-red",
            [
                "subscribe devices/#",
                "publish devices/lamp-1/commands/on",
                "publish zigbee2mqtt/switch/left/set",
                "publish zigbee2mqtt/lamp/set/brightness",
            ],
            ["publish devices/lamp-1/telemetry", "publish zigbee2mqtt/lamp"],
        ),
    ],
)
def test_a_role_allows_what_its_program_does_and_no_more(world, guide, device, allowed, denied):
    _, gateway = world
    if device not in gateway.admin("device", "list").stdout:
        write_roles(gateway, guide)
        for line in commands(guide):
            if line.startswith(f"gateway-admin device add {device}"):
                assert shell(gateway, line).returncode == 0
    for question in allowed:
        assert ask(gateway, device, *question.split()), question
    for question in denied:
        assert not ask(gateway, device, *question.split()), question


def test_a_flow_that_listens_to_everything_gets_what_its_role_allows(world):
    bus_there, gateway = world
    write_roles(gateway, "node-red.md")
    gateway.add_device("flows", "node-red")
    with join(gateway, "flows", v5=True) as flows, Device(bus_there.port) as spy:
        assert flows.subscribe("#") == [1]
        spy.connect(client_id="talker")
        for topic in ("locks/front", "devices/lamp-1/telemetry"):
            spy.publish(topic, b"1")
        assert [one.topic for one in flows.messages()] == ["devices/lamp-1/telemetry"]


def test_home_assistant_clears_the_announcement_of_a_device_and_makes_none(world):
    _, gateway = world
    write_roles(gateway, "home-assistant.md")
    gateway.add_device("ha", "home-assistant")
    with join(gateway, "ha", v5=True) as ha:
        topic = "homeassistant/switch/plug/relay/config"
        assert ha.publish(topic, b"", retain=True) == 0
        assert ha.publish(topic, b"{}", retain=True) == 0x87


def test_the_ca_of_esphome_is_a_certificate_once_it_is_read(world):
    """Its lines have to be lines still: YAML makes one of those that stand without a `|`."""
    _, gateway = world
    (block,) = blocks("tasmota-esphome.md", "yaml")
    for tag in re.findall(r"!\w+", block):
        assert tag == "!secret", f"{tag} reads a file as YAML"
    lines = gateway.ca.read_text().strip().splitlines()
    indent = re.search(r"^( +)THE LINES OF ca.crt$", block, re.MULTILINE)
    assert indent is not None
    block = block.replace(indent[0], "\n".join(indent[1] + line for line in lines[1:-1]))
    text = yaml.load(block, Yaml)["mqtt"]["certificate_authority"]
    ssl.create_default_context(cadata=text)


def test_a_tasmota_that_knows_rsa_alone_checks_by_fingerprint(world):
    """It has one suite; the second pair is made beside a running gateway."""
    _, gateway = world
    text = (DOCS / "tasmota-esphome.md").read_text("utf-8")
    # Without it the device knows two CAs of others, and never learns a fingerprint.
    assert re.search(r"^Backlog SetOption132 1; SetOption103 1; ", text, re.MULTILINE)
    forget = re.search(r"^MqttFingerprint1 (.*)$", text, re.MULTILINE)
    assert forget is not None
    assert forget[1].split() == ["00"] * 20
    command = re.search(r"`(gateway-admin init --key-type both[^`]*)`", text)
    assert command is not None
    assert shell(gateway, command[1]).returncode == 0
    tasmota = ssl.create_default_context(cafile=str(gateway.folder / "certs/ca-rsa.crt"))
    tasmota.maximum_version = ssl.TLSVersion.TLSv1_2
    tasmota.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")

    def connects() -> bool:
        plain = socket.create_connection(("localhost", gateway.port), timeout=10)
        try:
            with plain, tasmota.wrap_socket(plain, server_hostname="gateway.example.org"):
                return True
        except ssl.SSLError:
            return False

    deadline = time.monotonic() + 10
    while not connects():
        assert time.monotonic() < deadline


def test_the_bridge(world, tmp_path):
    central, gateway = world
    write_roles(gateway, "mosquitto-bridge.md")
    name = "site-7"
    secret = gateway.add_device(name, "site")
    (conf,) = blocks("mosquitto-bridge.md", "conf")
    for there, here in (
        ("gateway.example.org:8883", f"localhost:{gateway.port}"),
        ("/etc/mosquitto/ca_certificates/gateway-ca.crt", str(gateway.ca)),
        ("SECRET", secret),
        ("site-1", name),
    ):
        assert there in conf
        conf = conf.replace(there, here)
    site = Mosquitto(tmp_path / "site", settings=conf).start()
    try:
        with Device(central.port) as spy, Device(site.port) as garden:
            spy.connect(client_id="spy")
            spy.subscribe("#")
            garden.connect(client_id="garden")
            garden.subscribe("#")
            (send,) = [line for line in commands("mosquitto-bridge.md") if line.startswith("mosquitto_pub")]
            seen: list[str] = []
            deadline = time.monotonic() + 30
            while f"{name}/garden/moisture" not in seen and time.monotonic() < deadline:
                assert shell(gateway, f"{send} -p {site.port}").returncode == 0
                seen += [one.topic for one in spy.messages(0.5)]
            assert f"{name}/garden/moisture" in seen
            assert "garden/moisture" not in seen
            garden.messages(0.2)
            spy.publish(f"{name}/from/afar", b"1")
            spy.publish("other-site/from/afar", b"1")
            assert [one.topic for one in garden.messages(1.0) if "afar" in one.topic] == ["from/afar"]
    finally:
        site.kill()


SYSTEMCTL = """#!/bin/sh
case "$*" in
    "reload mosquitto") kill -HUP "$(cat mosquitto.pid)" ;;
    *) echo "$*" >>systemctl.log ;;
esac
"""


def test_the_move_from_mosquitto(tmp_path):
    """The guide from its first line to its last, with a Mosquitto that has users and rules of its own."""
    port = free_port()
    etc = tmp_path / "etc"
    etc.mkdir()
    users = {"lamp": "lamp-password", "desk": "desk-password"}
    for user, password in users.items():
        create = [] if (etc / "passwd").exists() else ["-c"]
        subprocess.run(["mosquitto_passwd", *create, "-b", etc / "passwd", user, password], check=True)
    (etc / "acl").write_text(
        "user lamp\ntopic write home/lamp/#\ntopic read cmnd/lamp/#\n\nuser desk\ntopic read home/#\n"
    )
    gateway = Gateway(tmp_path / "gateway", port)
    settings = {"MQTT_USERNAME": "gateway", "MQTT_PASSWORD_FILE": "bus-password", "ACL_PATH": "acl-new"}
    config = etc / "mosquitto.conf"
    owner = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {etc}/passwd\nacl_file {etc}/acl\n"
        f"pid_file {gateway.folder}/mosquitto.pid\n{owner}"
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL)
    (programs / "systemctl").chmod(0o755)
    process = subprocess.Popen([bus.BINARY, "-c", config])
    try:
        bus.wait_for_port(port, process)
        ran = []
        for line in commands("migrate-from-mosquitto.md"):
            here = line.replace("/etc/mosquitto/", f"{etc}/").replace("-p 8883", f"-p {gateway.port}")
            here = here.replace("-p 1883", f"-p {port}")
            if line.startswith("sed ") and "listener" in line:
                (etc / "conf.d").mkdir()
                (etc / "conf.d/local.conf").write_text("listener 1883\nallow_anonymous true\n")
            if line == "systemctl start mqtt-gateway":
                gateway.start()
                continue
            if line.startswith("mosquitto_pub"):
                gateway.secrets |= users
                gateway.wait_for_devices()
                with Device(port) as old:
                    old.connect(client_id="old", username="desk", password=users["desk"])
                    old.subscribe("home/#")
                    done = shell(gateway, here)
                    assert done.returncode == 0, done.stderr
                    assert [one.payload for one in old.messages(1.0)] == [b"on"]
                ran.append(line)
                continue
            done = shell(gateway, here, path=f"{programs}{os.pathsep}")
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            ran.append(line)
            if line == "systemctl reload mosquitto":
                gateway.env |= settings  # as the guide says there
        assert len(ran) == 19
        closed = "listener 1883 127.0.0.1\nallow_anonymous false\n"
        assert (etc / "conf.d/local.conf").read_text() == closed
        listed = gateway.admin("device", "list").stdout
        assert "lamp" in listed
        assert "gateway" not in listed
        assert [line.partition(":")[0] for line in (etc / "passwd").read_text().splitlines()] == ["gateway"]
        assert (etc / "passwd").stat().st_mode & 0o777 == (etc / "passwd.before").stat().st_mode & 0o777
    finally:
        gateway.kill()
        process.terminate()
        process.wait(10)


def test_the_commands_of_operating(world):
    """Those that need no other machine; a backup asks for its passphrase, here by stdin."""
    _, gateway = world
    gateway.add_device("lamp-1", "sensor")
    ran = 0
    for line in commands("operating.md"):
        words = line.split("#")[0].strip()
        if words.startswith("gateway-admin restore"):
            continue  # with the gateway stopped: tests/cli/test_backup_command.py
        if words.startswith("gateway-admin backup"):
            words = f"echo correct horse battery | {words} --passphrase-stdin"
        if "acl learn" in words:
            with join(gateway, "lamp-1") as lamp:
                lamp.publish("devices/lamp-1/telemetry", b"21.5")
            wait_for_row(gateway, "SELECT 1 FROM observations WHERE device_id = 'lamp-1'")
        words = words.replace("/etc/mqtt-gateway/acl", str(gateway.acl))
        if "--history" in words:  # its first sample is saved some seconds after the start
            wait_for_row(gateway, "SELECT 1 FROM history")
        done = shell(gateway, words.replace("--for 5m", "--for 1s"))
        assert done.returncode == 0, words + done.stdout + done.stderr
        ran += 1
    assert ran >= 15
    assert "devices/{device}/telemetry" in (gateway.acl / "roles/lamp.toml").read_text()
    assert json.loads(gateway.admin("device", "show", "lamp-1", "--json").stdout)["roles"] == ["lamp"]
