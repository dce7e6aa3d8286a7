"""The trail of a real gateway: what is in it, that it is whole whatever happens, and who can check it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from harness.device import Device
from harness.gateway import BIN, ROOT
from harness.trails import key_of, verified

from gateway.audit_trail.segments import decoded, entries_from


def trail(gateway):
    return gateway.folder / "data" / "audit"


def entries(gateway):
    return [decoded(line) for _, line in entries_from(trail(gateway) / "entries", 0)]


def wait_for(gateway, fits, seconds=20):
    """The first entry that fits, once it is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for entry in entries(gateway):
            if fits(entry):
                return entry
        time.sleep(0.05)
    raise AssertionError(f"no such entry among {entries(gateway)}")


def notes(gateway):
    return [str(line["note"]) for line in gateway.log_lines() if line.get("event") == "audit checkpoint"]


def test_what_happened_is_in_it_and_others_can_check_that(gateway, tmp_path):
    secret = gateway.add_device("lamp-1", "sensor")
    with Device(gateway) as device, Device(gateway) as stranger:
        device.connect(client_id="c", username="lamp-1", password=secret)
        device.publish("forbidden/topic", b"x")
        stranger.connect(client_id="c", username="lamp-1", password="wrong")
        gateway.admin("device", "disable", "lamp-1")
        wait_for(gateway, lambda one: one.get("reason") == "disabled")
        wait_for(gateway, lambda one: one["kind"] == "session")
    gateway.stop()

    found = entries(gateway)
    assert [one["seq"] for one in found] == list(range(len(found)))
    said = Counter((one["kind"], one["outcome"]) for one in found)
    for expected in [
        ("audit", "done"), ("gateway", "done"), ("key", "done"), ("certificate", "done"), ("device", "done"),
        ("login", "done"), ("login", "refused"), ("publish", "refused"), ("session", "refused"),
    ]:  # fmt: skip
        assert said[expected], expected
    login = next(one for one in found if (one["kind"], one["outcome"]) == ("login", "done"))
    assert (login["device"], login["reason"]) == ("lamp-1", "by secret")
    assert login["connection"] in {
        line.get("connection") for line in gateway.log_lines() if line["event"] == "connected"
    }
    assert found[-1]["reason"] == "stops"

    # The same events, word for word, but for logins that were let in.
    told = [line for line in gateway.log_lines() if line.get("event") == "audit"]
    for line in told:
        for name in ("ts", "level", "event"):
            line.pop(name)
    kept = [{k: v for k, v in one.items() if k != "seq"} for one in found if one is not login]
    assert kept == told
    assert secret not in json.dumps(found)

    assert verified(trail(gateway), *notes(gateway)).problems == []
    done = json.loads(gateway.admin("audit", "verify", "--checkpoint", str(gateway.log), "--json").stdout)
    assert (done["ok"], done["problems"], done["signed"]) == (True, [], len(found))
    assert done["checkpoints"] >= 2

    (disabled,) = [one for one in found if one.get("reason") == "disabled"]
    out = tmp_path / "x.tlog-proof"
    gateway.admin("audit", "prove", disabled["id"], "--out", str(out))
    assert out.stat().st_size < 1_536
    script = [sys.executable, str(ROOT / "docs" / "check_proof.py"), done["key"], str(out), f"{out}.entry"]
    assert subprocess.run(script, check=True, capture_output=True, text=True).stdout.startswith(done["trail"])
    Path(f"{out}.entry").write_bytes(Path(f"{out}.entry").read_bytes().replace(b"disabled", b"enabled "))
    assert subprocess.run(script, check=False, capture_output=True).returncode != 0

    path = next((trail(gateway) / "entries").iterdir())
    path.write_bytes(path.read_bytes().replace(b'"reason":"disabled"', b'"reason":"dis4bled"'))
    wrong = gateway.admin("audit", "verify", "--json", check=False)
    assert wrong.returncode == 1
    assert f"entry {disabled['seq']} " in json.loads(wrong.stdout)["problems"][0]


def check_of(gateway):
    return json.loads(gateway.health("/ready")[1])["checks"]["audit"]


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_change_is_refused_while_the_trail_can_not_be_written_and_devices_go_on(gateway):
    secret = gateway.add_device("lamp-1", "sensor")
    wait_for(gateway, lambda one: one.get("device") == "lamp-1")
    folder = trail(gateway) / "entries"
    away = folder.rename(folder.with_name("elsewhere"))
    with Device(gateway) as stranger:
        stranger.connect(client_id="c", username="lamp-1", password="wrong")
    wait_until(lambda: not check_of(gateway)["ok"])
    assert "taken away while it was in use: put it back" in check_of(gateway)["detail"]
    assert gateway.health("/ready")[0] == 200, "devices go on"
    status, body = gateway.health("/health")
    found = json.loads(body)["checks"]["audit"]
    assert (status, found["ok"], found["state"]) == (200, False, "degraded"), "no restart mends it"
    assert found["detail"] == check_of(gateway)["detail"]
    shown = gateway.admin("status").stdout
    assert "gateway  ready (" in shown
    assert "  FAILED audit: " in shown
    with Device(gateway) as lamp:
        assert lamp.connect(client_id="c", username="lamp-1", password=secret)[3] == 0
        assert lamp.publish("devices/lamp-1/telemetry", b"1") == 0
        refused = gateway.admin("device", "disable", "lamp-1", check=False)
        assert refused.returncode == 1
        assert "nothing was changed, for the audit event of it can't be kept" in refused.stderr
        assert "put it back" in refused.stderr
        assert lamp.publish("devices/lamp-1/telemetry", b"2") == 0
    not_saved = [line for line in gateway.log_lines() if line["event"] == "not saved"]
    assert [line["part"] for line in not_saved] == ["audit trail"]
    away.rename(folder)
    wait_until(lambda: check_of(gateway)["ok"])
    gateway.admin("device", "disable", "lamp-1")
    wait_for(gateway, lambda one: one.get("reason") == "disabled")
    wait_for(gateway, lambda one: (one["kind"], one["outcome"]) == ("login", "refused"))
    wait_for(gateway, lambda one: (one["kind"], one["outcome"]) == ("login", "done"))
    gateway.stop()
    assert verified(trail(gateway), *notes(gateway)).problems == []


def test_a_trail_that_was_cut_is_found_at_the_next_start_and_one_that_is_gone_is_followed(gateway):
    gateway.admin("device", "add", "lamp-1", "--role", "sensor")
    wait_for(gateway, lambda one: one.get("device") == "lamp-1")
    gateway.stop()
    path = next((trail(gateway) / "entries").iterdir())
    whole = path.read_bytes()
    path.write_bytes(b"".join(line + b"\n" for line in whole.split(b"\n")[:-3]))
    gateway.start()
    assert "entries were signed" in check_of(gateway)["detail"]
    assert gateway.admin("device", "remove", "lamp-1", "--yes", check=False).returncode == 1
    gateway.stop()
    origin = key_of(trail(gateway)).origin
    trail(gateway).rename(gateway.folder / "old")
    gateway.start()
    assert check_of(gateway)["ok"]
    gateway.stop()
    assert key_of(trail(gateway)).origin == f"{origin}/2"
    assert f"begins; the one before it was signed as: {origin} " in entries(gateway)[0]["reason"]
    assert gateway.admin("audit", "verify").returncode == 0
    foreign = gateway.admin(
        "audit", "verify", "--checkpoint", str(gateway.folder / "old" / "checkpoint"), check=False
    )
    assert foreign.returncode == 1
    assert f"it is of another trail: {origin}, and this one is {origin}/2" in foreign.stdout


def test_tail_and_search(gateway):
    for name in ("lamp-1", "lamp-2"):
        gateway.add_device(name, "sensor")
    wait_for(gateway, lambda one: one.get("device") == "lamp-2")
    (newest,) = json.loads(gateway.admin("audit", "tail", "-n", "1", "--json").stdout)["entries"]
    assert newest["device"] == "lamp-2"
    text = gateway.admin("audit", "tail", "-n", "1").stdout
    assert re.fullmatch(rf"#{newest['seq']}\t20\S+Z\tdevice\tdone\tlamp-2\tadded with .*\n", text)
    found = json.loads(
        gateway.admin("audit", "search", "--device", "lamp-1", "--since", "1h", "--json").stdout
    )
    assert [one["reason"] for one in found["entries"]] == ["added with the roles sensor"]
    assert gateway.admin("audit", "search", "--until", "2020-01-01", check=False).returncode == 1
    assert gateway.admin("audit", "search", "--kind", "nonsense", check=False).returncode == 2
    assert gateway.admin("audit", "search", "--since", "yesterday", check=False).returncode == 2
    words = [str(BIN / "gateway-admin"), "audit", "tail", "--follow", "-n", "0", "--kind", "device", "--json"]
    with subprocess.Popen(
        words, cwd=gateway.folder, env=gateway.env, stdout=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout is not None
        time.sleep(2)
        gateway.admin("device", "disable", "lamp-1")
        assert json.loads(tail.stdout.readline())["reason"] == "disabled"
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) == 0
