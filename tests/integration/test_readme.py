"""What README shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
