"""The guides in docs/: their roles load, their commands run, their Mosquitto bridges and moves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from harness import fork_server
from harness import mosquitto as bus
from harness.device import Device
from harness.gateway import BIN, Gateway
from harness.mosquitto import Mosquitto
from harness.stored_rows import wait_for_row

from bench.ports import free_port

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = sorted(path.name for path in DOCS.glob("*.md"))
WITH_ROLES = [name for name in GUIDES if "# acl/roles/" in (DOCS / name).read_text("utf-8")]


def blocks(guide: str, language: str) -> list[str]:
    """Its blocks of code in this language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / guide).read_text("utf-8"), re.DOTALL)


def commands(guide: str) -> Iterator[str]:
    """The commands of its shell blocks, without what is a setting and no command."""
    for block in blocks(guide, "sh"):
        for line in block.strip().splitlines():
            if not re.match(r"[A-Z_]+=\S*$", line):
                yield line


class Yaml(yaml.SafeLoader):
    """With the tags that these programs have of their own."""


Yaml.add_multi_constructor("!", lambda loader, tag, node: loader.construct_scalar(node))


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
            ],
            ["publish homeassistant/switch/other/relay/config", "publish other/status"],
        ),
        (
            "home-assistant.md",
            "homeassistant",
            ["subscribe #", "publish homeassistant/status", "publish kitchen-1/switch/relay/command"],
            ["publish homeassistant/switch/x/y/config", "publish tele/plug-1/SENSOR"],
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
            ["subscribe devices/#", "publish devices/lamp-1/commands/on"],
            ["subscribe #", "publish devices/lamp-1/telemetry"],
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
                (etc / "conf.d/local.conf").write_text("listener 1883\n")
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
        assert len(ran) == 18
        assert (etc / "conf.d/local.conf").read_text() == "listener 1883 127.0.0.1\n"
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
        if "--history" in words:  # its first sample is saved some seconds after the start
            wait_for_row(gateway, "SELECT 1 FROM history")
        done = shell(gateway, words.replace("--for 5m", "--for 1s"))
        assert done.returncode == 0, words + done.stdout + done.stderr
        ran += 1
    assert ran >= 9
