"""Who is connected, and how that is ended: `device list`, `show` and `kick` on a running gateway."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from harness.device import code_of, join, spy
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, bus: Mosquitto) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("gateway"), bus.port).start()
    for device in ("lamp-1", "lamp-2", "gone"):
        running.add_device(device)
    yield running
    running.kill()


def shown(gateway: Gateway, device: str) -> dict:
    return json.loads(gateway.admin("device", "show", device, "--json").stdout)


def test_show_says_since_when_from_where_and_how(gateway):
    before = time.time_ns() // 1_000_000
    with join(gateway, "lamp-1", "one", v5=True) as first, join(gateway, "lamp-1", "two") as second:
        first.publish("t", b"1")
        old, new = shown(gateway, "lamp-1")["connections"]
        assert before <= old["connected_at"] <= new["connected_at"] <= time.time_ns() // 1_000_000
        assert (old["client_id"], old["protocol"], old["login"]) == ("one", "5", "secret")
        assert (new["client_id"], new["protocol"], new["login"]) == ("two", "3.1.1", "secret")
        assert old["address"] == f"127.0.0.1:{first._socket.getsockname()[1]}"
        assert new["address"] == f"127.0.0.1:{second._socket.getsockname()[1]}"
        assert before - 1_000 <= old["last_message_at"] <= time.time_ns() // 1_000_000
        text = gateway.admin("device", "show", "lamp-1").stdout
    lines = [line for line in text.splitlines() if line.startswith("connected")]
    assert len(lines) == 2
    said = (
        r"connected  since 20\S+Z from 127\.0\.0\.1:\d+, client id one, MQTT 5, by secret; last \w+ \d s ago"
    )
    assert re.fullmatch(said, lines[0])


def test_list_says_who_is_connected(gateway):
    with join(gateway, "lamp-1", "one"), join(gateway, "lamp-1", "two"), join(gateway, "lamp-2") as silent:
        silent.barrier()
        listed = {
            row.split("\t")[0]: row.split("\t") for row in gateway.admin("device", "list").stdout.splitlines()
        }
        assert re.fullmatch(r"since 20\S+Z \(2 connections\)", listed["lamp-1"][4])
        assert re.fullmatch(r"since 20\S+Z", listed["lamp-2"][4])
        assert listed["gone"][4] == "no"
        devices = json.loads(gateway.admin("device", "list", "--json").stdout)["devices"]
        counts = {device["device_id"]: len(device["connections"]) for device in devices}
        assert counts == {"lamp-1": 2, "lamp-2": 1, "gone": 0}
        assert shown(gateway, "lamp-2")["connections"][0]["last_message_at"] is None
    assert gateway.admin("device", "show", "gone").stdout.splitlines()[-1] == "connected  no"


def test_a_kick_ends_all_connections_tells_why_and_has_the_will_published(gateway, bus):
    with spy(bus.port, "wills/#") as listener:
        v5 = join(gateway, "lamp-1", "one", v5=True, will=("wills/one", b"gone", 0, False))
        v3 = join(gateway, "lamp-1", "two", will=("wills/two", b"gone", 0, False))
        with join(gateway, "lamp-2") as other:
            said = gateway.admin("device", "kick", "lamp-1").stdout
            assert said == "Device lamp-1 kicked. Its 2 connections were ended.\n"
            assert code_of(v5.ended()) == 0x98
            assert v3.ended() == b""
            other.barrier()
        assert {listener.message().topic for _ in range(2)} == {"wills/one", "wills/two"}
    with join(gateway, "lamp-1", "one") as back:
        back.barrier()


def test_the_audit_says_who_kicked_whom(gateway):
    with join(gateway, "lamp-2", v5=True) as device:
        gateway.admin("device", "kick", "lamp-2", "--json")
        device.ended()
    deadline = time.monotonic() + 10
    found: list[dict] = []
    while not found and time.monotonic() < deadline:
        found = [
            line
            for line in gateway.log_lines()
            if line["event"] == "audit" and "kicked" in str(line["reason"]) and line["device"] == "lamp-2"
        ]
        time.sleep(0.05)
    assert len(found) == 1
    assert (found[0]["kind"], found[0]["outcome"]) == ("session", "done")
    assert str(found[0]["address"]).startswith("gateway-admin:")
    assert found[0]["reason"] == "kicked: 1 connection ended"


def test_the_log_says_why_the_bus_ended_a_session_that_is_told_nothing(gateway):
    """In MQTT 3.1.1: a keep alive that was missed, and a client that came again."""
    reasons = {"silent": "1.5 times its keep alive of 1 s", "twice": "the same client id connected again"}
    with join(gateway, "lamp-1", "silent", keep_alive=1) as silent, join(gateway, "lamp-1", "twice") as first:
        with join(gateway, "lamp-1", "twice") as again:
            assert first.ended() == b""
            again.barrier()
        assert silent.ended() == b""
        lines = gateway.log_lines()
    for client_id, why in reasons.items():
        ids = {line["connection"] for line in lines if line.get("client_id") == client_id}
        said = [line["reason"] for line in lines if line["event"] == "closed" and line["connection"] in ids]
        assert why in said[0]


def test_who_is_not_connected_or_not_there_can_not_be_kicked(gateway):
    for device, why in (("gone", "device gone is not connected"), ("ghost", "there is no device 'ghost'")):
        done = gateway.admin("device", "kick", device, "--json", check=False)
        assert done.returncode == 1
        assert json.loads(done.stdout)["error"].startswith(why)


def test_without_a_gateway_it_is_said(gateway, tmp_path):
    stopped = Gateway(tmp_path / "stopped", None)
    stopped.admin("init")
    stopped.add_device("lamp-1")
    assert shown(stopped, "lamp-1")["connections"] is None
    assert (
        "connected  no: no gateway runs with the data folder"
        in stopped.admin("device", "show", "lamp-1").stdout
    )
    assert stopped.admin("device", "list").stdout.endswith("full\t\t\n")
    done = stopped.admin("device", "kick", "lamp-1", check=False)
    assert done.returncode == 1
    assert "no gateway runs" in done.stderr


def test_a_change_acts_before_the_command_returns(gateway):
    """By the poke: the gateway's own look comes twice a second."""
    for _ in range(5):
        with join(gateway, "lamp-1", v5=True) as device:
            gateway.admin("device", "disable", "lamp-1")
            assert code_of(device.ended(0.2)) == 0x87
        gateway.admin("device", "enable", "lamp-1")


def test_the_socket_of_a_killed_gateway_is_no_gateway(bus, tmp_path):
    killed = Gateway(tmp_path / "killed", bus.port).start()
    killed.add_device("lamp-1")
    killed.kill()
    assert (killed.folder / "data" / "control.sock").exists()
    assert "no gateway runs" in killed.admin("device", "show", "lamp-1").stdout
    killed.start()
    assert killed.admin("device", "show", "lamp-1").stdout.endswith("connected  no\n")
    killed.stop()
    assert not (killed.folder / "data" / "control.sock").exists()
