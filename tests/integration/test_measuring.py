"""Every metric is moved by what it counts, on one running gateway; the checks of other services, too."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from harness import raw
from harness.device import Device, join
from harness.gateway import ROOT, Gateway
from harness.mosquitto import Mosquitto
from harness.promtool import promtool

from gateway.observe.external_service_check_definitions import OUR_CHECKS
from gateway.observe.metric_catalogue import PREFIX, MetricType, catalogue

SENSITIVE = "devices/lamp/private/pin"
MOVED_ELSEWHERE = {
    # By what takes thousands of events, a full disk or a bus that is gone: in these tests.
    "audit_dropped": "unit/app/savers/test_audit_trail_thread.py",
    "audit_suppressed": "unit/observe/test_audit_dispatch.py",
    "bus_connect_failures": "integration/test_the_bus_does_not_answer.py",
    "deliveries_denied": "playbooks/test_delivery.py",
    "deliveries_dropped": "playbooks/test_device_that_does_not_take.py",
    "deliveries_too_large": "playbooks/test_delivery.py",
    "holdings_refused": "playbooks/test_what_a_device_may_hold.py",
    "limits_reached": "playbooks/test_limits_of_roles.py",
    "log_lines_dropped": "integration/test_nobody_reads_the_log.py",
    "refusals_not_kept": "unit/app/savers/test_policy_denials_saver.py",
    "rewrapped_dropped": "playbooks/test_rewrapped.py",
    "store_write_failures": "unit/observe/test_save_failures.py",
}
MONITORING = """
metrics_of_devices = ["lamp"]
[[check]]
name = "page"
kind = "http"
target = "http://127.0.0.1:{page}/health"
interval = "1s"
timeout = "1s"

[[check]]
name = "mosquitto"
kind = "tcp"
target = "127.0.0.1:{bus}"
interval = "1s"
timeout = "1s"

[[check]]
name = "lamp"
kind = "device"
target = "lamp"
interval = "1s"
timeout = "1s"

[[check]]
name = "heart"
kind = "device"
target = "lamp"
topic = "devices/lamp/state"
within = "2s"
interval = "1s"
timeout = "1s"
"""


class Page(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(Page.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Mosquitto, Gateway]]:
    folder = tmp_path_factory.mktemp("measuring")
    page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    bus = Mosquitto(folder / "bus").start()
    monitoring = folder / "monitoring.toml"
    monitoring.write_text(MONITORING.format(page=page.server_port, bus=bus.port))
    one = Gateway(folder / "gateway", bus.port, MONITORING_PATH=str(monitoring))
    try:
        one.start()
        for device, roles in (
            ("lamp", ("sensor",)),
            ("room", ("operator",)),
            ("full", ("full",)),
            ("soon-gone", ("full",)),
            ("intent", ("service",)),
        ):
            one.add_device(device, *roles)
        yield bus, one
    finally:
        one.kill()
        bus.kill()
        page.shutdown()
        page.server_close()


def scrape(gateway: Gateway) -> dict[str, float]:
    """Each sample by its name and labels as written; new since it was asked before."""
    time.sleep(1.1)  # it is read once a second
    status, text = gateway.health("/metrics")
    assert status == 200
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


def total(samples: dict[str, float], name: str, **labels: str) -> float:
    """The sum of all samples of this name with these labels."""
    return sum(
        value
        for sample, value in samples.items()
        if sample.partition("{")[0] == name
        and all(f'{label}="{one}"' in sample for label, one in labels.items())
    )


def wait_for(gateway: Gateway, true, seconds: float = 20.0) -> dict[str, float]:
    deadline = time.monotonic() + seconds
    while not true(samples := scrape(gateway)):
        assert time.monotonic() < deadline, samples
        time.sleep(0.05)
    return samples


def traffic(bus: Mosquitto, gateway: Gateway) -> None:
    """Some of all that is counted."""
    with join(gateway, "room", "r", v5=True) as room, join(gateway, "lamp", "l") as lamp:
        assert room.subscribe("devices/+/telemetry", "devices/+/private/#", qos=2) == [2, 2]
        assert lamp.subscribe("devices/other/commands/#") == [0x80]
        for qos in (0, 1, 2):
            lamp.publish("devices/lamp/telemetry", b"21.5", qos=qos)
        lamp.publish("devices/lamp/private/pin", b"4711")
        lamp.publish("devices/other/telemetry", b"denied")
        assert {room.message().payload for _ in range(4)} >= {b"4711", b"21.5"}
        with Device(bus.port) as bystander:
            assert bystander.connect(client_id="bystander")[3] == 0
            bystander.publish(SENSITIVE, b'{"encrypted":true}')
            bystander.publish(SENSITIVE, b"")
        with join(gateway, "full", "f") as full:
            full.subscribe("a/#")
            full.publish("a/b", b"1")
            full.message()
        room.barrier()
    with join(gateway, "intent", "i", v5=True) as intent:
        for request in (
            b'{"topic":"services/intent/memo","message":1}',
            b'{"topic":"elsewhere","message":1}',
        ):
            intent.publish("gateway/encrypt", request)
            intent.message()
        intent.publish("gateway/auth", b"{}")
        token = json.loads(intent.message().payload)["token"]
    with Device(gateway) as renewed:
        assert renewed.connect(client_id="t", username="intent", password=token)[3] == 0
    for device, secret in (("lamp", "wrong"), ("nobody", "x")):
        with Device(gateway) as stranger:
            assert stranger.connect(client_id="s", username=device, password=secret)[3] == 5
    with Device(gateway) as broken:
        broken.send(b"\xff" * 20)
        broken.ended()
    with contextlib.closing(socket.create_connection(("127.0.0.1", gateway.port))) as plain:
        plain.sendall(raw.connect(client_id="plain"))
        plain.recv(100)


def test_every_metric_is_there_and_every_counter_moves(world):
    bus, gateway = world
    before = scrape(gateway)
    traffic(bus, gateway)
    gateway.write_policy("limits.toml", "connections = 7_000\n")
    wait_for(gateway, lambda samples: samples["gateway_policy_reloads_total"] > 0)
    gateway.write_policy("limits.toml", "typo = 1\n")
    wait_for(gateway, lambda samples: samples["gateway_policy_errors_total"] > 0)
    gateway.write_policy("limits.toml", "connections = 7_000\n")
    after = wait_for(gateway, lambda samples: total(samples, "gateway_policy_reloads_total") >= 1)
    missing, still = [], []
    for metric in catalogue().values():
        if not metric.scraped or metric.labels == ("device",):
            continue
        name = f"{PREFIX}{metric.name}"
        if metric.name in MOVED_ELSEWHERE:
            assert metric.name in (ROOT / "tests" / MOVED_ELSEWHERE[metric.name]).read_text()
            if not any(sample.startswith(name) for sample in before):
                missing.append(name)  # its first would be no increase
        elif metric.type is MetricType.COUNTER:
            if total(after, f"{name}_total") <= total(before, f"{name}_total"):
                still.append(name)
        elif not any(sample.startswith(name) for sample in after):
            missing.append(name)
    # Of connections there are none just then.
    assert (still, set(missing) - {"gateway_connections_established"}) == ([], set())


def test_what_was_counted_by_what(world):
    bus, gateway = world
    before = scrape(gateway)
    traffic(bus, gateway)

    def moved(name, **labels):
        return total(after, name, **labels) - total(before, name, **labels)

    after = wait_for(gateway, lambda samples: total(samples, "gateway_connections") == 0)
    assert moved("gateway_logins_total", method="secret", outcome="accepted") == 4
    assert moved("gateway_logins_total", method="token", outcome="accepted") == 1
    assert moved("gateway_logins_total", method="secret", outcome="not_authorized") == 2
    assert moved("gateway_tls_handshakes_total") == 8
    assert moved("gateway_tls_handshake_failures_total", reason="plain_text") == 1
    for qos, count in (("0", 1), ("1", 3), ("2", 1)):
        assert moved("gateway_messages_passed_total", direction="from_devices", qos=qos) == count, qos
    assert moved("gateway_messages_passed_total", direction="to_devices") == 5
    assert moved("gateway_messages_ended_total", direction="from_devices") == 4, "one denied, three requests"
    assert moved("gateway_messages_ended_total", direction="to_devices") == 2
    assert moved("gateway_decisions_total", outcome="denied", reason="no_rule") >= 2
    assert moved("gateway_decisions_total", action="publish", outcome="allowed", reason="rule") >= 3
    assert moved("gateway_sealed_total") == 1
    assert moved("gateway_opened_total") == 1
    assert moved("gateway_open_failed_total") == 1
    assert moved("gateway_empty_unsealed_dropped_total") == 1
    assert moved("gateway_argon2_seconds_count") == 2, "the others are remembered"


def test_what_goes_up_and_down(world):
    _, gateway = world
    with join(gateway, "full", "one", v5=True) as one, join(gateway, "full", "two") as two:
        # Counted every few seconds, once perhaps between the first and the second.
        samples = wait_for(
            gateway, lambda samples: total(samples, "gateway_connections_established") == 2, 25
        )
        assert samples["gateway_connections"] == 2
        assert samples["gateway_devices_connected"] == 1
        for protocol in ("3.1.1", "5"):
            assert samples[f'gateway_connections_established{{login="secret",protocol="{protocol}"}}'] == 1
        # Of samples, and each waits for the first message within a second.
        deadline = time.monotonic() + 20
        while not total(scrape(gateway), "gateway_device_round_trip_seconds_count"):
            assert time.monotonic() < deadline
            for _ in range(5):
                one.publish("a/b", b"1")
                two.publish("a/b", b"1")
        assert one.publish("a/b", b"still there", qos=2) == 0
    assert samples["gateway_ready"] == samples["gateway_live"] == samples["gateway_bus_reachable"] == 1
    assert total(samples, "gateway_devices", state="enabled") == 5
    assert samples["gateway_bus_round_trip_seconds_count"] > 0
    assert samples["gateway_tokens_valid"] >= 0
    assert 0 < samples["gateway_data_disk_free_ratio"] < 1
    assert 0 < samples["gateway_system_memory_used_ratio"] < 1
    assert samples['gateway_certificate_life_left{certificate="server"}'] > 0.9
    assert total(samples, "gateway_certificates", state="good") == 2
    assert samples['gateway_key_created_timestamp_seconds{kind="sealing"}'] > 1_600_000_000
    assert samples["gateway_workers"] == 1
    assert samples["gateway_audit_entries"] > 0
    assert samples["gateway_audit_checkpoint_timestamp_seconds"] >= 0


def test_a_device_that_the_file_names_has_metrics_of_its_own_and_no_other_has(world):
    bus, gateway = world
    before = scrape(gateway)
    traffic(bus, gateway)
    with Device(gateway, source="127.0.0.7") as lamp:
        assert lamp.connect(client_id="l", username="lamp", password=gateway.secrets["lamp"])[3] == 0

    def moved(name):
        return total(after, f"gateway_device_{name}", device="lamp") - total(
            before, f"gateway_device_{name}", device="lamp"
        )

    # Messages are read each ten seconds.
    passed = total(before, "gateway_device_messages_total") + 5
    after = wait_for(gateway, lambda samples: total(samples, "gateway_device_messages_total") >= passed)
    assert moved("wrong_logins_total") == 1
    assert moved("connects_total") == 2
    assert moved("new_addresses_total") == 1
    assert moved("bytes_total") > 5 * len("devices/lamp/telemetry")
    assert total(after, "gateway_device_message_bytes") > len("devices/lamp/telemetry")
    assert 0 <= total(after, "gateway_device_silent_seconds") < 20
    named = {sample.partition('device="')[2] for sample in after if 'device="' in sample}
    assert named == {'lamp"}'}


def test_how_long_a_revocation_takes(world):
    _, gateway = world
    before = scrape(gateway)
    with join(gateway, "soon-gone") as device:
        gateway.admin("device", "disable", "soon-gone")
        device.ended()
    after = wait_for(gateway, lambda samples: total(samples, "gateway_devices", state="disabled") == 1)
    count, seconds = (
        after[f"gateway_revocation_seconds_{end}"] - before[f"gateway_revocation_seconds_{end}"]
        for end in ("count", "sum")
    )
    assert count >= 1
    assert 0 < seconds / count < 1.5


def status_of(gateway: Gateway, service: str) -> tuple[float | None, str]:
    status = total(scrape(gateway), "gateway_service_status", service=service)
    return status, json.loads(gateway.health("/health")[1])["checks"][service]["detail"]


def until(gateway: Gateway, service: str, status: float, seconds: float = 15.0) -> str:
    deadline = time.monotonic() + seconds
    while (found := status_of(gateway, service))[0] != status:
        assert time.monotonic() < deadline, found
    return found[1]


def test_other_services_are_checked_and_each_change_is_an_event(world):
    _, gateway = world
    assert until(gateway, "page", 1) == "it answers 200"
    assert until(gateway, "mosquitto", 1) == "it accepts connections"
    assert until(gateway, "lamp", 0) == "lamp is not connected"
    assert "nothing came on devices/lamp/state since it is listened for" in until(gateway, "heart", 0)
    Page.status = 500
    assert until(gateway, "page", 0) == "it answers 500"
    Page.status = 200
    until(gateway, "page", 1)
    with join(gateway, "lamp") as lamp:
        assert until(gateway, "lamp", 1) == "lamp is connected"
        deadline = time.monotonic() + 15
        while status_of(gateway, "heart")[0] != 1:
            assert time.monotonic() < deadline
            lamp.publish("devices/lamp/state", b"on")
    assert re.fullmatch(r"nothing came on devices/lamp/state for \d+ s", until(gateway, "heart", 0))
    assert gateway.health("/ready")[0] == 200, "devices are served without other services"
    told = [line["reason"] for line in gateway.log_lines() if line.get("kind") == "health"]
    assert "page is unhealthy: it answers 500" in told
    assert "page is healthy: it answers 200" in told


def test_a_check_that_is_taken_out_of_the_file_is_done_no_more(world):
    _, gateway = world
    path = gateway.folder.parent / "monitoring.toml"
    path.write_text(path.read_text().partition('[[check]]\nname = "lamp"')[0])
    deadline = time.monotonic() + 15
    while "lamp" in json.loads(gateway.health("/health")[1])["checks"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "page" in json.loads(gateway.health("/health")[1])["checks"]


def test_our_own_checks_have_names_that_no_other_check_may_have(world):
    _, gateway = world
    ours = json.loads(gateway.health("/health")[1])["checks"].keys() - {"page", "mosquitto", "lamp", "heart"}
    assert ours <= OUR_CHECKS


def test_promtool_has_nothing_against_the_metrics(world):
    _, gateway = world
    status, text = gateway.health("/metrics")
    assert status == 200
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_history_is_whole_after_a_kill_and_shown_by_status(world):
    _, gateway = world
    words = ("status", "--history", "--json", "--metric", "gateway_connections_opened_total", "--last", "1h")

    def points():
        (series,) = json.loads(gateway.admin(*words).stdout)["series"]
        return series["points"]

    deadline = time.monotonic() + 25
    while len(before := points()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    gateway.kill()
    assert points()[: len(before)] == before, "also while it is stopped"
    gateway.start()
    deadline = time.monotonic() + 25
    while len(after := points()) <= len(before):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert after[: len(before)] == before
    shown = gateway.admin("status", "--history").stdout
    assert re.search(r"^messages from devices .*[▁▂▃▄▅▆▇█]", shown, re.MULTILINE)
    assert gateway.admin("status", "--history", "--last", "2d", check=False).returncode == 2
    assert gateway.admin("status", "--last", "1h", check=False).returncode == 2
    wrong = gateway.admin("status", "--history", "--metric", "typo", check=False)
    assert "nobody measured 'typo'" in wrong.stderr
