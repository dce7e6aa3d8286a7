"""A real Mosquitto on a free port."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from bench.ports import free_port

# Debian puts it where an ordinary user's PATH may not look.
BINARY = os.environ.get("MOSQUITTO") or shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def version() -> tuple[int, ...]:
    """Of the Mosquitto at hand: tests take what it does itself for the measure, and versions differ."""
    said = subprocess.run([BINARY, "-h"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
    assert found is not None, said
    return tuple(int(part) for part in found.groups())


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise RuntimeError(f"nothing listens on {port}")


class Mosquitto:
    """The bus: anonymous, on loopback. With `persistent` it keeps sessions over a restart."""

    def __init__(self, folder: Path, *, persistent: bool = False, settings: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "set_tcp_nodelay true",
            "log_type all",
            "user root" if os.geteuid() == 0 else "",
            f"persistence {'true' if persistent else 'false'}",
            f"persistence_location {folder}/",
            settings,
        ]
        self._config = folder / "mosquitto.conf"
        self._config.write_text("\n".join(lines) + "\n")

    def start(self) -> Mosquitto:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([BINARY, "-c", str(self._config)], stdout=log, stderr=log)
        wait_for_port(self.port, self._process)
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """As an operator stops it: what is to be kept is saved."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process is not None:
            for _ in range(20):
                # Again, for Mosquitto forgets a SIGTERM that comes right before its main loop.
                self._process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.5)
                    break
            else:
                raise TimeoutError("Mosquitto did not end")
            self._process = None
