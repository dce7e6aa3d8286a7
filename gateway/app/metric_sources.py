"""Measures the gateway: ties each metric to where its number comes from, and fills the history.

Every ten seconds all is read once, for the history and the alerts. When Prometheus asks it gets counters as
they are then, and for numbers that are costly to find those of the last look. Must not know what becomes of
the numbers.
"""

from __future__ import annotations

import asyncio
import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import TypeVar

from gateway.app.certificate_dates import CertificateDates
from gateway.app.followers.key_reload_and_rotation import KeyFollower
from gateway.app.savers.audit_trail_thread import AuditTrail
from gateway.auth.passwords import PasswordPool
from gateway.connection.process_context import Context
from gateway.connection.process_counters import FROM_DEVICES, TO_DEVICES, Counters
from gateway.net.connection_counts import ConnectionCounts, count_connections
from gateway.net.data_plane_parts import DataPlane
from gateway.net.live_updates import LiveUpdates
from gateway.net.puback_latency_samples import RoundTripSamples
from gateway.observe.health_check_scheduler import Health, State
from gateway.observe.history import FINE_SECONDS, History
from gateway.observe.logs import dropped, get_logger
from gateway.observe.loop_lag import LoopLag
from gateway.observe.machine_load import SystemLoad
from gateway.observe.metric_catalogue import SERVICE_WORDS, readings
from gateway.observe.metrics import Histogram, Metrics, Read
from gateway.store import Store, StoreError
from gateway.store.device_directory import Directory

STATUS = {
    State.HEALTHY: SERVICE_WORDS["up"],
    State.DEGRADED: SERVICE_WORDS["degraded"],
    State.UNHEALTHY: SERVICE_WORDS["down"],
}
_SHORT = (0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Bounds of a histogram's buckets in seconds: for one message there and back."""
_LONG = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""The same, for a hash, and for a change to reach all connections."""
_FIRST_SECONDS = 2.0
"""Before the first look: by then all was checked once, the bus too, and what is not known is a fault."""
_LOOKS_TO_COUNT = 6
"""From one count of the valid tokens, which the store is asked for, to the next: a minute."""

_log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts whose numbers are read."""

    context: Context
    plane: DataPlane
    updates: LiveUpdates
    store: Store
    directory: Directory
    passwords: PasswordPool
    keys: KeyFollower
    validity: CertificateDates
    health: Health
    trail: AuditTrail
    system: SystemLoad
    lag: LoopLag


@dataclass(slots=True)
class Durations:
    """How long things take, as observed by the parts that do them."""

    device_round_trip: Histogram = field(default_factory=lambda: Histogram(*_SHORT))
    bus_round_trip: Histogram = field(default_factory=lambda: Histogram(*_SHORT))
    argon2: Histogram = field(default_factory=lambda: Histogram(*_LONG))
    revocation: Histogram = field(default_factory=lambda: Histogram(*_LONG))


class PassedByQos:
    """Messages that were passed on, by direction and QoS: for QoS 0 all those that nothing else accounts for.

    What is subtracted is counted at different moments of the same second, so the rest is kept from falling.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._plain = {FROM_DEVICES: 0, TO_DEVICES: 0}

    def __call__(self) -> Mapping[tuple[str, ...], float]:
        """The numbers as they are now."""
        counters = self._counters
        found: dict[tuple[str, ...], float] = {}
        for direction, plain in self._plain.items():
            one, two = (counters.messages_passed[direction, qos] for qos in ("1", "2"))
            rest = getattr(counters, f"messages_{direction}") - one - two - counters.messages_ended[direction]
            self._plain[direction] = max(plain, rest)
            found |= {(direction, "0"): self._plain[direction], (direction, "1"): one, (direction, "2"): two}
        return found


class Measuring:
    """Reads the numbers of all metrics, again and again."""

    def __init__(self, parts: Parts, durations: Durations, history: History) -> None:
        self._parts = parts
        self._history = history
        self._durations = durations
        self._connection_counts = ConnectionCounts()
        self._tokens_valid: int | None = None
        self._policy, self._policy_since = parts.context.policy, parts.context.now()
        self._full = False
        self._looks = 0
        self.sampled_at = -math.inf
        """When the history was last given a sample, in seconds of a clock that never goes back."""
        self.sample_too: list[Callable[[], None]] = []
        """What else is sampled at each look: at the same moment, so that rules are evaluated once for all."""
        self.metrics = Metrics(parts.context.counters)
        self._tie()
        parts.passwords.on_hashed = durations.argon2.observe
        parts.updates.done = self._revoked

    @staticmethod
    def new_history() -> History:
        """A history that knows all metrics by name."""
        known = readings()
        return History(known, {name for name, metric in known.items() if metric.words})

    async def run(self) -> None:
        """Look every ten seconds, for ever; for the first time when all has been checked once."""
        await asyncio.sleep(_FIRST_SECONDS)
        while True:
            await self.look()
            await asyncio.sleep(FINE_SECONDS)

    async def sample_round_trips(self) -> None:
        """Measure round trips on a few connections, for ever."""
        await RoundTripSamples(self._parts.plane.registry, self._durations.device_round_trip.observe).run()

    async def look(self) -> None:
        """Read the numbers of all metrics, and add them to the history."""
        parts = self._parts
        parts.system.look()
        self._connection_counts = await count_connections(parts.plane.registry)
        if self._looks % _LOOKS_TO_COUNT == 0:
            await self._count_tokens()
        self._looks += 1
        for sample in self.sample_too:
            sample()
        self._history.add(parts.context.now(), self.metrics.samples())
        self.sampled_at = time.monotonic()
        if self._history.left_out and not self._full:
            more = f"{self._history.left_out} more are left out"
            reason = f"it has room for {self._history.series} series, and {more}"
            _log.warning("history full", reason=reason)
        self._full = self._history.left_out > 0

    async def _count_tokens(self) -> None:
        try:
            self._tokens_valid = await self._parts.store.tokens.count()
        except StoreError:
            self._tokens_valid = None

    def _revoked(self) -> None:
        """Every connection has heard of the last change of devices: observe how long that took."""
        at = self._parts.directory.changed_at
        self._durations.revocation.observe(max(0.0, time.time_ns() / 1e9 - at))

    def _tie(self) -> None:
        parts, durations = self._parts, self._durations
        context, plane, health = parts.context, parts.plane, parts.health
        self.metrics.read(
            messages_passed=PassedByQos(context.counters),
            connections=lambda: len(plane.registry.live),
            connections_established=lambda: self._connection_counts.established,
            connections_paused=lambda: self._connection_counts.paused,
            devices=lambda: parts.directory.states(context.now() / 1_000),
            devices_connected=lambda: plane.registry.devices_connected,
            unfinished_bytes=lambda: context.budgets.work.held,
            unread_bytes=lambda: plane.untaken.size,
            device_round_trip_seconds=durations.device_round_trip,
            bus_reachable=lambda: plane.bus.reachable,
            bus_round_trip_seconds=durations.bus_round_trip,
            argon2_waiting=lambda: parts.passwords.waiting,
            argon2_at_work=lambda: parts.passwords.at_work,
            argon2_seconds=durations.argon2,
            revocation_seconds=durations.revocation,
            tokens_valid=lambda: self._tokens_valid,
            ready=lambda: health.last_report().ready,
            live=lambda: health.last_report().live,
            service_status=lambda: {name: STATUS[one.state] for name, one in health.findings().items()},
            check_duration_seconds=lambda: {
                name: one.duration_ms / 1_000 for name, one in health.findings().items()
            },
            check_timestamp_seconds=lambda: {
                name: one.checked_at / 1_000 for name, one in health.findings().items()
            },
        )
        self._tie_what_is_in_force()
        self._tie_the_process()

    def _tie_what_is_in_force(self) -> None:
        parts, context = self._parts, self._parts.context
        validity = parts.validity

        self.metrics.read(
            policy_info=lambda: {self._policy_in_force()[0][:12]: 1},
            policy_loaded_timestamp_seconds=lambda: self._policy_in_force()[1] / 1_000,
            certificates=validity.states,
            certificate_expiry_timestamp_seconds=validity.expiries,
            certificate_start_timestamp_seconds=validity.starts,
            certificate_life_left=validity.life_left,
            certificate_days_left=validity.days_left,
            key_created_timestamp_seconds=parts.keys.created,
            key_uses=lambda: context.ring.uses,
            audit_entries=lambda: parts.trail.size,
            audit_checkpoint_timestamp_seconds=lambda: parts.trail.checkpoint_time,
        )

    def _policy_in_force(self) -> tuple[str, int]:
        """Its digest, and since when it is in force (Unix milliseconds), which is noticed here when asked."""
        policy = self._parts.context.policy
        if policy is not self._policy:
            self._policy, self._policy_since = policy, self._parts.context.now()
        return policy.digest, self._policy_since

    def _tie_the_process(self) -> None:
        system, history = self._parts.system, self._history
        self.metrics.read(
            build_info=_build,
            workers=lambda: 1,
            log_lines_dropped=dropped,
            loop_lag_seconds=lambda: self._parts.lag.seconds,
            history_series=lambda: history.series,
            history_series_left_out=lambda: history.left_out,
        )
        self.metrics.read(
            system_cpu_ratio=_of(lambda: system.load, lambda load: load.cpu),
            system_load1=_of(lambda: system.load, lambda load: load.load1),
            system_memory_used_ratio=_of(lambda: system.load, lambda load: load.memory_used),
            system_memory_available_bytes=_of(lambda: system.load, lambda load: load.memory_available),
            data_disk_free_ratio=_of(lambda: system.disk, lambda disk: disk.share),
            data_disk_free_bytes=_of(lambda: system.disk, lambda disk: disk.free),
            cpu_percent=_of(lambda: system.load, lambda load: load.cpu * 100),
            memory_percent=_of(lambda: system.load, lambda load: load.memory_used * 100),
            disk_free_percent=_of(lambda: system.disk, lambda disk: disk.share * 100),
        )


@cache
def _build() -> Mapping[tuple[str, ...], float]:
    return {(version("mqtt-security-gateway"), platform.python_version()): 1}


_Found = TypeVar("_Found")


def _of(look: Callable[[], _Found | None], read: Callable[[_Found], float]) -> Read:
    """What reads a number from what `look` finds; None while it finds nothing."""

    def number() -> float | None:
        found = look()
        return None if found is None else read(found)

    return number
