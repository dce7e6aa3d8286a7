"""`gateway run` from the outside: it starts, is seen by `status`, and ends when told; or says why not."""

import json
import signal
import subprocess
import time

from bench.ports import free_port


def status_when_it_answers(bare):
    for _ in range(300):
        code, out, _ = bare.shell("gateway-admin status --json")
        status = json.loads(out)
        if status["running"]:
            return code, status
        time.sleep(0.05)
    raise AssertionError(out)


def test_it_runs_until_it_is_told_to_stop(bare):
    bare.environment.update(
        # Nothing listens there: the gateway runs, says that it is not ready, and goes on asking.
        MQTT_BROKER="127.0.0.1",
        MQTT_PORT=str(free_port()),
        GATEWAY_MQTT_BIND="127.0.0.1:0",
        GATEWAY_HEALTH_BIND=f"127.0.0.1:{free_port()}",
    )
    with subprocess.Popen(
        ["gateway", "run"], cwd=bare.folder, env=bare.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            code, status = status_when_it_answers(bare)
        finally:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
    assert (code, status["ready"], status["checks"]["bus"]["ok"]) == (1, False, False)
    assert status["checks"]["store"]["ok"] is True
    assert process.returncode == 0, err
    assert "made       certs/ca.crt" in out
    assert all(json.loads(line)["event"] for line in err.splitlines())


def test_it_says_everything_that_keeps_it_from_starting(bare):
    (bare.folder / "acl" / "limits.toml").write_text("typo = 1\n")
    (bare.folder / "acl" / "roles" / "broken.toml").write_text("[")
    code, out, err = bare.shell("gateway run")
    assert (code, out) == (1, "")
    assert "limits.toml:1" in err
    assert "broken.toml:1" in err
    assert "Traceback" not in err
    assert not (bare.folder / "data").exists()


def test_a_wrong_setting_is_told_and_nothing_is_made(bare):
    code, _, err = bare.shell("MQTT_PORT=0 GATEWAY_WHATEVER=1 gateway run")
    assert code == 1
    assert "MQTT_PORT" in err
    assert "GATEWAY_WHATEVER" in err
    assert not (bare.folder / "data").exists()
