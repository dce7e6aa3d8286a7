"""One row: an attack, what an honest device, newcomers and `/health` notice of it, and its end."""

from __future__ import annotations

import contextlib
import math
import multiprocessing as mp
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from harness.device import Device

from attacks.house import DeviceConnections, HealthProbe, House
from attacks.target import Progress, Target

MIB = 1 << 20
P99_MAX, PING_MAX, DISABLE_MAX, LOGIN_MAX = 0.5, 2.0, 1.0, 5.0
"""Seconds."""
MEMORY_MAX = 200 * MIB
_BEGUN_WITHIN = 30.0
_AT_LEAST = 2.0
"""Seconds of attack before the attacker is disabled."""
_ENDED_WITHIN = 10.0
"""Seconds after which connections that are still there count as never ended."""
_LASTS = 45.0

Attack = Callable[..., None]


@dataclass(frozen=True)
class Row:
    """What is attacked, and how."""

    name: str
    attack: Attack
    words: Mapping[str, object] = field(default_factory=dict)
    house: str = "shipped"
    newcomers: int = 3
    at_once: bool = False
    """Whether the newcomers come all together."""
    role: str = "sensor"
    """The attacker's: as shipped, but with all that limits.toml gives; `full` is everything on the bus."""
    as_device: bool = False
    """Whether the attacker's connections are its device's, and have to end when that is disabled."""
    traced: bool = False
    """Whether `device trace` looks at the attacker."""


@dataclass
class Figures:
    """What was measured: seconds and bytes."""

    ping_p50: float = 0.0
    ping_p99: float = 0.0
    ping_most: float = 0.0
    pings: int = 0
    lost: int = 0
    disable: float = 0.0
    health_most: float = 0.0
    health_failures: list[str] = field(default_factory=list)
    logins: list[float] = field(default_factory=list)
    """How long each newcomer's first login took."""
    logins_refused: list[str] = field(default_factory=list)
    memory_start: int = 0
    memory_before: int = 0
    memory_most: int = 0
    sent: int = 0
    links: int = 0
    loop_runs: float = 0.0
    """Share of the time in which the gateway's event loop ran."""
    loop_waits: float = 0.0
    """Share of the time in which it could have run, and had no core."""
    seconds: float = 0.0
    error: str = ""

    def broken(self) -> list[str]:
        """Which bounds did not hold."""
        grown = self.memory_most - self.memory_start
        slow = [one for one in self.logins if one > LOGIN_MAX]
        checks = {
            f"pings: p99 of {self.ping_p99:.2f} s": self.ping_p99 > P99_MAX,
            f"pings: {self.ping_most:.1f} s": self.ping_most > PING_MAX,
            f"the honest connection ended {self.lost} times": self.lost > 0,
            f"disable acts after {self.disable:.1f} s": self.disable > DISABLE_MAX,
            f"/health: {'; '.join(self.health_failures[:2])}": bool(self.health_failures),
            f"{len(slow)} logins took over {LOGIN_MAX:.0f} s": bool(slow),
            f"newcomers refused: {'; '.join(self.logins_refused[:3])}": bool(self.logins_refused),
            f"{grown / MIB:.0f} MiB more": grown > MEMORY_MAX,
            self.error: bool(self.error),
        }
        return [said for said, is_broken in checks.items() if is_broken]

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"broken": self.broken()}


def _run(row: Row, target: Target, progress: Progress) -> None:
    os.setpgid(0, 0)  # Ctrl-C is for whoever started it
    row.attack(target, progress, **row.words)


@contextmanager
def _attack(row: Row, target: Target) -> Iterator[tuple[Progress, int]]:
    """Its progress and its process id, while it goes on."""
    progress = Progress()
    process = mp.get_context("spawn").Process(target=_run, args=(row, target, progress), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + _BEGUN_WITHIN
        while not progress.wait(0.1):
            if not process.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the attack did not begin")
        yield progress, process.pid or 0
        if not process.is_alive() and process.exitcode:
            raise RuntimeError(f"the attack ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()


class _Newcomers:
    """First logins, one after the other or all at once, each from a network of its own."""

    def __init__(self, house: House, target: Target, figures: Figures, *, at_once: bool) -> None:
        self._house, self._target, self._figures = house, target, figures
        names = target.newcomers
        groups: Sequence[Sequence[str]] = [[name] for name in names] if at_once else [names]
        self._numbers = {name: number for number, name in enumerate(names)}
        self._threads = [threading.Thread(target=self._come, args=(group,)) for group in groups]
        for thread in self._threads:
            thread.start()

    def _come(self, names: Sequence[str]) -> None:
        for name in names:
            source = f"127.{200 + self._numbers[name]}.{self._target.number % 250 + 1}.1"
            begin = time.monotonic()
            try:
                with Device(self._house.gateway, v5=True, source=source, timeout=15) as one:
                    connack = one.connect(client_id="c", username=name, password=self._target.secrets[name])
                    if connack[3:4] != b"\0":
                        self._figures.logins_refused.append(f"{name} got {connack.hex() or 'no CONNACK'}")
                    else:
                        self._figures.logins.append(time.monotonic() - begin)
            except OSError as error:
                took = time.monotonic() - begin
                self._figures.logins_refused.append(f"{name} after {took:.1f} s: {error}")

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()


def _disable(house: House, device: str, attacker: int, log_from: int) -> float:
    """Seconds from the command's return to the end of the last of the device's connections."""
    house.gateway.admin("device", "disable", device)
    decided = time.monotonic()
    connections = DeviceConnections(house.gateway, house.bus, device, attacker, log_from=log_from)
    while not connections.are_over and time.monotonic() - decided < _ENDED_WITHIN:
        time.sleep(0.01)
    return time.monotonic() - decided


def try_row(house: House, row: Row, number: int) -> Figures:
    """Judge one row. Whatever goes wrong is among the figures."""
    begin, figures = time.monotonic(), Figures(memory_start=house.start_memory)
    target = house.target(number, _LASTS)
    try:
        _measure(house, row, target, figures)
    except (OSError, RuntimeError, AssertionError) as error:
        figures.error = f"{type(error).__name__}: {error}"[:300]
    figures.seconds = time.monotonic() - begin
    return figures


def _measure(house: House, row: Row, target: Target, figures: Figures) -> None:
    figures.memory_before = house.gateway.memory()
    house.reset_most_memory()
    log_from = house.bus_log_bytes()
    with contextlib.ExitStack() as stack:
        # So that there is one to be ended, whatever became of the attacker's own.
        stack.enter_context(_bystander(house, target))
        if row.traced:
            tracing = house.trace(target.device)
            stack.callback(tracing.wait)
            stack.callback(tracing.kill)
            time.sleep(1.5)
        progress, attacker = stack.enter_context(_attack(row, target))
        house.honest.begin()
        begin, before = time.monotonic(), house.loop_seconds()
        until = time.monotonic() + _AT_LEAST
        with HealthProbe(house.gateway) as health:
            newcomers = _Newcomers(house, target, figures, at_once=row.at_once)
            try:
                time.sleep(max(0.0, until - time.monotonic()))
            finally:
                newcomers.wait()
            figures.disable = _disable(house, target.device, attacker if row.as_device else 0, log_from)
            noticed = house.honest.end()
        seconds, after = time.monotonic() - begin, house.loop_seconds()
        figures.loop_runs = (after[0] - before[0]) / seconds
        figures.loop_waits = (after[1] - before[1]) / seconds
        figures.health_most, figures.health_failures = health.longest, health.failures
        figures.sent, figures.links = progress.sent, progress.links
        figures.memory_most = house.most_memory()
    took = sorted(noticed.pings + noticed.messages)
    figures.pings, figures.lost = len(took), noticed.lost
    figures.ping_p50, figures.ping_most = statistics.median(took), took[-1]
    figures.ping_p99 = took[math.ceil(len(took) * 0.99) - 1]


@contextmanager
def _bystander(house: House, target: Target) -> Iterator[None]:
    """One silent connection of the attacker's device."""
    with Device(house.gateway, v5=True, timeout=15) as one:
        connack = one.connect(
            client_id="bystander", username=target.device, password=target.secrets[target.device]
        )
        assert connack[3:4] == b"\0", f"the attacker's device got {connack.hex()}"
        yield
