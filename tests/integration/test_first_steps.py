"""The quick start of README, word for word: it ends with a message that a subscriber shows."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from harness.gateway import BIN, Gateway
from harness.mosquitto import Mosquitto

README = Path(__file__).parents[2] / "README.md"


def test_the_quick_start_ends_with_a_message_that_is_seen(tmp_path: Path, mosquitto: Mosquitto) -> None:
    block = re.findall(r"```sh\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[1]
    add_lamp, add_me, listen, send = block.strip().splitlines()
    gateway = Gateway(tmp_path / "gateway", mosquitto.port).start()
    try:
        secrets = [
            re.search(r"secret +(\S+)", shell(gateway, line).stdout)[1]  # type: ignore[index]
            for line in (add_lamp, add_me)
        ]
        gateway.secrets |= dict(zip(("lamp-1", "me"), secrets, strict=True))
        gateway.wait_for_devices()
        told = {"SECRET-OF-LAMP": secrets[0], "SECRET-OF-ME": secrets[1], "-p 8883": f"-p {gateway.port}"}
        for shown, here in told.items():
            listen, send = listen.replace(shown, here), send.replace(shown, here)
        # The terminal stays open there; here it ends with the first message.
        listen = listen.removesuffix("&").strip() + " -C 1 -W 20"
        with subprocess.Popen(
            ["sh", "-c", listen],
            cwd=gateway.folder,
            env=environment(gateway),
            stdout=subprocess.PIPE,
            text=True,
        ) as listener:
            line = ""
            while not line:
                assert shell(gateway, send).returncode == 0
                assert listener.stdout is not None
                if listener.poll() is not None or gateway_has_subscriber(gateway):
                    shell(gateway, send)
                    line = listener.stdout.readline()
        assert line == "devices/lamp-1/telemetry 21.5\n"
    finally:
        gateway.kill()


def gateway_has_subscriber(gateway: Gateway) -> bool:
    return any(line.get("device") == "me" and line["event"] == "connected" for line in gateway.log_lines())


def environment(gateway: Gateway) -> dict[str, str]:
    return {**gateway.env, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def shell(gateway: Gateway, line: str) -> subprocess.CompletedProcess[str]:
    line = line.replace(".venv/bin/gateway-admin", str(BIN / "gateway-admin"))
    return subprocess.run(
        ["sh", "-c", line],
        cwd=gateway.folder,
        env=environment(gateway),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
