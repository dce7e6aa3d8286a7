"""deploy/install.sh into a folder, and a gateway before Debian's Mosquitto with the piece for its conf.d."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from harness import mosquitto as bus
from harness.gateway import Gateway

from bench.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


class Host:
    """A clone of the project, and a folder that install.sh takes for the host's; no packages are fetched."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.root, self.clone, self.programs = folder / "root", folder / "clone", folder / "programs"
        self.environment = environment

    def install(self, *words: str, expected: int = 0) -> str:
        done = subprocess.run(
            ["deploy/install.sh", *words, "--host", "mqtt.example.org"],
            cwd=self.clone,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            umask=0o077,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def host(tmp_path: Path) -> Host:
    programs = tmp_path / "programs"
    programs.mkdir()
    python = programs / "python-of-the-host"
    python.write_text(
        f"""#!/bin/sh
# Makes an environment without fetching anything: the one of the tests, under another name.
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\nexec {sys.executable} "$@"\\n' >"$3/bin/gateway-python"
    printf '#!/bin/sh\\ncase "$*" in *pip*) exit 0;; esac\\nexec {sys.executable} "$@"\\n' >"$3/bin/python"
    printf '#!%s/bin/python\\n' "$3" >"$3/bin/gateway"
    touch "$3/pyvenv.cfg"
    chmod +x "$3/bin/python"
    exit 0
fi
exec {sys.executable} "$@"
"""
    )
    python.chmod(0o755)
    root = tmp_path / "root"
    (root / "etc/mosquitto/conf.d").mkdir(parents=True)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin",
        "DESTDIR": str(root),
        "PYTHON": str(python),
        "LC_ALL": "C.UTF-8",
    }
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("acl", "deploy", "docs", "requirements"):
        shutil.copytree(ROOT / name, clone / name)
    # As under root's umask on many servers.
    subprocess.run(["chmod", "-R", "go-rwx", clone], check=True)
    return Host(tmp_path, environment)


@pytest.fixture
def installed(host: Host) -> Path:
    """As --mosquitto --no-start leaves it."""
    for _ in range(2):
        said = host.install("--mosquitto")
        with (host.root / "etc/mqtt-gateway/settings").open("a") as settings:
            settings.write("# the administrator's\n")
    assert "gateway-admin init --san mqtt.example.org" in said
    assert "systemctl restart mosquitto" in said
    return host.root


@pytest.mark.parametrize("is_there", [True, False])
def test_the_python_of_the_distribution_is_taken_before_one_of_a_home(host, is_there):
    """The service can't see homes (ProtectHome), where pyenv keeps its own."""
    of_distribution = host.programs / "python-of-the-host"
    on_path = host.programs / "python3"
    on_path.write_text(
        of_distribution.read_text().replace("exit 0\nfi", 'touch "$3/of-a-home"\n    exit 0\nfi')
    )
    on_path.chmod(0o755)
    script = host.clone / "deploy/install.sh"
    text = script.read_text()
    assert "\nDISTRIBUTION=/usr/bin/python3\n" in text
    stands_for_it = of_distribution if is_there else host.root / "none"
    script.write_text(text.replace("/usr/bin/python3", str(stands_for_it)))
    del host.environment["PYTHON"]
    host.install("--no-start")
    assert (host.root / "opt/mqtt-gateway/of-a-home").exists() is not is_there


def test_a_mosquitto_that_is_started_later_may_open_as_many_files(installed):
    limits = installed / "etc/systemd/system/mosquitto.service.d/gateway.conf"
    assert limits.read_text() == "[Service]\nLimitNOFILE=16384\n"


@pytest.mark.parametrize("broken", ["with the file", "anyway"])
def test_a_mosquitto_that_does_not_start_as_the_gateways_runs_as_before(host, broken):
    """Others use it; and run again it is tried again."""
    piece = host.root / "etc/mosquitto/conf.d/gateway.conf"
    calls = host.root / "calls"
    starts = f"[ ! -e {piece} ]" if broken == "with the file" else "false"
    systemctl = host.programs / "systemctl"
    systemctl.write_text(
        f"""#!/bin/sh
echo "$*" >>{calls}
[ "$*" != "restart mosquitto" ] || {starts}
"""
    )
    systemctl.chmod(0o755)
    script = host.clone / "deploy/install.sh"
    script.write_text(script.read_text().replace('[ -z "$DESTDIR" ] || start=\n', ""))
    for _ in range(2):
        said = host.install("--mosquitto", expected=1)
        assert "/etc/mosquitto/conf.d/gateway.conf" in said.splitlines()[-2]
        assert "journalctl -u mosquitto" in said.splitlines()[-1]
        assert ("runs without it again" in said) == (broken == "with the file")
        assert not piece.exists()
        assert not (host.root / "etc/systemd/system/mosquitto.service.d/gateway.conf").exists()
    done = calls.read_text().splitlines()
    assert done.count("restart mosquitto") == 4
    assert done[-3:] == ["daemon-reload", "reset-failed mosquitto", "restart mosquitto"]


def self_check(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    """What deploy.sh does last."""
    return subprocess.run(
        [sys.executable, ROOT / "deploy/self_check.py"],
        cwd=gateway.folder,
        env=gateway.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_everything_has_its_place_and_what_was_there_stays(installed):
    settings = (installed / "etc/mqtt-gateway/settings").read_text()
    assert settings.count("MQTT_USERNAME=gateway") == 1
    assert "MONITORING_PATH=/etc/mqtt-gateway/monitoring.toml\n" in settings
    assert settings.count("# the administrator's") == 2
    for name in (
        "etc/systemd/system/mqtt-gateway.service",
        "usr/local/bin/gateway-admin",
        "usr/local/bin/gateway",
        "etc/mqtt-gateway/acl/roles/sensor.toml",
        "opt/mqtt-gateway/bin/gateway",
        "opt/mqtt-gateway/self_check.py",
        "opt/mqtt-gateway/doc/operating.md",
    ):
        assert (installed / name).exists(), name
    assert (
        installed / "opt/mqtt-gateway/bin/gateway"
    ).read_text() == f"#!{installed}/opt/mqtt-gateway/bin/python\n"
    secrets = {
        installed / name
        for name in (
            "etc/mqtt-gateway/settings",
            "etc/mqtt-gateway/bus-password",
            "etc/mosquitto/gateway.passwd",
            "var/lib/mqtt-gateway",
        )
    }
    for path in installed.rglob("*"):
        if path in secrets:
            assert path.stat().st_mode & 0o077 == 0, path
        elif not path.is_relative_to(installed / "etc/mosquitto"):
            assert path.stat().st_mode & 0o004, f"{path}: the gateway's user can't read it"
    password = (installed / "etc/mqtt-gateway/bus-password").read_text()
    assert password not in (installed / "etc/mosquitto/gateway.passwd").read_text()


@pytest.fixture
def command(installed, tmp_path):
    """A command of the service as `user` calls it, where the programs say with which settings they run."""
    state = tmp_path / "state"
    state.mkdir()
    programs = tmp_path / "programs"
    for name, text in {
        "id": 'echo "$AS"',
        "runuser": '[ "$1 $2 $3" = "-u mqtt-gateway --" ] && shift 3 && exec "$@"',
        "sudo": "exit 9",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    for name in ("gateway", "gateway-admin"):
        there = installed / "opt/mqtt-gateway/bin" / name
        there.write_text(f'#!/bin/sh\necho "{name} $* $PWD $ACL_PATH $MQTT_BROKER"\n')
        there.chmod(0o755)
        file = installed / "usr/local/bin" / name
        text = file.read_text().replace("/var/lib/mqtt-gateway", str(state))
        for folder in ("/etc", "/opt"):
            text = text.replace(f" {folder}/mqtt", f" {installed}{folder}/mqtt").replace(
                f"={folder}/mqtt", f"={installed}{folder}/mqtt"
            )
        file.write_text(text)

    def call(name, *words, user=0, **environment):
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [installed / "usr/local/bin" / name, *words],
            env={"PATH": path, "AS": str(user), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_its_commands_run_in_its_folder_and_the_environment_comes_before_its_settings(command, tmp_path):
    state = tmp_path / "state"
    assert command("gateway", "check").stdout == f"gateway check {state} /etc/mqtt-gateway/acl 127.0.0.1\n"
    done = command("gateway-admin", "acl", "test", ACL_PATH="it's new")
    assert done.stdout == f"gateway-admin acl test {state} it's new 127.0.0.1\n"
    assert command("gateway-admin", "status", user=1000).returncode == 9, "by sudo"
    done = command("gateway-admin", "acl", "test", user=1000, ACL_PATH="new")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gateway-admin: sudo takes ACL_PATH away: call this as root (sudo -i)\n"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a$b&c", "a$b&c"),
        ("$(id)`id`", "$(id)`id`"),
        ("  two words \t", "two words"),
        ("it's;#fine", "it's;#fine"),
        ('"a \\"b\\" \\$c \\d " ', 'a "b" $c \\d '),
        ("'single \\ \"and\" $c'", 'single \\ "and" $c'),
        ("a\\\\b\\$c\\ ", "a\\b$c "),
        ("one\\\ntwo", "onetwo"),
        ("'two\nlines'", "two\nlines"),
        ("'it'\"'\"'s'", "it's"),
        ("päss", "päss"),
        ("", ""),
    ],
)
def test_settings_mean_the_same_for_its_commands_as_for_systemd(command, installed, line, value):
    """As systemd.exec(5) says of EnvironmentFile, and nothing of it is run as root."""
    settings = installed / "etc/mqtt-gateway/settings"
    with settings.open("a") as file:
        file.write(f"; a comment\\\nexport MQTT_BROKER=other\nMQTT_PASSWORD = {line}\nLAST=1\n")
    there = installed / "opt/mqtt-gateway/bin/gateway"
    there.write_text('#!/bin/sh\nprintf "%s|%s|%s" "$MQTT_PASSWORD" "$MQTT_BROKER" "$LAST"\n')
    done = command("gateway", "check")
    assert done.stdout == f"{value}|127.0.0.1|1", done.stderr


def debian_mosquitto(root: Path, folder: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """As Debian starts it: its own main file, which includes conf.d."""
    port = free_port()
    piece = root / "etc/mosquitto/conf.d/gateway.conf"
    piece.write_text(
        piece.read_text()
        .replace("listener 1883", f"listener {port}")
        .replace("/etc/mosquitto", str(root / "etc/mosquitto"))
    )
    folder.mkdir()
    main = root / "etc/mosquitto/mosquitto.conf"
    main.write_text(
        f"""pid_file {folder}/mosquitto.pid
persistence true
persistence_location {folder}/
log_dest file {folder}/mosquitto.log
{"user root" if os.geteuid() == 0 else ""}
include_dir {root}/etc/mosquitto/conf.d
"""
    )
    process = subprocess.Popen([bus.BINARY, "-c", str(main)])
    bus.wait_for_port(port, process)
    return port, process


def test_debians_mosquitto_lets_in_the_gateway_alone(installed, tmp_path):
    port, process = debian_mosquitto(installed, tmp_path / "mosquitto")
    try:
        refused = subprocess.run(
            ["mosquitto_pub", "-p", str(port), "-t", "t", "-m", "x"], capture_output=True, check=False
        )
        assert refused.returncode != 0
        gateway = Gateway(
            tmp_path / "gateway",
            port,
            MQTT_USERNAME="gateway",
            MQTT_PASSWORD_FILE=str(installed / "etc/mqtt-gateway/bus-password"),
        )
        try:
            gateway.start()
            done = self_check(gateway)
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stdout.count("  ok  ") == 5
        finally:
            gateway.kill()
    finally:
        process.terminate()
        process.wait(10)


def test_the_check_fails_where_the_policy_is_too_wide(tmp_path, mosquitto):
    gateway = Gateway(tmp_path / "gateway", mosquitto.port)
    shutil.copy(gateway.acl / "roles/full.toml", gateway.acl / "roles/sensor.toml")
    try:
        gateway.start()
        done = self_check(gateway)
        assert done.returncode == 1
        assert "the policy is too wide" in done.stderr
        assert "deploy-check" not in gateway.admin("device", "list", "--json").stdout
    finally:
        gateway.kill()


def test_the_check_believes_a_certificate_of_another_pki(tmp_path, mosquitto):
    gateway = Gateway(tmp_path / "gateway", mosquitto.port)
    root = trustme.CA()
    pair = root.create_child_ca().issue_cert("mqtt.example.org")
    certificate, key = Path(gateway.env["TLS_CERT_PATH"]), Path(gateway.env["TLS_KEY_PATH"])
    certificate.parent.mkdir()
    certificate.write_bytes(b"".join(part.bytes() for part in pair.cert_chain_pems))
    pair.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    try:
        gateway.start()
        done = self_check(gateway)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        gateway.kill()


def test_the_check_does_not_believe_another_certificate(tmp_path, mosquitto):
    gateway = Gateway(tmp_path / "gateway", mosquitto.port)
    try:
        gateway.start()
        other = tmp_path / "other.crt"
        trustme.CA().issue_cert("localhost").cert_chain_pems[0].write_to_path(str(other))
        gateway.env["TLS_CERT_PATH"] = str(other)
        done = self_check(gateway)
        assert done.returncode == 1
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    finally:
        gateway.kill()
