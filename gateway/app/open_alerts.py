"""Puts the alerts of a gateway together: rules and channels from monitoring.toml, readings, store, audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from gateway.alerts.alert_persistence import AlertKeeper, row_of
from gateway.alerts.alert_round import Alerting, Clocks
from gateway.alerts.channels.channel_factory import channel_of
from gateway.alerts.current_silences import Silences
from gateway.alerts.delivery import Deliveries
from gateway.alerts.device_readings import NAMES, SILENT_SECONDS, DeviceReadings
from gateway.alerts.history_and_live_readings import Live, LiveReadings
from gateway.alerts.reading_catalogue import live_gauges
from gateway.alerts.readings_protocol import Labels, Readings
from gateway.alerts.rules import Rule
from gateway.app.followers.monitoring import MonitoringFollower
from gateway.app.metric_sources import STATUS, Measuring
from gateway.app.running_parts import RunningParts
from gateway.auth.login import Login
from gateway.config.monitoring import Monitoring
from gateway.net.bus_endpoint import Bus
from gateway.net.data_plane_parts import DataPlane
from gateway.net.tasks import Tasks
from gateway.observe.audit_dispatch import Audit
from gateway.observe.health_check_scheduler import Health
from gateway.observe.history import History
from gateway.observe.save_failures import Saves
from gateway.store import Store
from gateway.store.alerts import AlertRow
from gateway.store.device_directory import Directory

_STALE = 60
"""Seconds after which the newest sample is too old for rules to be evaluated."""


class Served(Protocol):
    """The parts that serve devices and that alerts need."""

    @property
    def store(self) -> Store:
        """Keeps the alerts."""

    @property
    def directory(self) -> Directory:
        """Knows which devices there are."""

    @property
    def login(self) -> Login:
        """Knows the addresses at which each device was seen."""

    @property
    def audit(self) -> Audit:
        """Is given an event for each alert, and gives those of logins."""

    @property
    def plane(self) -> DataPlane:
        """Counts what devices send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The readings that rules are evaluated on, and what is to be known of them."""

    history: Readings
    live: Mapping[str, Live]
    """Readings that are newer than the history's last sample, or no part of it, by name."""
    is_measured: Callable[[], bool]
    """Whether the history has a sample of this process, and of this minute."""
    news: Callable[[], object]
    """A value that differs from the last one if `history` or `live` has changed since."""
    last_alive: int
    """When the process before this one was last known to run, Unix milliseconds; 0: that is not known."""
    devices: DeviceReadings


class ServiceStatus:
    """The reading `service_status`: what health knows, within the second in which it learns of it.

    When connections to the bus are lost health checks the bus at once, and not only when that is due.
    """

    def __init__(self, health: Health, bus: Bus) -> None:
        self._health = health
        self._bus = bus
        self._losses = bus.losses
        self._found: Mapping[Labels, float] = {}
        self._changes: int | None = None
        """What `Health.changes` was when `_found` was made."""

    def __call__(self) -> Mapping[Labels, float]:
        """The number of each check's state, by the check's name. Made again only if something has changed."""
        if self._bus.losses != self._losses:
            self._losses = self._bus.losses
            self._health.report()  # whoever asks has it look again
        if self._health.changes != self._changes:
            found = self._health.findings()
            self._found = {(("service", name),): STATUS[one.state] for name, one in found.items()}
            self._changes = self._health.changes
        return self._found


class Alerts:
    """The alerts of one gateway."""

    def __init__(
        self,
        monitoring: MonitoringFollower,
        watched: Watched,
        *,
        store: Store,
        audit: Audit,
        saves: Saves,
        tasks: Tasks,
        now: Callable[[], int],
        node: str,
    ) -> None:
        """`now` gives Unix milliseconds."""
        self._monitoring = monitoring
        self._watched = watched
        self._tasks = tasks
        self._now = now
        self._keeper = AlertKeeper(store, saves, tasks.start)
        self._private = monitoring.in_force.allow_private_addresses  # whether channels may be on them
        self._deliveries = Deliveries(
            lambda settings: channel_of(settings, private=self._private, now=now),
            tasks.start,
            now,
            self._keeper.arrived,
            steady=time.monotonic,
        )
        live = {**watched.live, "channel_status": self._deliveries.status}
        self._alerting = Alerting(
            monitoring.in_force.rules,
            LiveReadings(watched.history, live, dict.fromkeys(NAMES, watched.devices)),
            Clocks(
                now=now,
                steady=time.monotonic,
                is_measured=watched.is_measured,
                news=lambda: (watched.news(), watched.devices.news(), self._deliveries.status()),
            ),
            silences=Silences(store, now),
            deliveries=self._deliveries,
            keeper=self._keeper,
            audit=audit,
            node=node,
        )
        monitoring.on_change(self._use)

    def _use(self, monitoring: Monitoring) -> None:
        anew = self._private != monitoring.allow_private_addresses
        self._private = monitoring.allow_private_addresses
        self._deliveries.use(monitoring.channels, anew=anew)
        self._alerting.use(monitoring.rules)
        self._watched.devices.use(_names(monitoring.rules), monitoring.metrics_of_devices)

    async def run(self) -> None:
        """Evaluate the rules every second, for ever."""
        monitoring = self._monitoring.in_force
        self._deliveries.use(monitoring.channels)
        self._watched.devices.use(_names(monitoring.rules), monitoring.metrics_of_devices)
        silent = {rule.name for rule in monitoring.rules if SILENT_SECONDS in rule.condition.names}
        for one in await self._alerting.load(self._watched.last_alive):
            device = dict(one.labels).get("device")
            if device is not None and one.rule in silent:
                # When the alert fired its device had been silent for as many seconds as its value says.
                self._watched.devices.last_heard(device, one.changed_at - int(one.value * 1_000))
        await self._alerting.run()

    def current(self) -> list[AlertRow]:
        """The alerts as the store keeps them, also while it fails."""
        return [row_of(one) for one in self._alerting.current()]

    async def save(self) -> None:
        """Have the store keep what it does not have yet: for a gateway that stops."""
        await self._keeper.save()


def _names(rules: Iterable[Rule]) -> set[str]:
    """The names of the readings that these rules ask for."""
    return {name for rule in rules for name in rule.condition.names}


def open_alerts(
    monitoring: MonitoringFollower,
    history: History,
    health: Health,
    core: Served,
    *,
    measuring: Measuring,
    saves: Saves,
    parts: RunningParts,
    node: str,
) -> Alerts:
    """Evaluate the rules for as long as the gateway runs.

    Call it while the history has nothing but what was saved: by that the last process is known to have run.
    """
    context, bus = core.plane.context, core.plane.bus
    devices = DeviceReadings(context.now, time.monotonic, context.budgets.received, core.directory.enabled)
    measuring.metrics.read(**{name.removesuffix("_total"): partial(devices.labelled, name) for name in NAMES})
    core.audit.add(devices)
    core.directory.on_change(devices.devices_changed)
    core.login.known.moved = devices.moved

    def is_measured() -> bool:
        # By no wall clock: one that was set back would have no rule evaluated until it was as late again.
        return time.monotonic() - measuring.sampled_at < _STALE

    alerts = Alerts(
        monitoring,
        Watched(
            history=history,
            live={
                "service_status": ServiceStatus(health, bus),
                **{name: partial(measuring.metrics.latest, name) for name in live_gauges()},
            },
            is_measured=is_measured,
            news=lambda: (measuring.sampled_at, health.changes, bus.losses),
            last_alive=history.newest,
            devices=devices,
        ),
        store=core.store,
        audit=core.audit,
        saves=saves,
        tasks=parts.tasks,
        now=context.now,
        node=node,
    )
    parts.closing.push_async_callback(alerts.save)
    parts.keep(alerts.run())
    measuring.sample_too.append(devices.sample)
    return alerts
