"""A certificate that is expired, not valid yet, or soon will be: told wherever somebody looks."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from harness import fork_server
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

from gateway.pki import initial_certificates

EXPIRED = (timedelta(days=3), 2)
NOT_YET = (timedelta(days=-2), 90)
ENDING = (timedelta(days=80), 90)


def made(folder: Path, dates: tuple[timedelta, int]) -> None:
    """A CA and a server certificate with these dates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initial_certificates, "_SKEW", dates[0])
        patch.setattr(initial_certificates, "_SERVER_DAYS", dates[1])
        initial_certificates.ensure_server_certificate(folder / "server.crt", folder / "server.key")


def checked(gateway: Gateway) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [f"{fork_server.folder()}/gateway", "check"],
        cwd=gateway.folder, env=gateway.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dates", "said"),
    [(EXPIRED, "has expired"), (NOT_YET, "is not valid before")],
    ids=["expired", "not yet"],
)
def test_a_certificate_that_is_not_good_is_said_at_once(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway], tmp_path: Path, dates, said: str
) -> None:
    made(tmp_path / "gateway-0" / "certs", dates)
    gateway = start_gateway(mosquitto.port, wait_ready=False)
    status, body = gateway.health("/ready")
    assert status == 503
    assert said in json.loads(body)["checks"]["validity"]["detail"]
    certificates = json.loads(body)["checks"]["certificates"]
    assert (certificates["ok"], certificates["state"]) == (False, "degraded")
    assert said in certificates["message"]
    assert gateway.health("/health")[0] == 200
    shown = gateway.admin("status", check=False)
    assert shown.returncode == 1
    assert f"FAILED validity: {gateway.env['TLS_CERT_PATH']} {said}" in shown.stdout
    lines = [line for line in gateway.log_lines() if line["event"] == "certificate not valid"]
    assert any(said in str(line["reason"]) for line in lines)
    check = checked(gateway)
    assert check.returncode == 1
    assert said in check.stderr
    assert "would not start" not in check.stderr


def test_in_the_last_third_of_its_life_it_is_warned_of_and_renewed_it_is_good(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    folder = tmp_path / "gateway-0" / "certs"
    made(folder, ENDING)
    gateway = start_gateway(mosquitto.port)
    status, body = gateway.health("/ready")
    assert status == 200
    assert "expires in 9 days" in json.loads(body)["checks"]["validity"]["detail"]
    certificates = json.loads(body)["checks"]["certificates"]
    assert certificates["ok"]
    assert re.fullmatch(r"as in the files; days left: ca \d{4}, server 9", certificates["message"])
    assert "WARN   validity: warning: " in gateway.admin("status").stdout
    check = checked(gateway)
    assert check.returncode == 0
    assert "warning: " in check.stderr
    assert "renew it" in check.stderr
    lines = [line for line in gateway.log_lines() if line["event"] == "certificate to be renewed"]
    assert len(lines) == 1
    metrics = gateway.health("/metrics")[1]
    (line,) = [
        line for line in metrics.splitlines() if 'expiry_timestamp_seconds{certificate="server"}' in line
    ]
    assert 8 < (float(line.split()[1]) - time.time()) / 86_400 < 11
    initial_certificates.ensure_server_certificate(tmp_path / "new/server.crt", tmp_path / "new/server.key")
    for name in ("server.crt", "server.key", "ca.crt"):
        (tmp_path / "new" / name).replace(folder / name)
    deadline = time.monotonic() + 20
    while "good" not in json.loads(gateway.health("/ready")[1])["checks"]["validity"]["detail"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_chain_whose_intermediate_has_expired_behind_a_good_leaf(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    """The file alone would send its reader to look at the server certificate, which is good."""
    folder = tmp_path / "gateway-0" / "certs"
    made(tmp_path / "old", EXPIRED)
    made(folder, (timedelta(hours=1), 90))
    with (folder / "server.crt").open("ab") as chain:
        chain.write((tmp_path / "old" / "server.crt").read_bytes())
    gateway = start_gateway(mosquitto.port, wait_ready=False)
    status, body = gateway.health("/ready")
    named = 'intermediate CA "CN=MQTT security gateway" (number 2 of 2) has expired'
    assert status == 503
    assert named in json.loads(body)["checks"]["validity"]["detail"]
    assert named in gateway.admin("status", check=False).stdout
    assert named in checked(gateway).stderr
    ends = {
        line.split('"')[1]: float(line.split()[1])
        for line in gateway.health("/metrics")[1].splitlines()
        if line.startswith("gateway_certificate_expiry_timestamp_seconds{")
    }
    assert ends["server_chain"] < time.time() < ends["server"]
