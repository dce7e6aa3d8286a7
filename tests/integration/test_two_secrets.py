"""`device rotate --overlap`: killed at any moment, by any clock, a device has a secret that works."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from harness.device import Device, join
from harness.enrol import enrol, in_store
from harness.gateway import ROOT, Gateway
from harness.mosquitto import Mosquitto
from harness.raw import publish
from harness.stored_rows import wait_for_refusal


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path_factory.mktemp("bus")).start()
    yield broker
    broker.kill()


@pytest.fixture
def gateway(bus: Mosquitto, tmp_path) -> Iterator[Gateway]:
    made = Gateway(tmp_path / "gateway", bus.port)
    yield made.start()
    made.kill()


@pytest.fixture
def entered(gateway: Gateway) -> Iterator[Callable[..., Device]]:
    """Devices that are in, and are closed at the end."""
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(join(gateway, *words))


def rotated(gateway: Gateway, device: str, overlap: str) -> str:
    """Give it a next secret by the command, and wait until the gateway knows it."""
    said = json.loads(gateway.admin("device", "rotate", device, "--overlap", overlap, "--json").stdout)
    gateway.wait_for_devices()
    return said["secret"]


def code(gateway: Gateway, device: str, secret: str) -> int:
    """What its CONNECT is answered with."""
    with Device(gateway) as peer:
        return peer.connect(client_id="other", username=device, password=secret)[3]


def wait_for(what, within=5.0):
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def known(gateway: Gateway, device: str):
    return in_store(gateway, lambda store: store.devices.get(device))


def test_the_old_secret_is_good_until_the_new_one_was_used(gateway, entered):
    enrol(gateway, lamp="full")
    old = gateway.secrets["lamp"]
    held, epoch = entered("lamp", "held"), known(gateway, "lamp").token_epoch
    new = rotated(gateway, "lamp", "1h")
    assert (code(gateway, "lamp", old), code(gateway, "lamp", "neither of both")) == (0, 5)
    held.barrier()  # what the old one opened goes on
    assert known(gateway, "lamp").token_epoch == epoch
    assert code(gateway, "lamp", new) == 0
    assert code(gateway, "lamp", old) == 5
    held.ended(1.5)
    after = known(gateway, "lamp")
    assert after.token_epoch > epoch
    assert (after.next_credential, after.overlap_until) == ("", 0)
    gateway.secrets["lamp"] = new
    entered("lamp").barrier()
    wait_for(lambda: "the old secret ended: the new one was used" in gateway.log_text())


def test_a_session_that_the_new_secret_opened_goes_on_when_the_old_one_ends(gateway):
    enrol(gateway, lamp="full")
    gateway.secrets["lamp"] = rotated(gateway, "lamp", "1h")
    with join(gateway, "lamp") as peer:
        time.sleep(1.5)
        peer.barrier()


def test_killed_between_issue_and_use_both_are_good_and_after_the_time_the_new_one_is(gateway):
    enrol(gateway, lamp="full", other="full")
    old = gateway.secrets["lamp"]
    new = rotated(gateway, "lamp", "1h")
    gateway.kill()
    gateway.start()
    assert code(gateway, "lamp", old) == 0
    gateway.kill()
    # The time goes by while nothing runs: an hour of the clock, as the store has it.
    before = next_of(gateway)
    in_store(gateway, lambda store: store.devices.set_next_credential("lamp", before, -1))
    gateway.start()
    assert code(gateway, "lamp", old) == 5, "by the clock, whether the store knows it or not"
    assert code(gateway, "lamp", new) == 0
    wait_for(lambda: not known(gateway, "lamp").next_credential)
    assert code(gateway, "lamp", new) == 0
    assert code(gateway, "other", gateway.secrets["other"]) == 0


def next_of(gateway: Gateway) -> str:
    return known(gateway, "lamp").next_credential


def test_when_the_time_is_over_sessions_of_the_old_one_end_though_nobody_used_the_new_one(gateway, entered):
    enrol(gateway, lamp="full")
    old, held = gateway.secrets["lamp"], entered("lamp")
    new = rotated(gateway, "lamp", "2s")
    held.ended(5)
    assert (code(gateway, "lamp", old), code(gateway, "lamp", new)) == (5, 0)
    wait_for(lambda: "the old secret ended: its time is over" in gateway.log_text())


def test_a_token_that_the_new_secret_asked_for_is_good_at_once(gateway):
    """It is of the device's new epoch: the old one's tokens end with the old secret."""
    enrol(gateway, lamp="full")
    before = json.loads(gateway.admin("token", "issue", "lamp", "--json").stdout)["token"]
    assert code(gateway, "lamp", before) == 0
    new = rotated(gateway, "lamp", "1h")
    asked = urllib.request.Request(
        f"https://localhost:{gateway.http_port}/api/v1/token",
        json.dumps({"device_id": "lamp", "secret": new}).encode(),
        {"Content-Type": "application/json"},
    )
    trusted = ssl.create_default_context(cafile=str(gateway.ca))
    with urllib.request.urlopen(asked, context=trusted) as answer:
        token = json.loads(answer.read())["token"]
    assert code(gateway, "lamp", token) == 0
    assert code(gateway, "lamp", before) == 5
    time.sleep(1.2)
    assert code(gateway, "lamp", token) == 0


def test_methods_are_taken_away_from_live_connections_and_from_logins(gateway, entered):
    enrol(gateway, lamp="full")
    held = entered("lamp")
    token = json.loads(gateway.admin("token", "issue", "lamp", "--json").stdout)["token"]
    with Device(gateway) as by_token:
        assert by_token.connect(client_id="t", username="lamp", password=token)[3] == 0
        gateway.admin("device", "set", "lamp", "--methods", "token")
        held.ended(1.5)
        by_token.barrier()
    assert code(gateway, "lamp", gateway.secrets["lamp"]) == 5
    assert code(gateway, "lamp", token) == 0
    assert "may not log in by secret" in gateway.log_text()
    gateway.admin("device", "set", "lamp", "--methods", "secret")
    refused = gateway.admin("token", "issue", "lamp", check=False)
    assert (refused.returncode, "may not log in by a token" in refused.stderr) == (1, True)


def test_a_limit_that_is_reached_is_said_once_and_explained(gateway):
    """A sensor that goes mad: it is read more slowly, loses nothing, and whoever asks learns why."""
    role = gateway.acl / "roles" / "sensor.toml"
    role.write_text((ROOT / "acl" / "roles" / "sensor.toml").read_text())  # with its limits
    enrol(gateway, thermo="sensor")
    wait_for(lambda: "messages_per_second" in gateway.admin("acl", "show", "thermo", "--json").stdout)
    with join(gateway, "thermo") as peer:
        peer.send(*[publish("devices/thermo/telemetry", b"1")] * 350)
        peer.barrier()
        peer.send(*[publish("devices/thermo/telemetry", b"1")] * 200)
        peer.barrier()
    lines = [json.loads(line) for line in gateway.log_text().splitlines() if '"kind":"limit"' in line]
    assert [line["reason"] for line in lines] == [
        (
            "It sends more messages, or such that cost more, than it may: it waits, and nothing is lost "
            "(messages_per_second = 100)."
        )
    ]
    wait_for_refusal(gateway, lines[0]["id"])
    why = gateway.admin("acl", "why", lines[0]["id"], check=False)
    assert why.returncode == 1
    assert why.stdout.startswith("refused at")
    assert "messages_per_second" in why.stdout
    assert f"{gateway.acl}/roles/sensor.toml:5" in why.stdout
    assert "device set" in why.stdout
    connection = http.client.HTTPConnection("127.0.0.1", gateway.health_port, timeout=5)
    connection.request("GET", "/metrics")
    told = connection.getresponse().read().decode()
    connection.close()
    assert 'gateway_limits_reached_total{limit="messages_per_second"}' in told
