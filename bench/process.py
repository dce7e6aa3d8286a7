"""Programs that are there or not, and processes that are started, waited for, and surely ended."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class Unavailable(Exception):
    """This server cannot be measured here; the text says why."""


def program(*names: str) -> str:
    """The first of these programs that is installed; servers live in /usr/sbin."""
    for name in names:
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if found:
            return found
    raise Unavailable(f"{names[0]} is not installed")


def version(command: list[str]) -> str:
    """The first line of what a program says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "unknown version")


class Process:
    """A child with its errors in a file. Ended by its own process id, whatever happened."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self._log, self._name = log, Path(command[0]).name
        with log.open("wb") as out:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(environment or {})},
                cwd=log.parent,
                start_new_session=True,
            )
        self.pid = self._child.pid

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Until `ready()` is true; Unavailable when the process ends or START_SECONDS are over."""
        until = time.monotonic() + START_SECONDS
        while not ready():
            if self._child.poll() is not None or time.monotonic() > until:
                said = " | ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:])
                raise Unavailable(f"{self._name} did not start: {said or 'no message'}")
            time.sleep(0.05)

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True
