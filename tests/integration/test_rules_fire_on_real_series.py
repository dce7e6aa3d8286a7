"""The rules for Prometheus fire on what a gateway really counts, and not only on series that were made up.

What `/metrics` said before and after is given to promtool as two minutes of scrapes.
"""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from harness.device import Device, join
from harness.gateway import ROOT, Gateway
from harness.promtool import promtool

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"


def scrape(gateway: Gateway) -> dict[str, str]:
    time.sleep(1.1)  # it is read once a second
    status, text = gateway.health("/metrics")
    assert status == 200
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {series: value for series, _, value in lines}


def fires(folder, alert: str, before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether this alert fires a minute after the numbers went from `before` to `after`, and not before."""

    def firing(at: str, samples: list[object]) -> dict[str, object]:
        expression = f'count by (alertname) (ALERTS{{alertstate="firing",alertname="{alert}"}})'
        return {"expr": expression, "eval_time": at, "exp_samples": samples}

    once = [{"labels": f'{{alertname="{alert}"}}', "value": 1}]
    used = RULES.read_text()
    series = []
    for name, value in after.items():
        if name.partition("{")[0] in used:
            was = f"{before[name]}x3" if name in before else "_x4"
            series.append({"series": name, "values": f"{was} {value}x8"})
    tests = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": series,
                "promql_expr_test": [firing("45s", []), firing("2m", once)],
            }
        ],
    }
    file = folder / f"{alert}.yml"
    file.write_text(json.dumps(tests))  # JSON is YAML
    done = subprocess.run(
        [promtool(), "test", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 or "FAILED" in done.stdout + done.stderr, done.stdout + done.stderr
    return done.returncode == 0


def test_one_device_is_guessed_at_from_one_address(gateway: Gateway, tmp_path) -> None:
    """After the first thirty a guess is refused as throttled, which is counted apart."""
    gateway.add_device("lamp")
    before = scrape(gateway)
    for number in range(60):
        with Device(gateway) as stranger:
            assert stranger.connect(client_id="s", username="lamp", password=f"guess {number}")[3] in {3, 5}
    after = scrape(gateway)
    assert not fires(tmp_path, "GatewayWrongLogins", before, before)
    assert fires(tmp_path, "GatewayWrongLogins", before, after)


@pytest.mark.parametrize("action", ["publish", "subscribe"])
def test_one_device_goes_on_with_what_it_may_not(gateway: Gateway, tmp_path, action: str) -> None:
    """On one topic and one connection: a decision is counted once for all of its messages."""
    gateway.add_device("lamp", "sensor")
    before = scrape(gateway)
    with join(gateway, "lamp", "l", v5=True) as lamp:
        for _ in range(150):
            if action == "publish":
                lamp.publish("devices/other/telemetry", b"denied")
            else:
                lamp.subscribe("devices/other/commands/#")
        lamp.barrier()
    after = scrape(gateway)
    assert not fires(tmp_path, "GatewayDenials", before, before)
    assert fires(tmp_path, "GatewayDenials", before, after)
