"""What the guides say of Docker and of the service, as far as it goes without an engine and systemd."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from harness import fork_server
from harness.gateway import BIN, ROOT, Gateway
from harness.guides import DOCS, GUIDES, blocks, commands
from harness.mosquitto import Mosquitto


def said_of_docker(guide: str) -> list[str]:
    found = [*commands(guide, "console"), *commands(guide)]
    return [line for line in found if line.startswith("docker ")]


@pytest.mark.parametrize("guide", GUIDES)
def test_no_container_of_the_gateway_starts_beside_the_one_that_runs(guide):
    """Both would ask for the fixed addresses of compose.prod.yaml."""
    for block in blocks(guide, "console"):
        runs = True
        for line in block.splitlines():
            if re.match(r"docker compose (stop|start|up)", line):
                runs = " stop " not in line
            if line.startswith("docker compose run") and re.search(r" gateway( |$)", line):
                assert not runs, line


@pytest.mark.parametrize("guide", GUIDES)
def test_a_command_in_a_container_that_reads_or_writes_a_file_asks_for_no_terminal(guide):
    for line in said_of_docker(guide):
        if re.search(r"(?<![\w'])[<>]\S", re.sub(r"'[^']*'", "", line)):
            assert " -T " in line, line


def test_a_backup_can_be_made_again_on_another_day():
    """One of a fixed name is refused the second time, for it is there already."""
    text = (DOCS / "operating.md").read_text("utf-8")
    names = re.findall(r"gateway-admin backup\s+(\S+)", text)
    assert names
    for name in names:
        assert "$(date" in name, name
    assert "$(date +%F)" not in "".join(blocks("operating.md", "crontab")), "cron ends the line at a %"


def test_the_password_of_the_bus_is_made_anew_for_both(tmp_path):
    """What the guide removes is enough for make_secrets.py to make the pair again."""
    for name in ("bus", "gateway"):
        (tmp_path / name).mkdir()
    make = [sys.executable, "-I", ROOT / "deploy/compose/make_secrets.py", tmp_path]
    subprocess.run(make, check=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (remove, start) = [line for line in said_of_docker("operating.md") if "secrets" in line or " up " in line]
    assert "--force-recreate" in start, "Mosquitto reads its file when it starts"
    words = shlex.split(remove)
    assert words[: words.index("-c")] == shlex.split("docker compose run --rm --entrypoint sh secrets")
    subprocess.run(["sh", "-c", words[-1].replace("/secrets", str(tmp_path))], check=True)
    subprocess.run(make, check=True)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert all(after[path] != before[path] for path in before)


def settings_of_the_service() -> str:
    """As deploy/install.sh writes them."""
    found = re.search(r"<<'SETTINGS'\n(.*?)SETTINGS\n", (ROOT / "deploy/install.sh").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def with_a_password(folder: Path, password: str) -> Mosquitto:
    """The add-on with the login of the guide."""
    folder.mkdir()
    file = folder / "passwd"
    subprocess.run(["mosquitto_passwd", "-c", "-b", file, "gateway", password], check=True)
    one = Mosquitto(folder, settings=f"password_file {file}")
    config = folder / "mosquitto.conf"
    config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    return one


def test_home_assistant_as_a_service(tmp_path):
    """Each line as it stands; only what needs root or systemd is a stand-in."""
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "settings").write_text(settings_of_the_service())
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("chown", "systemctl"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/called\n')
        (programs / name).chmod(0o755)
    addon: Mosquitto | None = None
    gateway = Gateway(tmp_path / "gateway", None)
    path = os.pathsep.join([str(programs), fork_server.folder(), str(BIN), os.environ["PATH"], "/usr/sbin"])

    def take_settings() -> None:
        lines = (etc / "settings").read_text().splitlines()
        given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        gateway.env |= {name: value for name, value in given.items() if name.startswith("MQTT_")}
        if addon is not None:
            assert gateway.env["MQTT_BROKER"] == "192.0.2.10"
            gateway.env |= {"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(addon.port)}

    ran = 0
    try:
        before_its_role = blocks("home-assistant.md", "sh")[:-1]
        of_the_service = [block for block in before_its_role if "docker" not in block]
        for line in "".join(of_the_service).splitlines():
            if line == "deploy/install.sh --no-start":
                continue  # tests/deploy/test_install_script.py
            if line.startswith("systemctl"):
                addon = with_a_password(tmp_path / "addon", (etc / "bus-password").read_text()).start()
            take_settings()
            done = subprocess.run(
                ["sh", "-c", line.replace("/etc/mqtt-gateway", str(etc))],
                cwd=gateway.folder, env={**gateway.env, "PATH": path},
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, line + done.stdout + done.stderr
            if line.startswith("systemctl"):
                gateway.start()
            ran += 1
        assert ran == 8
        assert (etc / "bus-password").stat().st_mode & 0o777 == 0o600
        called = (tmp_path / "called").read_text()
        assert f"chown mqtt-gateway: {etc}/bus-password\nsystemctl enable --now mqtt-gateway\n" == called
        text = subprocess.run(
            ["openssl", "x509", "-in", gateway.folder / "certs/server.crt", "-noout", "-text"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "gateway.example.org" in text
    finally:
        gateway.kill()
        if addon is not None:
            addon.kill()


def test_home_assistant_in_a_container(tmp_path):
    """Its settings reach a bus with a password; what it mounts is where the image looks."""
    (run,) = [line for line in said_of_docker("home-assistant.md") if line.startswith("docker run")]
    words = shlex.split(run.replace("$PWD", "/here"))
    given = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "-e")
    mounts = dict(words[at + 1].split(":")[:2] for at, word in enumerate(words) if word == "-v")
    image = (ROOT / "Dockerfile").read_text()
    assert f"ACL_PATH={mounts['/here/acl']}" in image
    assert f"VOLUME {mounts['gateway']}\n" in image
    assert given.pop("MQTT_PASSWORD_FILE") == mounts["/here/bus-password"]
    assert "chown 10001 bus-password" in list(commands("home-assistant.md"))
    assert "USER 10001:10001\n" in image
    assert given.pop("MQTT_BROKER") == "192.0.2.10"
    password = tmp_path / "bus-password"
    password.write_text("correct horse battery")
    addon = with_a_password(tmp_path / "addon", password.read_text()).start()
    gateway = Gateway(tmp_path / "gateway", addon.port, **given, MQTT_PASSWORD_FILE=str(password))
    try:
        gateway.start()
    finally:
        gateway.kill()
        addon.kill()
