"""`gateway` and `gateway-admin` without the second of imports: a server that forks for each.

What runs is what a user runs, as a process of its own with its own arguments, environment, folder and
files; only the interpreter is there already. What a terminal sends to the processes it controls does not
reach it, nor does a signal to its caller: there the command itself is called. Run as a script this is the
server; it ends with whoever started it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import os
import resource
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

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
    # What is imported once it is needed.
    "aiosqlite",
    "cryptography.hazmat.backends.openssl.backend",
    "encodings.idna",
    "gateway.admin.secret_rules",
    "gateway.control.client",
    "gateway.pki.initial_certificates",
    "uvicorn.lifespan.off",
)

# Without the modules that a script usually has: they would take longer than most commands.
_CLIENT = """#!{python} -IS
import _socket, posix, sys
if {name!r} == "gateway" and sys.argv[1:2] != ["check"]:
    posix.execv({cold!r}, sys.argv)  # it is sent signals
posix.umask(umask := posix.umask(0))
environment = [name + b"=" + value for name, value in posix.environ.items()]
argv = [word.encode("utf-8", "surrogateescape") for word in sys.argv]
call = b"\\0".join([posix.getcwdb(), b"%d" % umask, b"%d" % len(argv), *argv, *environment])
server = _socket.socket(_socket.AF_UNIX)
server.connect({address!r})
streams = (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + (2).to_bytes(4, "little")
server.sendmsg([len(call).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
server.sendall(call)
answer = b""
while chunk := server.recv(100):
    answer += chunk
code = answer.split()[1:]
posix._exit(int(code[0]) & 255 if code else sys.stderr.write("the fork server has ended\\n") and 1)
"""


def run(
    words: Sequence[str], env: Mapping[str, str], cwd: Path, stdin: bytes = b""
) -> tuple[int, bytes, bytes]:
    """Call a command as `subprocess.run` does: its exit code, stdout and stderr."""
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        code = Process(env, cwd, out, words=words, stdin=given, stderr=err).wait(60)
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


class Process:
    """`gateway run`, or other words, with this environment, in this folder. Used as a subprocess.Popen."""

    def __init__(
        self,
        env: Mapping[str, str],
        cwd: Path,
        log: IO[bytes],
        *,
        words: Sequence[str] = ("gateway", "run"),
        stdin: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
    ) -> None:
        """`log` takes what goes to stdout, and to stderr if that has no file of its own."""
        os.umask(umask := os.umask(0))
        settings = (f"{name}={value}" for name, value in env.items())
        call = "\0".join([str(cwd), str(umask), str(len(words)), *words, *settings])
        data = call.encode("utf-8", "surrogateescape")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(f"{folder()}/server")
        with Path("/dev/null").open("rb") as nothing:
            streams = [one.fileno() for one in (stdin or nothing, log, stderr or log)]
            socket.send_fds(self._server, [len(data).to_bytes(4, "big")], streams)
        self._server.sendall(data)
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
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return code

    def _ended(self, seconds: float) -> int | None:
        if self._code is None and select.select([self._server], [], [], seconds)[0]:
            self._code = int(self._answer.readline())
            self._answer.close()
            self._server.close()
        return self._code


@functools.cache
def folder() -> str:
    """Where `gateway-admin` and `gateway check` are that a fresh server answers, for the PATH.

    They go with this process.
    """
    place = Path(tempfile.mkdtemp(prefix="fork-server-"))
    address = str(place / "server")
    for name in (NAME, "gateway"):
        client = place / name
        cold = str(Path(sys.executable).parent / name)
        client.write_text(_CLIENT.format(python=sys.executable, address=address, name=name, cold=cold))
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
        calls: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor of the process that answers
        while 0 not in (ready := select.select([listener, 0, *calls], [], [])[0]):
            for ended in calls.keys() & ready:
                child, call = calls.pop(ended)
                os.close(ended)
                _tell(call, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                call.close()
            if listener in ready:
                call, _ = listener.accept()
                if (child := os.fork()) == 0:
                    break
                calls[os.pidfd_open(child)] = child, call
                _tell(call, child)
        else:
            return
    for others, (_, other) in calls.items():
        os.close(others)
        other.close()
    _prepare(call)
    call.close()
    name = Path(sys.argv[0]).name
    if name == "gateway" and sys.argv[1] == "run":
        warnings.simplefilter("ignore")  # as it runs for its users, more or less
    _run(mains[name])


def _run(main: Callable[[], None]) -> None:
    """Call it, and end the process by what it says.

    Without taking apart all that the server had imported, which costs more than most commands do. What the
    command itself left behind is looked for all the same, and threads of its own are waited for.
    """
    try:
        main()
        code = 0
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        code = end.code or 0
    if threading.active_count() > 1:
        sys.exit(code)
    gc.collect()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 255)


def _tell(call: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone: a test has killed it
        call.sendall(f"{number}\n".encode())


def _prepare(call: socket.socket) -> None:
    """Be the process that the caller wanted."""
    header, streams, _, _ = socket.recv_fds(call, 4, 3)
    with call.makefile("rb") as reader:
        place, umask, count, *words = reader.read(int.from_bytes(header, "big")).split(b"\0")
    credentials = call.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    caller = struct.unpack("3i", credentials)[0]
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, resource.prlimit(caller, limit))
    _give_up_what_it_may_not(caller)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(place)
    os.umask(int(umask))
    os.environ.clear()
    os.environb.update(setting.split(b"=", 1) for setting in words[int(count) :])
    sys.argv = [os.fsdecode(word) for word in words[: int(count)]]


def _give_up_what_it_may_not(caller: int) -> None:
    """Root without some capabilities is a user like others, if `setpriv` called the caller."""
    theirs, ours = _capabilities(caller), _capabilities(os.getpid())
    if theirs == ours:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if ours["CapBnd"] & ~theirs["CapBnd"] & 1 << number:
            assert libc.prctl(24, number, 0, 0, 0) == 0, "PR_CAPBSET_DROP"
    # _LINUX_CAPABILITY_VERSION_3, this process; then effective, permitted and inheritable, twice 32 bits.
    header = struct.pack("Ii", 0x2008_0522, 0)
    sets = [theirs[name] for name in ("CapEff", "CapPrm", "CapInh")]
    words = [one >> shift & 0xFFFF_FFFF for shift in (0, 32) for one in sets]
    assert libc.capset(header, struct.pack("6I", *words)) == 0, "capset"


def _capabilities(process: int) -> dict[str, int]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {
        name: int(value, 16)
        for name, _, value in (line.partition(":\t") for line in lines)
        if name[:3] == "Cap"
    }


if __name__ == "__main__":
    _serve(sys.argv[1])
