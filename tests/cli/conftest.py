"""The two commands as a user has them: separate processes, a folder of their own, a real store."""

import asyncio
import os
import pty
import re
import select
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import fork_server

from gateway.store import open_store

SCRIPTS = sysconfig.get_path("scripts")
ACL = Path(__file__).parent / "acl"
PLAIN = re.compile(r"gateway(-admin| check)( [\w./:=,@%+-]*)*")


@dataclass
class Place:
    """A folder where commands are called."""

    folder: Path

    def __post_init__(self):
        self.environment = {
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "COLUMNS": "100",
            # Nothing may be left open, nor anything deprecated be called.
            "PYTHONWARNINGS": "error",
        }

    def warm(self):
        """The environment in which `gateway-admin` and `gateway check` come from the fork server."""
        path = f"{fork_server.folder()}{os.pathsep}{self.environment['PATH']}"
        return {**self.environment, "PATH": path}

    def shell(self, command, *, stdin=b"", **options):
        """Run `command` by a shell, or without one if it would do nothing; stdout and stderr as text."""
        if PLAIN.fullmatch(command) and not options:
            code, out, err = fork_server.run(command.split(), self.environment, self.folder, stdin)
            return code, out.decode(), err.decode()
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=self.folder, env=self.warm(), input=stdin,
            capture_output=True, timeout=60, check=False, **options,
        )  # fmt: skip
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def on_a_terminal(self, command, *typed):
        """Run `command` with a terminal as stdin, stdout and stderr; what it showed, and its exit code.

        `typed` are pairs: what is to appear, and what is typed then. By `setsid -c` it is the controlling
        one, which can't be handed over.
        """
        controller, terminal = pty.openpty()
        environment = self.environment if command.startswith("setsid") else self.warm()
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], cwd=self.folder, env={**environment, "TERM": "xterm"},
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        shown, seen, waiting, last = b"", 0, list(typed), b""
        try:
            while True:
                if waiting and waiting[0][0].encode() in shown[seen:]:
                    seen = len(shown)
                    last = waiting.pop(0)[1].encode()
                    os.write(controller, last)
                if not select.select([controller], [], [], 2.0)[0]:
                    # One that comes right before readline waits is seen with the next key only.
                    if last == b"\x03":
                        os.write(controller, last)
                    continue
                try:
                    chunk = os.read(controller, 4096)
                except OSError:  # EIO: the last process with the terminal has ended
                    break
                if not chunk:
                    break
                shown += chunk
        finally:
            os.close(controller)
            code = process.wait(timeout=60)
        return shown.decode(), code

    def noted(self):
        """What the commands left for a gateway to tell; it is gone then."""

        async def take():
            store = await open_store(f"sqlite:///{self.folder}/data/gateway.db")
            try:
                found = await store.admin_events.waiting()
                await store.admin_events.forget(found[-1][0] if found else 0)
                return [event for _, event in found]
            finally:
                await store.close()

        return asyncio.run(take())


@pytest.fixture
def bare(tmp_path):
    """A policy and nothing else."""
    shutil.copytree(ACL, tmp_path / "acl")
    return Place(tmp_path)


@pytest.fixture(scope="module")
def place_in():
    """A place in any folder, with nothing in it."""
    return Place


@pytest.fixture
def place(bare):
    """A policy and a store without devices."""

    async def make():
        store = await open_store(f"sqlite:///{bare.folder}/data/gateway.db")
        await store.close()

    asyncio.run(make())
    return bare
