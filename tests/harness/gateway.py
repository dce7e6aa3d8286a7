"""The gateway as its own process, with store, keys and certificates in a folder of its own."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

from bench.ports import free_port
from harness import fork_server

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]

# A role for tests that are not about roles: everything on the bus, sensitive topics in plain.
FULL_ROLE = """description = "Everything."
[[allow]]
actions = ["publish", "subscribe", "encrypt", "decrypt"]
topics = ["#", "$SYS/#"]
"""


class Gateway:
    """Starts, kills and restarts `gateway run`; its store is used through `gateway-admin`."""

    def __init__(self, folder: Path, bus_port: int | None, **settings: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.acl = folder / "acl"
        if not self.acl.exists():
            shutil.copytree(ROOT / "acl", self.acl)
            (self.acl / "roles" / "full.toml").write_text(FULL_ROLE)
            # What a lamp may send in a home is little, and a flood is to reach what is meant to bound it.
            for role in (self.acl / "roles").glob("*.toml"):
                role.write_text(re.sub(r"(?m)^\[limits\]\n(?:\S.*\n)+", "", role.read_text()))
        self.port = free_port()
        self.health_port = free_port()
        self.log = folder / "gateway.log"
        self.ca = folder / "certs" / "ca.crt"
        self.secrets: dict[str, str] = {}
        self.enrolled = 0
        """How many devices `harness.enrol` has added."""
        self._process: subprocess.Popen[bytes] | fork_server.Process | None = None
        self._asked_for = 0
        self._trusting: tuple[tuple[int, int], ssl.SSLContext] | None = None
        # Nothing of the surroundings: a variable with one of our prefixes would be an error or a setting.
        inherited = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
            if name in os.environ
        }
        self.env = {
            **inherited,
            "GATEWAY_DATA_DIR": str(folder / "data"),
            "TLS_CERT_PATH": str(folder / "certs" / "server.crt"),
            "TLS_KEY_PATH": str(folder / "certs" / "server.key"),
            "ACL_PATH": str(self.acl),
            "GATEWAY_MQTT_BIND": f"127.0.0.1:{self.port}",
            "GATEWAY_HTTP_BIND": "127.0.0.1:0",
            "GATEWAY_HEALTH_BIND": f"127.0.0.1:{self.health_port}",
            "LOG_LEVEL": "debug",
        }
        if bus_port is not None:
            self.env |= {"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(bus_port)}
        self.env |= settings

    def start(self, *, wait_ready: bool = True, cold: bool = False, stderr: int | None = None) -> Gateway:
        """Start it as `warm.Process`, or `cold` as the command itself: for tests of what a process shows.

        A cold one's errors, and its log with them, go to the file `stderr` if there is one.
        """
        with self.log.open("ab") as log:
            if cold:
                command = [str(BIN / "gateway"), "run"]
                self._process = subprocess.Popen(
                    command, cwd=self.folder, env=self.env, stdout=log, stderr=stderr or log
                )
            else:
                self._process = fork_server.Process(self.env, self.folder, log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the gateway ended:\n{self.log.read_text()[-3000:]}")
            try:
                status, _ = self.health("/ready" if wait_ready else "/health")
            except OSError:
                status = 0
            if status == 200:
                return self
            time.sleep(0.03)
        raise RuntimeError(f"the gateway is not ready:\n{self.log.read_text()[-3000:]}")

    @property
    def http_port(self) -> int:
        """Of the API, as the start that is running told it."""
        return int(re.findall(r"^API +https?://127\.0\.0\.1:(\d+)/", self.log.read_text(), re.MULTILINE)[-1])

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def memory(self) -> int:
        """What the process holds in RAM now, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def health(self, path: str = "/ready") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def admin(
        self, *words: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        called = (fork_server.NAME, *words)
        code, out, err = fork_server.run(called, self.env, self.folder, (stdin or "").encode())
        done = subprocess.CompletedProcess(called, code, out.decode(), err.decode())
        if check and done.returncode:
            raise RuntimeError(f"gateway-admin {' '.join(words)}: {done.stdout}{done.stderr}")
        return done

    def add_device(self, device_id: str, *roles: str, labels: dict[str, str] | None = None) -> str:
        """Add a device and wait until the running gateway knows it; the answer is its secret."""
        words = ["device", "add", device_id, "--json"]
        for role in roles or ("full",):
            words += ["--role", role]
        for name, value in (labels or {}).items():
            words += ["--label", f"{name}={value}"]
        self.secrets[device_id] = json.loads(self.admin(*words).stdout)["secret"]
        self.wait_for_devices()
        return self.secrets[device_id]

    def wait_for_devices(self) -> None:
        """Until the gateway, if it runs, knows all devices of `secrets`; whoever started it."""
        detail = f"{len(self.secrets)} devices"
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                health = json.loads(self.health("/health")[1])
            except ConnectionRefusedError:
                return
            if health["checks"]["store"]["detail"] == detail:
                return
            time.sleep(0.02)

    def write_policy(self, name: str, text: str) -> None:
        """Put a file into `acl/` as a careful editor does: all of it at once."""
        path = self.acl / name
        draft = path.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(path)

    def tls(self) -> ssl.SSLContext:
        """A context of the caller's own."""
        return ssl.create_default_context(cafile=str(self.ca))

    def shared_tls(self) -> ssl.SSLContext:
        """The same for all who change nothing in it, until there is another CA."""
        now = self.ca.stat()
        if self._trusting is None or self._trusting[0] != (now.st_ino, now.st_mtime_ns):
            self._trusting = (now.st_ino, now.st_mtime_ns), self.tls()
        return self._trusting[1]

    def log_text(self) -> str:
        """All that was logged until now: a thread writes it, a moment after it happened.

        A running gateway is asked for one more line, of a signal that does nothing else; what was logged
        before is written once that line is there.
        """
        if self._process is not None and self.env["LOG_LEVEL"] in ("debug", "info"):
            before = self._marks()
            self._process.send_signal(signal.SIGUSR2)
            deadline = time.monotonic() + 20
            while self._marks() == before and self._process.poll() is None:
                assert time.monotonic() < deadline, "the gateway's loop takes no signal, or its log no line"
                time.sleep(0.002)
            self._asked_for += self._marks() - before
        whole, _, _ = self.log.read_text().rpartition("\n")
        return whole + "\n"

    def _marks(self) -> int:
        return self.log.read_bytes().count(b'"signal":"SIGUSR2"')

    def log_lines(self) -> list[dict[str, object]]:
        """What was logged until now, without the lines that `log_text` asks for."""
        lines = [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]
        marks = [number for number, line in enumerate(lines) if line.get("signal") == "SIGUSR2"]
        ours = set(marks[len(marks) - self._asked_for :])
        return [line for number, line in enumerate(lines) if number not in ours]
