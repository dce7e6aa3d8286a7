"""What is attacked: a gateway as users start it, before a Mosquitto set up by the shipped file."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from harness.enrol import in_store
from harness.gateway import BIN, ROOT, Gateway
from harness.mosquitto import Mosquitto
from harness.receivers import HttpReceiver

from attacks.honest import Honest
from attacks.target import Target
from bench.ports import free_port
from gateway.auth.passwords import hash_secret
from gateway.store import Store

GOOD = "good"
"""The honest device."""
KINDS = {
    "shipped": "as shipped",
    "debug": "with LOG_LEVEL=debug",
    "unread": "with a stderr that nobody reads",
    "proxy": "with the attackers' networks in GATEWAY_PROXY_FROM",
    "webhook": "with alerts to a webhook that does not answer",
}
_MONITORING = """
allow_private_addresses = true

[[alert]]
name = "wrong"
condition = "rate(logins_refused_total, 1m) > 0"
duration = "1s"
severity = "warning"
summary = "Wrong logins."

[[channel]]
name = "ops"
kind = "webhook"
url = "{url}"
secret_file = "hook"
"""


class House:
    """A bus, a gateway, the honest device and the devices of the rows. Stop it whatever happens."""

    def __init__(self, folder: Path, kind: str, rows: Mapping[int, tuple[str, int]]) -> None:
        """`rows`: by their numbers the attacker's role, and how many newcomers there are."""
        self.folder, self.kind = folder, kind
        self._rows = rows
        self._hook: HttpReceiver | None = None
        self._pipe: int | None = None
        self._honest: Honest | None = None
        self.bus = _shipped_bus(folder / "bus")
        self.gateway = Gateway(
            folder / "gateway",
            self.bus.port,
            GATEWAY_HTTP_BIND=f"127.0.0.1:{free_port()}",
            LOG_LEVEL="debug" if kind == "debug" else "info",
            **self._settings(),
        )
        self.start_memory = 0
        """What the gateway held before the first attack, in bytes."""

    def _settings(self) -> dict[str, str]:
        if self.kind == "proxy":
            return {"GATEWAY_PROXY_FROM": "127.8.0.0/13,127.16.0.0/12,127.32.0.0/11,127.64.0.0/11"}
        if self.kind != "webhook":
            return {}
        self._hook = HttpReceiver()
        self._hook.hang.set()
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        (self.folder / "hook").write_text(f"whsec_{key}")
        (self.folder / "hook").chmod(0o600)
        path = self.folder / "monitoring.toml"
        path.write_text(_MONITORING.format(url=self._hook.url))
        return {"MONITORING_PATH": str(path)}

    def start(self) -> None:
        self.bus.start()
        if self.kind == "unread":
            self._pipe, write = os.pipe()
            self.gateway.start(cold=True, stderr=write)
            os.close(write)
        else:
            self.gateway.start(cold=True)
        self._enrol()
        self._honest = Honest(self.gateway.port, str(self.gateway.ca), GOOD, self.gateway.secrets[GOOD])
        time.sleep(1.0)
        self.start_memory = self.gateway.memory()

    @property
    def honest(self) -> Honest:
        assert self._honest is not None
        return self._honest

    def _enrol(self) -> None:
        """One hash serves all devices: what a login costs does not depend on that."""
        secret = secrets.token_urlsafe(32)
        devices = {GOOD: "full"}
        for number, (role, newcomers) in self._rows.items():
            devices[f"bad-{number}"] = role
            devices |= dict.fromkeys(_newcomers(number, newcomers), "sensor")

        async def add(store: Store) -> None:
            credential = hash_secret(secret.encode())
            for device, role in devices.items():
                await store.devices.add(device, credential=credential, roles=(role,), labels={})

        in_store(self.gateway, add)
        self.gateway.secrets |= dict.fromkeys(devices, secret)
        self.gateway.wait_for_devices()

    def target(self, number: int, seconds: float) -> Target:
        """As the attacker of this row knows the house, for so many seconds."""
        device, secret = f"bad-{number}", self.gateway.secrets[GOOD]
        names = [device, *_newcomers(number, self._rows[number][1])]
        return Target(
            port=self.gateway.port,
            api_port=int(self.gateway.env["GATEWAY_HTTP_BIND"].rpartition(":")[2]),
            health_port=self.gateway.health_port,
            ca=str(self.gateway.ca),
            number=number,
            device=device,
            secrets=dict.fromkeys(names, secret),
            good=GOOD,
            until=time.monotonic() + seconds,
        )

    def bus_log_bytes(self) -> int:
        """How long the log of the bus is."""
        return self.bus.log.stat().st_size

    def reset_most_memory(self) -> None:
        """Let `most_memory` begin anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.gateway.pid}/clear_refs").write_text("5")

    def most_memory(self) -> int:
        """What the gateway held at most since then, in bytes."""
        status = Path(f"/proc/{self.gateway.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def loop_seconds(self) -> tuple[float, float]:
        """How long the thread of the gateway's event loop ran, and could have run but had no core."""
        schedstat = Path(f"/proc/{self.gateway.pid}/task/{self.gateway.pid}/schedstat")
        ran, waited, _ = schedstat.read_text().split()
        return int(ran) / 1e9, int(waited) / 1e9

    def trace(self, device: str) -> subprocess.Popen[bytes]:
        """Somebody looks at this device; nobody reads what is shown."""
        return subprocess.Popen(
            [str(BIN / "gateway-admin"), "device", "trace", device, "--json"],
            cwd=self.gateway.folder,
            env=self.gateway.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        if self._honest is not None:
            self._honest.stop()
        self.gateway.kill()
        self.bus.kill()
        if self._hook is not None:
            self._hook.stop()
        if self._pipe is not None:
            os.close(self._pipe)


def _newcomers(number: int, count: int) -> list[str]:
    return [f"new-{number}-{one}" for one in range(count)]


def _shipped_bus(folder: Path) -> Mosquitto:
    bus = Mosquitto(folder, persistent=True)
    shipped = (ROOT / "deploy" / "mosquitto.conf").read_text()
    shipped = re.sub(r"(?m)^listener .*", f"listener {bus.port} 127.0.0.1", shipped)
    shipped = re.sub(r"(?m)^persistence_location .*", f"persistence_location {folder}/", shipped)
    (folder / "mosquitto.conf").write_text(shipped + ("user root\n" if os.geteuid() == 0 else ""))
    return bus


_CAME_OR_LEFT = re.compile(
    r": (?:New client connected from \S+ as (\S+) \(|Client (\S+) (?:disconnected|closed|has|already|been))"
)
_ESTABLISHED = "01"


def _to(port: int) -> Iterator[tuple[int, str]]:
    """Of all established connections to this port: from which port, and that socket's inode (proc(5))."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == _ESTABLISHED and int(fields[2].rpartition(":")[2], 16) == port:
            yield int(fields[1].rpartition(":")[2], 16), fields[9]


class DeviceConnections:
    """Those that a device has now, as the kernel knows them, on one or the other side of the gateway.

    On the device's side they are those of the process that attacks; the bus says in its log which are the
    device's. Either side may last without the other: TCP, until the peer has answered the goodbye; the way to
    the bus, until the bus has taken what it was sent before.
    """

    def __init__(self, gateway: Gateway, bus: Mosquitto, device: str, process: int, *, log_from: int) -> None:
        """`process`: 0 if it attacks as a stranger. `log_from`: bytes of the bus's log that are older.

        To read those of all rows before took seconds, which the gateway was blamed for.
        """
        self._gateway, self._bus, self._device, self._process = gateway, bus, device, process
        self._read = log_from
        self._on_bus: set[str] = set()
        """Client ids."""
        self._were_there = False
        self._first = self._from_process()

    @property
    def are_over(self) -> bool:
        """Whether those that were there first are over on one side."""
        # The log first: the kernel's list holds all that ended within a minute, and takes up to seconds.
        self._read_log()
        assert self._were_there, f"{self._device} never had a connection: there is none to be ended"
        return not self._on_bus or bool(self._process and not self._first & self._from_process())

    def _from_process(self) -> set[int]:
        if not self._process:
            return set()  # without the kernel's list: of thousands it took up to half a minute
        sockets = set()
        for file in Path(f"/proc/{self._process}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                sockets.add(str(file.readlink())[len("socket:[") : -1])
        return {port for port, inode in _to(self._gateway.port) if inode in sockets}

    def _read_log(self) -> None:
        with self._bus.log.open("rb") as log:
            log.seek(self._read)
            whole, _, _ = log.read().rpartition(b"\n")
        self._read += len(whole)
        for came, left in _CAME_OR_LEFT.findall(whole.decode(errors="replace")):
            if came.startswith(f"{self._device}/"):
                self._were_there = True
                self._on_bus.add(came)
            self._on_bus.discard(left)


class HealthProbe:
    """Asks `/health` again and again, as a container's runtime does, with its time-out."""

    TIMEOUT = 5.0
    """The HEALTHCHECK of the Dockerfile, in seconds."""
    EVERY = 0.25

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._over = threading.Event()
        self.longest = 0.0
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(self.EVERY):
            begin = time.monotonic()
            try:
                status, said = self._gateway.health("/health")
                if status != 200:
                    self.failures.append(f"{status}: {said[:200]}")
            except OSError as error:
                self.failures.append(str(error) or type(error).__name__)
            self.longest = max(self.longest, time.monotonic() - begin)
