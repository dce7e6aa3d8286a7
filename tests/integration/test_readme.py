"""What README shows works as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import fork_server
from harness.device import join
from harness.gateway import BIN, Gateway
from harness.mosquitto import Mosquitto
from harness.receivers import wait_until
from harness.stored_rows import wait_for_row

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("version", ["", ", protocol=mqtt.MQTTv5"], ids=["3.1.1", "5"])
def test_the_first_call_of_a_service(gateway, version):
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    device, role = re.findall(r"gateway-admin device add (\S+) --role (\S+)\n", program)[0]
    changes = {
        "VERSION2)": f"VERSION2{version})",
        "SECRET": gateway.add_device(device, role),
        "certs/ca.crt": str(gateway.ca),
        "8883": str(gateway.port),
    }
    for shown, here in changes.items():
        assert shown in program
        program = program.replace(shown, here)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.startswith("{'encrypted': True, 'algorithm': 'AES-256-GCM'"), done.stdout + done.stderr


NOT_HERE = {
    "restore": "with the gateway stopped: tests/cli/test_backup_command.py",
    "alerts test": "needs a channel: tests/integration/test_alerts.py",
    "audit tail --follow": "has no end: tests/cli/test_audit_command.py",
}
PASSPHRASE = "echo correct horse battery staple |"
HERE = {
    "keys export keys.backup": f"{PASSPHRASE} gateway-admin keys export keys.backup --passphrase-stdin",
    "backup /backup/gateway-1": f"{PASSPHRASE} gateway-admin backup gateway-1 --passphrase-stdin",
    "keys destroy k1": "gateway-admin keys destroy k1 --yes",
    "device trace lamp-1": "gateway-admin device trace lamp-1 --for 1s",
}
"""What asks a person, writes elsewhere or takes minutes, as it is said to here."""
REFUSES = "acl why "
"""It answers with 1: what it asks about is denied."""


def commands() -> Iterator[str]:
    """All of `gateway-admin` in the blocks from Devices on, in order."""
    _, _, after = README.read_text("utf-8").partition("\n## Devices\n")
    for block in re.findall(r"```sh\n(.*?)```", after, re.DOTALL):
        for line in block.splitlines():
            if line.startswith(("gateway-admin ", "curl ")):
                yield line


@pytest.mark.timeout(300)
def test_all_commands_from_devices_on(tmp_path: Path, bus: Mosquitto) -> None:
    """One after the other, as somebody would who reads it with a gateway at hand."""
    gateway = Gateway(tmp_path / "gateway", bus.port).start()
    ran = 0
    try:
        for line in commands():
            if any(line.startswith(f"gateway-admin {left_out}") for left_out in NOT_HERE):
                continue
            here = next((to for of, to in HERE.items() if line.startswith(f"gateway-admin {of}")), line)
            with ExitStack() as meanwhile:
                _prepare(gateway, line, meanwhile)
                here = here.replace(":8443", f":{gateway.http_port}")
                done = _shell(gateway, here.replace('"SECRET"', f'"{gateway.secrets.get("lamp-1", "")}"'))
            assert done.returncode == int(REFUSES in line), f"{line}\n{done.stdout}{done.stderr}"
            if found := re.search(r"secret +([\w-]{43})$", done.stdout, re.MULTILINE):
                gateway.secrets["lamp-1"] = found[1]
            ran += 1
        assert '"lights/{device}"' in (gateway.folder / "acl/roles/lamp.toml").read_text()
        assert ran >= 44
    finally:
        gateway.kill()


def _prepare(gateway: Gateway, line: str, meanwhile: ExitStack) -> None:
    """What README takes for granted before this line."""
    if "acl learn" in line:
        who = "lamp-1" if "--device lamp-1" in line else "sensor-1"
        if who not in gateway.secrets:
            gateway.add_device(who, "sensor")
        gateway.wait_for_devices()
        with join(gateway, who, v5=True) as device:
            for topic in ("telemetry", "state"):
                device.publish(f"devices/{who}/{topic}", b"21.5", qos=1)
            if who == "lamp-1":  # it is observed
                wait_until(lambda: device.publish("lights/lamp-1", b"on", qos=1) == 0)
        recorded = "SELECT 1 FROM observations WHERE device_id = ? AND passage = ?"
        wait_for_row(gateway, recorded, who, "allowed" if who == "sensor-1" else "observed")
    elif "acl diff" in line:
        shutil.copytree(gateway.acl, gateway.folder / "acl.new")
    elif "acl import" in line:
        shutil.rmtree(gateway.folder / "acl.new")
        (gateway.folder / "acl_file").write_text("user lamp\ntopic write home/lamp/#\n")
        (gateway.folder / "password_file").write_text("lamp:$7$101$AAAA$AAAA\n")
    elif "device kick" in line:
        gateway.wait_for_devices()
        meanwhile.enter_context(join(gateway, "lamp-1"))
    elif "log.jsonl" in line:
        wait_until(lambda: '"audit checkpoint"' in gateway.log.read_text())
        (gateway.folder / "log.jsonl").write_text(gateway.log_text())
    elif "device disable" in line:
        meanwhile.callback(_shell, gateway, "gateway-admin device enable lamp-1")


def _shell(gateway: Gateway, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line],
        cwd=gateway.folder,
        env={**gateway.env, "PATH": os.pathsep.join([fork_server.folder(), str(BIN), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
