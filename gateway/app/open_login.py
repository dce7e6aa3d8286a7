"""Puts together what decides on logins, and has saved what that must remember over a restart."""

from __future__ import annotations

from gateway.app.password_rehashing import OldHashes
from gateway.app.running_parts import RunningParts
from gateway.app.savers.login_priority_file import KnownDevicesSaver
from gateway.app.secret_overlaps import SecretOverlaps
from gateway.auth.claimed_name_redaction import ClaimedNames
from gateway.auth.dual_secrets import SecretPairs
from gateway.auth.login import Login
from gateway.auth.login_gate import LoginGate
from gateway.auth.passwords import PasswordPool, VerifiedSecrets
from gateway.auth.recent_logins import KnownDevices
from gateway.auth.tokens import Tokens
from gateway.config import Settings
from gateway.connection.process_context import Context
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.save_failures import Saves
from gateway.store import Store
from gateway.store.device_directory import Directory


def open_login(
    settings: Settings,
    context: Context,
    store: Store,
    directory: Directory,
    tokens: Tokens,
    *,
    parts: RunningParts,
    saves: Saves,
) -> Login:
    """What verifies logins."""
    known = KnownDevices(context.now)
    known_file = KnownDevicesSaver(settings.gateway_data_dir, known, saves)
    known_file.load()
    parts.keep_saving(known_file)
    passwords = PasswordPool()
    parts.closing.callback(passwords.close)
    remembered = VerifiedSecrets()

    def forget(touched: frozenset[str]) -> None:
        for device_id in touched:
            remembered.forget(device_id)
            if directory.get(device_id) is None:
                known.forget(device_id)

    directory.on_change(forget)

    def now() -> int:
        return context.now() // 1_000

    overlaps = SecretOverlaps(store, directory.get, now, saves)
    overlaps.devices_changed(frozenset(directory))
    directory.on_change(overlaps.devices_changed)
    parts.keep(overlaps.run())
    return Login(
        directory,
        passwords,
        remembered,
        tokens,
        limits=context.policy.limits,
        rehash=OldHashes(store, passwords, parts.tasks.start).replace,
        known=known,
        pairs=SecretPairs(now, overlaps.end),
    )


def login_gate(login: Login, context: Context, directory: Directory, audit: Audit) -> LoginGate:
    """The gate in front of `login`, which counts and reports."""
    return LoginGate(
        login,
        ClaimedNames(directory),
        context.counters,
        lambda report, origin: audit.emit(AuditEvent.of(report, origin, context.now())),
        lambda method, device_id, origin: audit.admitted(method, device_id, origin, context.now()),
    )
