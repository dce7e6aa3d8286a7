"""The composition root: puts the parts together, and owns the order in which they are started and stopped.

A start either has everything or ends with every problem listed; nothing listens before all of it is there
(promise 1). `gateway.app.open_login` and its like put together what is a subject of its own.
"""

from __future__ import annotations

import ssl
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from gateway.app.admin_event_reporting import AdminEventReporter
from gateway.app.build_data_plane import build_data_plane
from gateway.app.certificate_dates import CertificateCheck, CertificateDates
from gateway.app.configured_health_checks import ServiceChecking
from gateway.app.external_or_embedded_bus import bus_services, open_bus
from gateway.app.followers.certificates import BusAuthority, CertificateFollower
from gateway.app.followers.follower import Follower
from gateway.app.followers.key_reload_and_rotation import KeyFollower
from gateway.app.followers.monitoring import MonitoringFollower
from gateway.app.followers.policy import PolicyFollower
from gateway.app.gc_tuning import FullCollections
from gateway.app.malloc_trimming import MallocTrimming
from gateway.app.metric_sources import Durations, Measuring, Parts
from gateway.app.open_alerts import open_alerts
from gateway.app.open_audit import AuditParts, open_audit
from gateway.app.open_checks import open_checks
from gateway.app.open_control import open_control
from gateway.app.open_http_ports import open_api, open_health
from gateway.app.open_login import login_gate, open_login
from gateway.app.open_savers import DevicesChanged, open_savers
from gateway.app.periodic import every
from gateway.app.running_parts import RunningParts
from gateway.app.signals import Signals
from gateway.app.startup_banner import banner
from gateway.app.startup_preparation import StartError, address_taken
from gateway.app.vm_clone_detection import watched_nonces
from gateway.auth.login import Login
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import Tokens
from gateway.bus_client.probe import BusProbe
from gateway.config import Address, Settings
from gateway.connection.process_context import Context
from gateway.keys.key_ring import Key, KeyRing
from gateway.net.data_plane_parts import DataPlane
from gateway.net.device_port import DevicePort
from gateway.net.live_updates import LiveUpdates
from gateway.net.tls_contexts import server_context
from gateway.observe.audit_dispatch import Audit
from gateway.observe.device_watchers import EventListeners
from gateway.observe.health_check_scheduler import Health
from gateway.observe.logs import get_logger
from gateway.observe.loop_lag import LoopLag
from gateway.observe.machine_load import SystemLoad
from gateway.observe.recent_refusals import RefusedClients
from gateway.observe.save_failures import Saves
from gateway.policy.engine.policy import Policy
from gateway.services.bearer_cache import BearerCache
from gateway.services.request_handler import RequestHandler
from gateway.services.token_issuer import TokenIssuer
from gateway.store import Store, StoreError, open_store
from gateway.store.device_directory import Directory
from gateway.system.file_notices import FileNotices
from gateway.system.service_manager import notify

_log = get_logger()

_Run: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class _Core:
    """What serves devices, and what the control side (ARCHITECTURE.md) asks too."""

    store: Store
    directory: Directory
    tokens: Tokens
    token_issuer: TokenIssuer
    bearer_cache: BearerCache
    login: Login
    audit: Audit
    auditing: AuditParts
    handler: RequestHandler
    plane: DataPlane
    updates: LiveUpdates
    devices: DevicePort


class Gateway:
    """All parts of one process, started and stopped in order."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        keys: Sequence[Key],
        signing: SigningKeys,
        signals: Signals,
    ) -> None:
        """`signals.stop` is set when the gateway can't go on."""
        self._settings = settings
        self._signals = signals
        self._parts = RunningParts(signals.stop)
        self._nonces, self._snapshot_watch = watched_nonces()
        self._context = Context(
            policy=policy,
            ring=KeyRing(keys, self._nonces, {}),
            now=lambda: time.time_ns() // 1_000_000,
            new_client_id=lambda: f"auto-{str(uuid.uuid4()).upper()}",
            on_deny=settings.gateway_on_deny,
            on_denied_will=settings.gateway_on_denied_will,
        )
        self._keys = keys
        self._signing = signing
        self._saves = Saves(failures=self._context.counters.store_write_failures)
        self._history = Measuring.new_history()
        self._lag = LoopLag()
        self._listeners = EventListeners()
        self._refused_clients = RefusedClients(self._context.now)
        self._authority: BusAuthority | None = None
        self._bus_note = ""
        self.devices: DevicePort | None = None
        """The port for devices, once it is made."""
        self.updates: LiveUpdates | None = None
        """What brings changes to the live connections, once there can be any."""
        self._health_bound: Sequence[Address] = ()
        self._has_no_device = False
        self._http_bound: Sequence[Address] = ()

    @property
    def failed(self) -> bool:
        """Whether it stops because a part of it failed."""
        return self._parts.failed

    async def start(self) -> None:
        """Open everything, the port for devices last. Raises StartError."""
        settings, context = self._settings, self._context
        certificates = CertificateFollower(settings)  # before the files are read
        monitoring = MonitoringFollower(settings)
        core = await self._open_core()
        certificates.report = core.auditing.report
        keys = KeyFollower(
            settings, context, core.tokens, core.store, core.audit, signing_changed=core.updates.keys_changed
        )
        followers: dict[str, Follower] = {
            "policy": PolicyFollower(settings, context, core.updates, core.login, core.auditing.report),
            "certificates": certificates,
            "keys": keys,
            "monitoring": monitoring,
        }
        api = await open_api(
            settings,
            core.plane,
            tokens=core.tokens,
            token_issuer=core.token_issuer,
            audit=core.audit,
            parts=self._parts,
        )
        self._http_bound = api.acceptor.bound
        # A handshake draws random numbers, and what it takes of the loop is to be seen.
        before_peer = self._snapshot_watch.make_sure, self._lag.soon
        core.devices.acceptor.before_peer = api.acceptor.before_peer = before_peer
        health, measuring, watching = await self._watch(core, followers, keys)
        ServiceChecking(health, core.plane).follow(monitoring)
        alerts = open_alerts(
            monitoring,
            self._history,
            health,
            core,
            measuring=measuring,
            saves=self._saves,
            parts=self._parts,
            node=settings.gateway_node,
        )
        await open_control(
            settings,
            core.plane,
            core.updates,
            core.store,
            refused=self._refused_clients,
            listeners=self._listeners,
            alerts=alerts.current,
            looks={"store": core.directory.look, "keys": keys.look, "policy": followers["policy"].look},
            parts=self._parts,
        )
        self._open_device_port(core.devices)
        self._keep_running(core)
        for run in (*watching, self._snapshot_watch.run):
            self._parts.keep(run())
        if settings.tls_enabled:
            certificates.serve(core.devices.acceptor, api.acceptor)
        self._follow(followers, health)

    async def _watch(
        self, core: _Core, followers: Mapping[str, Follower], keys: KeyFollower
    ) -> tuple[Health, Measuring, Sequence[_Run]]:
        """Open the port for health and metrics. Return what gives them, and what has to run for that."""
        settings, context, plane = self._settings, self._context, core.plane
        validity = CertificateDates(settings, lambda: context.now() / 1_000)
        durations, lag, system = Durations(), self._lag, SystemLoad(settings.gateway_data_dir)
        lag.is_busy = lambda: bool(plane.registry.live)
        prefix, node = settings.service_topic_prefix, settings.gateway_node
        probe = BusProbe(plane.bus, context, prefix, node, heard=durations.bus_round_trip.observe)
        health = open_checks(
            settings,
            context,
            core.audit,
            self._parts,
            {
                "loop": lag,
                "store": core.directory,
                "saving": self._saves,
                "disk": system,
                "audit": core.auditing.trail,
                "policy": followers["policy"],
                "certificates": CertificateCheck(followers["certificates"], validity),
                "validity": validity,
                "keys": keys,
                "bus": probe,
                "monitoring": followers["monitoring"],
                "listener": core.devices,
            },
        )
        health.add_passive("bus", probe.last)
        if settings.gateway_bus_services:
            services = bus_services(
                settings, plane, core.handler, core.bearer_cache, core.audit, tasks=self._parts.tasks
            )
            services.on_request = lag.soon
            health.add("services", services.check, vital=False, needed=False)
            self._parts.keep(services.run())
        measured = Parts(
            context=context,
            plane=plane,
            updates=core.updates,
            store=core.store,
            directory=core.directory,
            passwords=core.login.passwords,
            keys=keys,
            validity=validity,
            health=health,
            trail=core.auditing.trail,
            system=system,
            lag=lag,
        )
        measuring = Measuring(measured, durations, self._history)
        port = await open_health(settings, health, measuring.metrics, self._parts)
        self._health_bound = port.acceptor.bound
        checking = partial(health.run, self._parts.tasks.start)
        measure = measuring.run, measuring.sample_round_trips
        return health, measuring, (validity.run, lag.run, checking, *measure)

    def _keep_running(self, core: _Core) -> None:
        """What goes on in the background, beside the followers."""
        reporter = AdminEventReporter(core.store, core.audit, self._saves, core.auditing.trail)
        core.directory.on_commit(reporter.committed)
        for part in (
            core.directory.follow(),
            core.directory.try_writing(self._settings.health_check_interval),
            reporter.run(),
            core.devices.tick(),
            core.plane.reports.connects.run(),
            core.plane.reports.strangers.run(),
            FullCollections().run(),
            MallocTrimming().run(),
        ):
            self._parts.keep(part)

    def _follow(self, followers: dict[str, Follower], health: Health) -> None:
        """Follow the files, of the CA of the bus too if there is one; SIGHUP reads them all."""
        if self._authority is not None:
            health.add("bus authority", self._authority.check, vital=False, needed=False)
            followers = {**followers, "bus authority": self._authority}
        for follower in followers.values():
            self._parts.keep(follower.run())
        reads = {name: follower.reload for name, follower in followers.items()}
        self._parts.keep(self._signals.reload(reads))

    def feed_watchdog(self, seconds: float | None) -> None:
        """Notify the service manager every `seconds` that the event loop runs; None: it did not ask to be."""
        if seconds is not None:
            self._parts.keep(every(seconds, partial(notify, "WATCHDOG=1")))

    async def stop(self) -> None:
        """Close everything, in the reverse order."""
        await self._parts.stop()

    async def _open_core(self) -> _Core:
        settings, context, parts, saves = self._settings, self._context, self._parts, self._saves
        try:
            store, directory = await self._open_store()
            bus, self._authority, self._bus_note = await open_bus(settings, context, parts)
            tls = self._server_tls()
        except (StoreError, OSError, ssl.SSLError) as error:
            raise StartError([str(error)]) from error
        tokens = self._tokens(directory)
        token_issuer, bearer_cache = TokenIssuer(context, tokens), BearerCache(tokens, context.now)
        savers, refusals = await open_savers(
            context,
            store,
            directory,
            token_issuer,
            self._refused_clients,
            parts=parts,
            saves=saves,
            history=self._history,
            bus_forgets=settings.bus is None,
        )
        login = open_login(settings, context, store, directory, tokens, parts=parts, saves=saves)
        auditing = await open_audit(
            settings, context, store, saves, parts, refusals, self._refused_clients, listeners=self._listeners
        )
        audit = auditing.audit
        if self._authority is not None:
            self._authority.report = auditing.report
        parts.begin()
        parts.keep(saves.run())
        auditing.begin(parts, settings)
        handler = RequestHandler(
            context, bearer_cache, token_issuer, directory, prefix=settings.service_topic_prefix
        )
        gate = login_gate(login, context, directory, audit)
        plane = build_data_plane(
            context, bus, gate, handler, audit, find=directory.get, refused=self._refused_clients, parts=parts
        )
        updates = self.updates = self._follow_devices(plane, directory, savers)
        devices = self.devices = DevicePort(plane, tls, settings.gateway_proxy_from)
        parts.closing.push_async_callback(devices.stop)
        return _Core(
            store,
            directory,
            tokens,
            token_issuer,
            bearer_cache,
            login,
            audit,
            auditing,
            handler,
            plane,
            updates,
            devices,
        )

    def _follow_devices(self, plane: DataPlane, directory: Directory, savers: DevicesChanged) -> LiveUpdates:
        updates = LiveUpdates(plane.registry, plane.reports, self._parts.tasks, directory.get)
        directory.on_change(updates.devices_changed)
        directory.on_change(savers)  # after the connections, which end if they are not to go on
        directory.on_availability(self._log_availability)
        return updates

    async def _open_store(self) -> tuple[Store, Directory]:
        store = await open_store(self._settings.database_url)
        self._parts.closing.push_async_callback(store.close)
        self._context.ring = KeyRing(self._keys, self._nonces, await store.key_uses.read())
        directory = Directory(store, notices=FileNotices(store.files))
        await directory.load()
        self._has_no_device = len(directory) == 0
        return store, directory

    def _tokens(self, directory: Directory) -> Tokens:
        life, chain = self._settings.jwt_ttl, self._settings.jwt_chain_max
        return Tokens(self._signing, directory, now=self._context.now, ttl=life, chain_max=chain)

    def _server_tls(self) -> ssl.SSLContext | None:
        settings = self._settings
        if not settings.tls_enabled:
            return None
        return server_context(settings.tls_cert_path, settings.tls_key_path, settings.tls_client_ca_path)

    def _open_device_port(self, devices: DevicePort) -> None:
        try:
            devices.acceptor.open(self._settings.gateway_mqtt_bind)
        except OSError as error:
            raise address_taken("GATEWAY_MQTT_BIND", error) from error

    def _log_availability(self, available: bool, reason: str) -> None:  # noqa: FBT001 - a callback
        if available:
            _log.info("store available")
        elif not self._parts.stopping:
            _log.error("store unavailable", reason=f"{reason}; logins are refused until it is back")

    def print_banner(self, made: Sequence[str]) -> None:
        """Say to whoever started it what listens where, and what to type next."""
        lines = banner(
            self._settings,
            made,
            bus=self._bus_note,
            policy=self._context.policy,
            mqtt=self.devices.acceptor.bound if self.devices else (),
            http=self._http_bound,
            health=self._health_bound,
            first_steps=sys.stdout.isatty() and self._has_no_device,
        )
        print(*lines, sep="\n", flush=True)  # noqa: T201 - for the person at the terminal; logs go to stderr
