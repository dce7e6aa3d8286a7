"""Signals of a running gateway: a planned stop publishes no will, SIGHUP reads the files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from harness.device import SESSION_FOREVER, Device, code_of, join, spy
from harness.gateway import BIN, Gateway
from harness.mosquitto import Mosquitto
from harness.receivers import wait_until

from bench.ports import free_port
from gateway.pki.initial_certificates import ensure_server_certificate

SHUTTING_DOWN = 0x8B


@pytest.fixture(autouse=True)
def closed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All devices of a test are closed, whatever becomes of it."""
    opened: list[Device] = []
    begin = Device.__init__

    def remembered(device: Device, *words: Any, **named: Any) -> None:
        begin(device, *words, **named)
        opened.append(device)

    monkeypatch.setattr(Device, "__init__", remembered)
    yield
    for device in opened:
        device.close()


def logged(gateway: Gateway, event: str, *, wait: bool = True) -> list[dict[str, object]]:
    """The lines of this event, waited for."""
    deadline = time.monotonic() + 10
    while True:
        lines = [line for line in gateway.log_lines() if line["event"] == event]
        if lines or not wait or time.monotonic() > deadline:
            return lines
        time.sleep(0.02)


def end(gateway: Gateway, number: int) -> int:
    process = gateway._process
    assert process is not None
    process.send_signal(number)
    return process.wait(20)


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[Mosquitto]:
    bus = Mosquitto(tmp_path / "lasting", persistent=True).start()
    yield bus
    bus.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_planned_stop_publishes_no_will_and_keeps_sessions(
    lasting: Mosquitto, start_gateway: Callable[..., Gateway], number: int
) -> None:
    gateway = start_gateway(lasting.port)
    gateway.add_device("old")
    gateway.add_device("new")
    watcher = spy(lasting.port, "wills/#", "after/#")
    old = join(gateway, "old", "kept", clean=False, will=("wills/old", b"gone", 1, False))
    new = join(
        gateway,
        "new",
        "kept",
        v5=True,
        clean=False,
        props=SESSION_FOREVER,
        will=("wills/new", b"gone", 1, False),
    )
    old.subscribe("for/old")
    new.subscribe("for/new")
    assert end(gateway, number) == 0
    assert old.ended() == b""
    last = new.ended()
    assert last[:1] == b"\xe0"
    assert code_of(last) == SHUTTING_DOWN
    sender = Device(lasting.port)
    sender.connect(client_id="sender")
    for topic in ("for/old", "for/new", "after/all"):
        assert sender.publish(topic, b"queued") == 0
    assert watcher.message().topic == "after/all"  # and no will before it
    gateway.start()
    for name, v5 in (("old", False), ("new", True)):
        device = Device(gateway, v5=v5)
        words = {"props": SESSION_FOREVER} if v5 else {}
        connack = device.connect(
            client_id="kept", username=name, password=gateway.secrets[name], clean=False, **words
        )
        assert connack[2] == 1  # session present
        assert device.message().payload == b"queued"


def test_a_killed_gateway_publishes_the_will(
    lasting: Mosquitto, start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway(lasting.port)
    gateway.add_device("old")
    watcher = spy(lasting.port, "wills/#")
    join(gateway, "old", will=("wills/old", b"gone", 1, False))
    gateway.kill()
    assert watcher.message().payload == b"gone"


def test_a_hangup_reads_policy_certificates_and_keys_and_ends_nobody(gateway: Gateway) -> None:
    gateway.add_device("lamp")
    device = join(gateway, "lamp")
    os.kill(gateway.pid, signal.SIGHUP)
    (line,) = logged(gateway, "reloaded")
    assert line["signal"] == "SIGHUP"
    policy, certificates, keys, monitoring = cast("list[str]", line["found"])
    assert re.fullmatch(r"policy: [0-9a-f]{12}", policy)
    assert certificates.startswith("certificates: ")
    assert keys == "keys: sealing k1, signing s1"
    assert monitoring.startswith("monitoring: 0 checks, ")
    device.barrier()


def test_a_hangup_reads_the_ca_of_the_bus(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    """A bus whose CA was renewed: who has the old one can't reach it, and needs no restart."""
    places = [tmp_path / name for name in ("old", "new")]
    for place in places:
        ensure_server_certificate(place / "server.crt", place / "server.key", names=[])
    port, (old, new) = free_port(), places
    tls = (
        f"listener {port} 127.0.0.1\nallow_anonymous true\n"
        f"certfile {new}/server.crt\nkeyfile {new}/server.key\n"
    )
    bus = Mosquitto(tmp_path / "tls", settings=tls).start()
    try:
        trusted = tmp_path / "trusted.crt"
        trusted.write_bytes((old / "ca.crt").read_bytes())
        gateway = start_gateway(port, wait_ready=False, MQTT_CA_PATH=str(trusted), MQTT_BROKER="localhost")
        assert gateway.health("/ready")[0] == 503
        trusted.write_bytes((new / "ca.crt").read_bytes())
        os.kill(gateway.pid, signal.SIGHUP)
        (line,) = logged(gateway, "reloaded")
        assert "bus authority: as in the file" in cast("list[str]", line["found"])
        gateway.add_device("lamp")
        join(gateway, "lamp").barrier()
    finally:
        bus.kill()


def test_a_hangup_says_what_can_not_be_used(gateway: Gateway) -> None:
    gateway.write_policy("roles/broken.toml", '[[allow]]\nactions = ["fly"]\ntopics = ["a"]\n')
    os.kill(gateway.pid, signal.SIGHUP)
    (line,) = logged(gateway, "reloaded")
    said = f"a problem in {gateway.folder}/acl/roles/broken.toml:2: `gateway-admin acl check` tells"
    assert said in str(line["found"])
    # So says who is asked for the gateway's health.
    assert said in gateway.admin("status", "--json").stdout


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_are_a_line_in_the_log(gateway: Gateway, number: signal.Signals) -> None:
    gateway.add_device("lamp")
    device = join(gateway, "lamp")
    os.kill(gateway.pid, number)
    # Not by `log_lines`: it sends a signal of its own, and two that wait are one.
    wait_until(lambda: f'"signal":"{number.name}"' in gateway.log.read_text())
    (line,) = logged(gateway, "signal ignored")
    assert line["signal"] == number.name
    device.barrier()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_no_signal_ends_a_start(mosquitto: Mosquitto, tmp_path: Path, number: int) -> None:
    """They may come before the event loop runs, from a service manager in a hurry."""
    gateway = Gateway(tmp_path / "early", mosquitto.port)
    code = (
        "import os, sys, gateway.config as config; from gateway.cli import entry\n"
        "inner = config.read_settings\n"
        f"config.read_settings = lambda *a: (os.kill(os.getpid(), {int(number)}), inner(*a))[1]\n"
        "sys.argv = ['gateway', 'run']; entry.main()\n"
    )
    with gateway.log.open("ab") as log:
        gateway._process = subprocess.Popen(
            [str(BIN / "python"), "-c", code], cwd=gateway.folder, env=gateway.env, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 30
        while "\nhealth " not in gateway.log.read_text():
            assert gateway._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert end(gateway, signal.SIGTERM) == 0
    finally:
        gateway.kill()


def test_a_stop_is_heard_before_anything_is_imported() -> None:
    """Imports are most of a start: process 1 of a container must not be deaf for so long."""
    code = """if True:
        import signal, sys
        from gateway.cli import entry

        class Watch:
            def find_spec(self, name, *_):
                if name == "gateway.cli.run":
                    deaf = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
                    raise SystemExit(deaf or "typer" in sys.modules)

        sys.meta_path.insert(0, Watch())
        sys.argv = ["gateway", "run"]
        entry.main()
    """
    assert subprocess.run([str(BIN / "python"), "-c", code], check=False).returncode == 0


def test_process_1_of_a_container_ends_in_order(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The kernel gives process 1 no signal that it does not handle."""
    gateway = Gateway(tmp_path / "container", mosquitto.port)
    namespaces = ["--pid", "--fork", "--kill-child"]
    if os.geteuid():
        namespaces.append("--map-root-user")
    with gateway.log.open("ab") as log:
        parent = subprocess.Popen(
            ["unshare", *namespaces, str(BIN / "gateway"), "run"],
            cwd=gateway.folder, env=gateway.env, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                if gateway.health()[0] == 200:
                    break
            except OSError:
                pass
            assert parent.poll() is None, gateway.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.03)
        gateway.add_device("lamp")
        watcher = spy(mosquitto.port, "wills/#", "after/#")
        join(gateway, "lamp", will=("wills/lamp", b"gone", 1, False))
        (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGHUP)
        assert logged(gateway, "reloaded")
        os.kill(int(child), signal.SIGTERM)
        assert parent.wait(20) == 0
        sender = Device(mosquitto.port)
        sender.connect(client_id="sender")
        sender.publish("after/all")
        assert watcher.message().topic == "after/all"
    finally:
        parent.kill()
        parent.wait()


def test_a_second_gateway_on_the_folder_says_who_holds_it(gateway: Gateway, mosquitto: Mosquitto) -> None:
    second = subprocess.run(  # noqa: PLW1510
        [str(BIN / "gateway"), "run"], cwd=gateway.folder, timeout=30, capture_output=True, text=True,
        env=gateway.env | {"GATEWAY_MQTT_BIND": "127.0.0.1:0", "GATEWAY_HEALTH_BIND": "127.0.0.1:0"},
    )  # fmt: skip
    assert second.returncode == 1
    assert (
        f"GATEWAY_DATA_DIR: {gateway.env['GATEWAY_DATA_DIR']} is in use by another gateway, process "
        in second.stderr
    )
    assert f"process {gateway.pid}:" in second.stderr
    # Commands go on, and a gateway that was killed leaves the folder free.
    gateway.add_device("lamp")
    gateway.kill()
    gateway.start()
