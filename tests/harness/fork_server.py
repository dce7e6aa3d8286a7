"""`gateway` and `gateway-admin` without the second of imports: a server that forks for each.

What runs is what a user runs, as a process of its own with its own arguments, environment, folder and
files; only the interpreter is there already. A terminal can't be handed over: there the command itself is
called. Run as a script this is the server; it ends with whoever started it.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import BinaryIO

NAME = "gateway-admin"
_NEEDED = (
    "gateway.cli.gateway_admin",
    "gateway.config",
    "gateway.app.startup_preparation",
    "gateway.auth.tokens",
    "gateway.store",
    "gateway.store.async_engine",
    "gateway.policy.imports.policy_writer",
    "gateway.policy.analysis.prover",
    "gateway.policy.usage.replay",
    "typer.rich_utils",
    "gateway.cli.run",
    "gateway.app.gateway_process",
)

_CLIENT = """#!{python} -IS
import json, os, socket, sys
os.umask(umask := os.umask(0))
call = json.dumps([sys.argv, dict(os.environ), os.getcwd(), umask]).encode()
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
server.sendall(call)
answer = server.makefile("r")
code = (answer.readline(), answer.readline())[1]
sys.exit(int(code) & 255 if code else "the fork server has ended")
"""


class Process:
    """`gateway run` with this environment, in this folder. Used as a subprocess.Popen."""

    def __init__(self, env: dict[str, str], cwd: Path, log: BinaryIO) -> None:
        os.umask(umask := os.umask(0))
        call = json.dumps([["gateway", "run"], env, str(cwd), umask]).encode()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(f"{folder()}/server")
        with Path("/dev/null").open("rb") as nothing:
            files = [nothing.fileno(), log.fileno(), log.fileno()]
            socket.send_fds(self._server, [len(call).to_bytes(4, "big")], files)
        self._server.sendall(call)
        self._answer = self._server.makefile("r")
        self.pid = int(self._answer.readline())
        self._code: int | None = None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("gateway run", timeout)
        return code

    def _ended(self, seconds: float) -> int | None:
        if self._code is None and select.select([self._server], [], [], seconds)[0]:
            self._code = int(self._answer.readline())
            self._answer.close()
            self._server.close()
        return self._code


@functools.cache
def folder() -> str:
    """Where a `gateway-admin` is that a fresh server answers, for the PATH. Both go with this process."""
    place = Path(tempfile.mkdtemp(prefix="fork-server-"))
    address = str(place / "server")
    client = place / NAME
    client.write_text(_CLIENT.format(python=sys.executable, address=address))
    client.chmod(client.stat().st_mode | stat.S_IXUSR)
    server = subprocess.Popen(
        # -P: beside this file stands another `gateway`.
        [sys.executable, "-P", "-W", "error", __file__, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server.stdout as ready:
        assert ready.read(1) == b"+", "the fork server did not start"

    def end() -> None:
        server.communicate()
        shutil.rmtree(place)

    atexit.register(end)
    return str(place)


def _serve(address: str) -> None:
    for name in _NEEDED:
        importlib.import_module(name)
    importlib.import_module("gateway.cli.gateway_admin").app()  # which imports all its nouns
    mains = {
        name: importlib.import_module(module).main
        for name, module in (("gateway", "gateway.cli.entry"), (NAME, "gateway.cli.gateway_admin"))
    }
    gc.freeze()  # else each process would look through it, and copy it, when it ends
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        os.write(1, b"+")
        os.dup2(2, 1)  # nobody waits for more
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while 0 not in (ready := select.select([listener, 0], [], [])[0]):
            if listener in ready:
                call, _ = listener.accept()
                if os.fork() == 0:
                    break
                call.close()
        else:
            return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _prepare(call)
    name = Path(sys.argv[0]).name
    if child := os.fork():
        call.sendall(f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        call.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    call.close()
    if name == "gateway":
        warnings.simplefilter("ignore")  # as it runs for its users, more or less
    mains[name]()


def _prepare(call: socket.socket) -> None:
    """Be the process that the caller wanted."""
    header, files, _, _ = socket.recv_fds(call, 4, 3)
    with call.makefile("rb") as reader:
        arguments, environment, place, umask = json.loads(reader.read(int.from_bytes(header, "big")))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(place)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments


if __name__ == "__main__":
    _serve(sys.argv[1])
