"""The composition root: the one module that knows all the others, and puts them together.

Owns the order of starting and stopping. A start either has everything or ends with every problem
listed; nothing listens before all of it is there (promise 1).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import uvloop

from gateway.app.admin_events import AdminEvents
from gateway.app.bootstrap import StartError, alone, check, prepare, read_keys
from gateway.app.certificate_dates import CertificateDates
from gateway.app.file_descriptors import allowed, ask_for, connections_that_fit, shortage
from gateway.app.followers.certificates import BusAuthority, CertificateFollower
from gateway.app.followers.keys import KeyFollower
from gateway.app.followers.monitoring import MonitoringFollower
from gateway.app.followers.policy import PolicyFollower
from gateway.app.garbage_collection import FullCollections
from gateway.app.password_rehashing import OldHashes
from gateway.app.periodic import every
from gateway.app.savers.holdings import HeldRecords
from gateway.app.savers.issued_tokens import TokenRecords
from gateway.app.savers.key_uses import KeyUses
from gateway.app.savers.known_devices import KnownDevicesFile
from gateway.app.savers.observations import Observations
from gateway.app.savers.refusals import Refusals
from gateway.app.savers.saver import Saver
from gateway.app.signals import Signals
from gateway.app.startup_banner import banner
from gateway.app.vm_snapshots import SnapshotWatch, random_bytes
from gateway.auth.claimed_name_redaction import ClaimedNames
from gateway.auth.known_devices import KnownDevices
from gateway.auth.login import Login
from gateway.auth.login_gate import LoginGate
from gateway.auth.passwords import PasswordPool, Remembered
from gateway.auth.tokens import SigningKeys, Tokens
from gateway.bus_client.probe import BusProbe
from gateway.config import Address, Settings
from gateway.connection.audit_event_kinds import HOUSE, changed_key
from gateway.connection.context import Context
from gateway.http.api import Api, serve_api
from gateway.http.health import Health, serve
from gateway.http.server import WebServer
from gateway.keys.key_ring import Key, KeyRing, Nonces
from gateway.net.connection_registry import Bus, ConnectionRegistry
from gateway.net.device_port import DevicePort
from gateway.net.tasks import Tasks
from gateway.net.tls_contexts import bus_context, server_context
from gateway.observe.audit_dispatch import Audit, AuditEvent, AuditLog
from gateway.observe.logs import configure, get_logger
from gateway.observe.metrics import Gauge, LabelledGauge, collector_registry
from gateway.observe.save_failures import Saves
from gateway.policy.engine.policy import Policy
from gateway.services.bearer_cache import BearerCache
from gateway.services.over_bus import BusServices
from gateway.services.request_handler import RequestHandler
from gateway.services.request_rates import Rates
from gateway.services.token_issuer import TokenIssuer
from gateway.store import Store, StoreError, open_store
from gateway.store.device_directory import Directory
from gateway.system.atomic_files import mark_of
from gateway.system.service_manager import tell, watchdog_seconds

_SWITCH_SECONDS = 0.000_2
"""After which a thread that runs Python lets the event loop go on, as often as a socket has something: with
CPython's own 5 ms all messages queued while a policy was read."""

_TELL_SECONDS = 1.0
"""After which is told what got no line of its own in the log."""
_ALL_LEFT_OUT = 100_000
"""Lines that tell at the end what got none: the gateway stops, whoever is still to be told of."""

_log = get_logger()


def run(settings: Settings, warnings: Sequence[str] = ()) -> int:
    """Serve until SIGINT or SIGTERM. The exit code: 0; 1 if it can't go on; 1 or 2 if it can't start.

    Why it can't start is on stderr.

    `warnings` are told in the log: what is odd about the settings.
    """
    configure(settings.log_level)
    for warning in warnings:
        _log.warning("odd setting", reason=warning)
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        return int(uvloop.run(_serve(settings)))
    except StartError as error:
        for problem in error.problems:
            print(f"gateway: {problem}", file=sys.stderr)  # noqa: T201 - nothing runs yet that could log
        return error.exit_code


async def _serve(settings: Settings) -> bool:
    """Whether it stopped because a part of it failed."""
    signals = Signals()
    policy = check(settings)
    ask_for(policy.limits)
    if short := shortage(policy.limits, allowed()):
        _log.warning("too few open files", reason=short)
    with alone(settings):
        made = await prepare(settings, [])
        sealing, signing = read_keys(settings)
        gateway = Gateway(settings, policy, sealing, signing, signals)
        try:
            await gateway.start(made)
            gateway.introduce(made)
            tell("READY=1")
            gateway.reassure(watchdog_seconds())
            await signals.stop.wait()
            tell("STOPPING=1")
            _log.info("stopping")
        finally:
            await gateway.stop()
        return gateway.failed


def _taken(name: str, error: OSError) -> StartError:
    return StartError([f"{name}: {error}"])


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
        self.failed = False
        """Whether it stops because a part of it failed."""
        self._tasks = Tasks()
        self._closing = contextlib.AsyncExitStack()
        self._context = Context(
            policy=policy,
            ring=KeyRing(keys, Nonces(random_bytes), {}),
            now=lambda: time.time_ns() // 1_000_000,
            new_client_id=lambda: f"auto-{str(uuid.uuid4()).upper()}",
            on_deny=settings.gateway_on_deny,
            on_denied_will=settings.gateway_on_denied_will,
        )
        self._keys = keys
        self._signing = signing
        self._bus_note = ""
        self._stopping = False
        self._saves = Saves()
        self._authority: BusAuthority | None = None
        self._device_port: DevicePort | None = None
        self._health_bound: Sequence[Address] = ()
        self._http_bound: Sequence[Address] = ()

    async def start(self, made: Sequence[str]) -> None:
        """Open everything, the port for devices last; `made` is what was made for it. Raises StartError."""
        settings, context = self._settings, self._context
        certificates = CertificateFollower(settings)
        validity = CertificateDates(settings, lambda: context.now() / 1_000)
        monitoring = MonitoringFollower(settings)
        snapshots = SnapshotWatch(lambda: context.ring.renew_nonces())  # noqa: PLW0108 - another ring, below
        try:
            store, directory = await self._open_store()
            bus = await self._bus()
            tls = self._server_tls()
        except (StoreError, OSError, ssl.SSLError) as error:
            raise StartError([str(error)]) from error
        tokens = Tokens(
            self._signing,
            directory,
            now=context.now,
            ttl=settings.jwt_ttl,
            chain_max=settings.jwt_chain_max,
        )
        token_issuer, bearer_cache = TokenIssuer(context, tokens), BearerCache(tokens, context.now)
        held, refusals = await self._save_all(store, directory, token_issuer)
        login = self._login(store, directory, tokens)
        audit = self._open_audit(refusals)
        gate = self._gate(login, directory, audit)
        self._closing.push_async_callback(self._tasks.stop)
        self._tell_new_keys(audit, made)
        request_handler = RequestHandler(
            context, bearer_cache, token_issuer, directory, prefix=settings.service_topic_prefix
        )
        registry = ConnectionRegistry(
            context=context,
            bus=bus,
            login=gate,
            audit=audit,
            tasks=self._tasks,
            find=directory.get,
            services=request_handler.answer,
            may_connect=self._connect_rate(),
            room=connections_that_fit(allowed()),
        )
        self._closing.callback(registry.connects.tell)
        self._closing.callback(registry.turned_away.tell)
        directory.on_change(registry.devices_changed)
        directory.on_change(held.devices_changed)  # after the registry, which ends what is not to go on
        directory.on_availability(self._tell_availability)
        devices = self._device_port = DevicePort(registry, tls, settings.gateway_proxy_from)
        self._closing.push_async_callback(devices.stop)
        policy = PolicyFollower(settings, registry, login)
        probe = BusProbe(bus, context, settings.service_topic_prefix)
        keys = KeyFollower(settings, context, tokens, store, audit, signing_changed=registry.keys_changed)
        api = await self._open_api(gate, token_issuer, tokens, audit)
        health = Health(folder=lambda: mark_of(settings.gateway_data_dir))
        health.add("store", directory.check, vital=True)
        health.add("saving", self._saves.check, vital=False, needed=False)
        health.add("policy", policy.check, vital=False, needed=False)
        health.add("certificates", certificates.check, vital=False, needed=False)
        health.add("validity", validity.check, vital=False)
        health.add("keys", keys.check, vital=False, needed=False)
        health.add("monitoring", monitoring.check, vital=False, needed=False)
        health.add("bus", probe.check, vital=False)
        health.add(
            "listener", lambda: (devices.acceptor.is_open, f"port {devices.acceptor.port}"), vital=False
        )
        if settings.gateway_bus_services:
            self._serve_the_bus(registry, request_handler, bearer_cache, health)
        await self._open_health(health, registry, validity)
        self._open_device_port(devices)
        for part in (
            directory.follow(),
            policy.run(),
            keys.run(),
            monitoring.run(),
            AdminEvents(store, audit, self._saves).run(),
            devices.tick(),
            registry.connects.run(),
            registry.turned_away.run(),
            FullCollections().run(),
            validity.run(),
            snapshots.run(),
            probe.keep_asking(settings.health_check_interval),
        ):
            self._keep(part)
        if tls is not None:
            certificates.serve(devices.acceptor, api.acceptor)
            self._keep(certificates.run())
        reads = {
            "policy": policy.reload,
            "certificates": certificates.reload,
            "keys": keys.reload,
            "monitoring": monitoring.reload,
        }
        self._keep(self._signals.reload(reads | self._follow_authority(bus, health)))

    def _follow_authority(self, bus: Bus, health: Health) -> dict[str, Callable[[], Awaitable[str]]]:
        """How its file is read again, if there is one."""
        authority = self._authority
        if authority is None:
            return {}
        health.add("bus authority", authority.check, vital=False, needed=False)
        authority.serve(bus)
        self._keep(authority.run())
        return {"bus authority": authority.reload}

    def _connect_rate(self) -> Callable[[str], bool]:
        context = self._context
        rates = Rates(context.now)
        return lambda device_id: rates.take(device_id, context.policy.limits.connects_per_minute, 60_000)

    async def _save_all(
        self, store: Store, directory: Directory, token_issuer: TokenIssuer
    ) -> tuple[HeldRecords, Refusals]:
        context, saves = self._context, self._saves
        self._keep(saves.run())
        self._keep_saving(KeyUses(store, context, saves))
        self._keep_saving(TokenRecords(store, token_issuer, saves))
        self._keep_saving(Observations(store, context, saves))
        held = HeldRecords(store, context, directory.get, saves)
        try:
            await held.load(bus_forgets=self._settings.bus is None)
        except StoreError as error:
            raise StartError([str(error)]) from error
        self._keep_saving(held)
        refusals = Refusals(store, context.counters, saves)
        self._keep_saving(refusals)
        return held, refusals

    def _open_audit(self, refusals: Refusals) -> Audit:
        log = AuditLog(self._context.counters, self._context.now)
        self._closing.callback(log.tell_left_out, _ALL_LEFT_OUT)
        self._keep(every(_TELL_SECONDS, log.tell_left_out))
        return Audit(self._context.counters, log, refusals)

    def _tell_new_keys(self, audit: Audit, made: Sequence[str]) -> None:
        settings, now = self._settings, self._context.now()
        for kind, path in (("sealing", settings.encryption_key_path), ("signing", settings.signing_key_path)):
            if str(path) in made:
                audit.emit(AuditEvent.of(changed_key(f"the first {kind} key made"), HOUSE, now))

    def _serve_the_bus(
        self,
        registry: ConnectionRegistry,
        request_handler: RequestHandler,
        bearer_cache: BearerCache,
        health: Health,
    ) -> None:
        services = BusServices(
            self._context,
            registry.bus,
            request_handler=request_handler,
            bearer_cache=bearer_cache,
            login=registry.login,
            audit=registry.audit,
            tasks=self._tasks,
            prefix=self._settings.service_topic_prefix,
        )
        health.add("services", services.check, vital=False, needed=False)
        self._keep(services.run())

    def _open_device_port(self, devices: DevicePort) -> None:
        try:
            devices.acceptor.open(self._settings.gateway_mqtt_bind)
        except OSError as error:
            raise _taken("GATEWAY_MQTT_BIND", error) from error

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what must run as long as the gateway does: without it decisions would no longer take effect."""
        self._tasks.start(work).add_done_callback(self._part_ended)

    def _keep_saving(self, what: Saver) -> None:
        """Save as long as the gateway runs, and what is left when all else has stopped."""
        # Closed in the reverse order: what runs is stopped before.
        self._closing.push_async_callback(what.save)
        self._keep(what.run())

    def _part_ended(self, _: asyncio.Task[None]) -> None:
        if not self._stopping:
            _log.critical("stopping", reason="a part of the gateway has failed; start it again")
            self.failed = True
            self._signals.stop.set()

    def reassure(self, seconds: float | None) -> None:
        """Tell the service manager so often that the event loop turns; None: it does not ask."""
        if seconds is not None:
            self._keep(every(seconds, partial(tell, "WATCHDOG=1")))

    async def stop(self) -> None:
        """Close everything, in the reverse order."""
        self._stopping = True
        await self._closing.aclose()

    async def _open_store(self) -> tuple[Store, Directory]:
        store = await open_store(self._settings.database_url)
        self._closing.push_async_callback(store.close)
        self._context.ring = KeyRing(self._keys, Nonces(random_bytes), await store.key_uses.read())
        directory = Directory(store)
        await directory.load()
        return store, directory

    def _gate(self, login: Login, directory: Directory, audit: Audit) -> LoginGate:
        now, counters = self._context.now, self._context.counters
        return LoginGate(
            login,
            ClaimedNames(directory),
            counters,
            lambda report, origin: audit.emit(AuditEvent.of(report, origin, now())),
        )

    def _login(self, store: Store, directory: Directory, tokens: Tokens) -> Login:
        known = KnownDevices(self._context.now)
        known_file = KnownDevicesFile(self._settings.gateway_data_dir, known, self._saves)
        known_file.load()
        self._keep_saving(known_file)
        passwords = PasswordPool()
        self._closing.callback(passwords.close)
        remembered = Remembered()

        def forget(touched: frozenset[str]) -> None:
            for device_id in touched:
                remembered.forget(device_id)

        directory.on_change(forget)

        return Login(
            directory,
            passwords,
            remembered,
            tokens,
            limits=self._context.policy.limits,
            rehash=OldHashes(store, passwords, self._tasks.start).replace,
            known=known,
        )

    async def _bus(self) -> Bus:
        settings, context = self._settings, self._context
        address = settings.bus
        if address is not None:
            if settings.mqtt_username is not None:
                context.bus_username = settings.mqtt_username.encode()
            if settings.mqtt_password is not None:
                context.bus_password = settings.mqtt_password.reveal()
            authority = settings.mqtt_ca_path
            self._authority = BusAuthority(authority) if authority else None
            self._bus_note = f"the Mosquitto bus at {address}"
            return Bus(address.host, address.port, bus_context(authority) if authority else None)
        from gateway.net.embedded_bus import EmbeddedBus

        embedded = EmbeddedBus()
        await embedded.start()
        self._closing.push_async_callback(embedded.stop)
        context.bus_username, context.bus_password = embedded.username.encode(), embedded.password.encode()
        context.bus_speaks_v5 = False
        self._bus_note = f"an embedded bus on 127.0.0.1:{embedded.port}, for trying out (MQTT 3.1.1 only)"
        _log.warning(
            "embedded bus",
            reason="MQTT_BROKER is not set; this bus is for trying out: 3.1.1 only, and it forgets",
        )
        return Bus("127.0.0.1", embedded.port)

    def _server_tls(self) -> ssl.SSLContext | None:
        settings = self._settings
        if not settings.tls_enabled:
            return None
        return server_context(settings.tls_cert_path, settings.tls_key_path, settings.tls_client_ca_path)

    async def _open_health(
        self, health: Health, registry: ConnectionRegistry, validity: CertificateDates
    ) -> None:
        settings = self._settings
        gauges: dict[str, Gauge | LabelledGauge] = {
            "certificate_expiry_timestamp_seconds": LabelledGauge(
                "Until when the certificates in use are good.", "certificate", validity.expiries
            ),
            "connections": Gauge("Device connections open now.", lambda: len(registry.links)),
            "bus_reachable": Gauge(
                "1 when the bus answered when last asked.", lambda: registry.bus.reachable
            ),
        }
        metrics = collector_registry(self._context.counters, gauges) if settings.metrics_enabled else None
        try:
            server = await serve(health, metrics, settings.gateway_health_bind, start=self._tasks.start)
        except OSError as error:
            raise _taken("GATEWAY_HEALTH_BIND", error) from error
        self._closing.push_async_callback(server.close)
        self._health_bound = server.bound

    async def _open_api(
        self, gate: LoginGate, token_issuer: TokenIssuer, tokens: Tokens, audit: Audit
    ) -> WebServer:
        settings, context = self._settings, self._context
        api = Api(
            login=gate,
            token_issuer=token_issuer,
            jwks=lambda: tokens.keys.jwks(),  # noqa: PLW0108 - other keys after a rotation
            audit=audit,
            now=context.now,
        )
        # A context of its own: a client certificate logs nobody in here.
        tls = (
            server_context(settings.tls_cert_path, settings.tls_key_path, None)
            if settings.tls_enabled
            else None
        )
        try:
            server = await serve_api(
                api,
                settings.gateway_http_bind,
                start=self._tasks.start,
                tls=tls,
                proxies=settings.gateway_proxy_from,
            )
        except OSError as error:
            raise _taken("GATEWAY_HTTP_BIND", error) from error
        self._closing.push_async_callback(server.close)
        self._http_bound = server.bound
        return server

    def _tell_availability(self, available: bool, reason: str) -> None:  # noqa: FBT001 - a callback
        if available:
            _log.info("store available")
        elif not self._stopping:
            _log.error("store unavailable", reason=f"{reason}; logins are refused until it is back")

    def introduce(self, made: Sequence[str]) -> None:
        """Tell whoever started it what listens where, and what to type next."""
        lines = banner(
            self._settings,
            made,
            bus=self._bus_note,
            role="sensor" if "sensor" in self._context.policy.roles else "ROLE",
            mqtt=self._device_port.acceptor.bound if self._device_port else (),
            http=self._http_bound,
            health=self._health_bound,
        )
        print(*lines, sep="\n", flush=True)  # noqa: T201 - for the person at the terminal; logs go to stderr
