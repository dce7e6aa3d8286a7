"""What a gateway needs before it starts: it is checked, read, and made if it is not there.

Owns what refuses to start, with every problem listed at once (promise 1). Must not know how the parts
are put together: that is `gateway.app.composition`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from gateway.admin.audit_events import announced, record
from gateway.auth.signing_keys import SigningKeys
from gateway.config import Settings
from gateway.config.file_checks import file_problems
from gateway.config.monitoring import MonitoringError, load_monitoring
from gateway.connection.audit_vocabulary import (
    begun_certificate_change,
    begun_key_change,
    changed_certificate,
    changed_key,
)
from gateway.keys.key_files import (
    KeyFileError,
    ensure_audit_file,
    ensure_sealing_file,
    ensure_signing_file,
    read_audit_seed,
    read_sealing_file,
    read_signing_file,
)
from gateway.keys.key_ring import Key
from gateway.pki.ecdsa_and_rsa_choice import KeyType, rsa_twin
from gateway.pki.initial_certificates import PkiError, ensure_server_certificate
from gateway.policy.engine.policy import Policy
from gateway.policy.files.loader import PolicyError, load_policy
from gateway.store import Store, StoreError, open_store
from gateway.system.data_folder_lock import Held, hold

KEYS_GONE = (
    "the sealing keys are gone, but some have been used: restore the file from a backup "
    "(gateway-admin keys import), for nothing else opens what they sealed"
)
SIGNING_GONE = (
    "the signing keys are gone, but tokens signed with them have not expired: restore the file from a backup "
    "(gateway-admin keys import); without one, gateway-admin keys rotate signing makes new keys, and every "
    "device needs another token"
)


class StartError(Exception):
    """The gateway can't start. `problems` says all that is wrong and what to do."""

    def __init__(self, problems: Sequence[str], *, exit_code: int = 1) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
        self.exit_code = exit_code
        """The exit code of the process. 2: a setting that it needs is missing, so starting it again is no
        use."""


def address_taken(setting: str, error: OSError) -> StartError:
    """The error when it is not possible to listen at the address in this setting."""
    return StartError([f"{setting}: {error}"])


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the data folder against a second gateway. Raises StartError."""
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(settings.gateway_data_dir, settings.database_path))
        except (Held, OSError) as error:
            raise StartError([f"GATEWAY_DATA_DIR: {error}"]) from error
        yield


def check(settings: Settings) -> Policy:
    """Return the policy, after checking all that can be wrong before anything is made.

    Raises StartError with every problem.
    """
    problems = file_problems(settings)
    policy: Policy | None = None
    try:
        policy = load_policy(settings.acl_path, reserved=settings.service_topic_prefix)
    except PolicyError as error:
        problems += error.problems
    problems += key_problems(settings)
    problems += monitoring_problems(settings)
    busless = missing_bus(settings)
    if busless or problems or policy is None:
        raise StartError([*busless, *problems], exit_code=2 if busless else 1)
    return policy


def monitoring_problems(settings: Settings) -> list[str]:
    """What is wrong with the file of checks, alerts and channels, and with the files that it names."""
    try:
        load_monitoring(settings.monitoring_path)
    except MonitoringError as error:
        return list(error.problems)
    return []


def missing_bus(settings: Settings) -> list[str]:
    """That no bus is named, where there is none to start instead: the image has no embedded one."""
    if settings.bus is not None or find_spec("amqtt") is not None:
        return []
    said = "it is not set, and no embedded bus is installed: give the host of your Mosquitto"
    return [f"MQTT_BROKER: {said}, such as MQTT_BROKER=mosquitto"]


def key_problems(settings: Settings) -> list[str]:
    """What is wrong with the key files that are there."""
    problems = []
    try:
        if os.access(settings.encryption_key_path, os.R_OK):  # else listed with the files
            read_sealing_file(settings.encryption_key_path, settings.encryption_key)
    except KeyFileError as error:
        problems.append(str(error))
    try:
        if settings.jwt_secret is not None or os.access(settings.signing_key_path, os.R_OK):
            signing_keys(settings)
    except KeyFileError as error:
        problems.append(str(error))
    try:
        if os.access(settings.audit_key_path, os.R_OK):
            read_audit_seed(settings.audit_key_path, settings.encryption_key)
    except KeyFileError as error:
        problems.append(str(error))
    return problems


async def lost_keys(settings: Settings, store: Store) -> list[str]:
    """Which key files are gone that something in the store still needs. Raises StoreError."""
    lost = []
    if not settings.encryption_key_path.exists() and await store.key_uses.read():
        lost.append(f"{settings.encryption_key_path}: {KEYS_GONE}")
    if settings.jwt_secret is None and not settings.signing_key_path.exists() and await store.tokens.read():
        lost.append(f"{settings.signing_key_path}: {SIGNING_GONE}")
    return lost


async def prepare(
    settings: Settings,
    sans: Sequence[str],
    key_type: KeyType = KeyType.ECDSA,
    *,
    actor: str = "gateway",
) -> list[str]:
    """Make what a gateway needs and is not there: store, certificates, keys.

    The store is first, for it keeps the events of `actor` that announce the rest. Return the paths of what
    was made.

    `sans` are more names for the server certificate (subject alternative names). Raises StartError; touches
    nothing that exists.
    """
    made: list[str] = []
    had_store = settings.database_path.exists()
    try:
        store = await open_store(settings.database_url)
        try:
            if lost := await lost_keys(settings, store):
                raise StartError(lost)
            if not had_store:
                made.append(str(settings.database_path))
                await _record_found_keys(settings, store, actor)
            if settings.tls_enabled:
                made += await _make_certificates(settings, sans, key_type, store, actor)
            made += await _make_keys(settings, store, actor)
        finally:
            await store.close()
    except (PkiError, StoreError, KeyFileError) as error:
        raise StartError([str(error)]) from error
    return made


def _key_files(settings: Settings) -> dict[str, Path]:
    files = {"sealing": settings.encryption_key_path, "signing": settings.signing_key_path}
    if settings.jwt_secret is not None:
        del files["signing"]
    return files | {"audit": settings.audit_key_path}


async def _record_found_keys(settings: Settings, store: Store, actor: str) -> None:
    """Record which keys a new store finds: there was none when they were imported, or it was taken away."""
    found = [name for name, path in _key_files(settings).items() if _is_there(path)]
    if found:
        async with store.transaction() as tx:
            await record(
                tx, changed_key(f"a new store was made beside keys: {', '.join(found)}"), actor=actor
            )


async def _make_certificates(
    settings: Settings, sans: Sequence[str], key_type: KeyType, store: Store, actor: str
) -> list[str]:
    pair = [settings.tls_cert_path, settings.tls_key_path]
    wanted = [*pair, *map(rsa_twin, pair)] if key_type is KeyType.BOTH else pair
    missing = [str(path) for path in wanted if not _is_there(path)]
    if not missing:
        return []
    begun = begun_certificate_change(f"{', '.join(missing)} to be made, and a CA if there is none")
    async with announced(store, begun, actor=actor) as done:
        made = ensure_server_certificate(*pair, names=sans, key_type=key_type)
        done += [changed_certificate(f"{path} made") for path in made if path.suffix == ".crt"]
    return [str(path) for path in made]


async def _make_keys(settings: Settings, store: Store, actor: str) -> list[str]:
    ensure = {"sealing": ensure_sealing_file, "signing": ensure_signing_file, "audit": ensure_audit_file}
    made = []
    for name, path in _key_files(settings).items():
        if _is_there(path):
            continue
        begun = begun_key_change(f"the first {name} key to be made")
        async with announced(store, begun, actor=actor) as done:
            if ensure[name](path, settings.encryption_key):
                made.append(str(path))
                done.append(changed_key(f"the first {name} key made"))
    return made


def _is_there(path: Path) -> bool:
    """Whether there is such a file, as far as can be seen: whoever makes it says what keeps us out."""
    return os.access(path, os.F_OK)


def read_keys(settings: Settings) -> tuple[list[Key], SigningKeys]:
    """The keys that seal and those that sign. Raises StartError."""
    try:
        return read_sealing_file(settings.encryption_key_path, settings.encryption_key), signing_keys(
            settings
        )
    except KeyFileError as error:
        raise StartError([str(error)]) from error


def audit_seed(settings: Settings) -> bytes:
    """The seed of the key that signs the audit trail. Raises StartError."""
    try:
        return read_audit_seed(settings.audit_key_path, settings.encryption_key)
    except KeyFileError as error:
        raise StartError([str(error)]) from error


def signing_keys(settings: Settings) -> SigningKeys:
    """What signs tokens: JWT_SECRET, else the keys of the file. Raises KeyFileError."""
    if settings.jwt_secret is None:
        keys = read_signing_file(settings.signing_key_path, settings.encryption_key)
        return SigningKeys.of_keys(keys, time.time_ns() // 1_000_000_000)
    try:
        return SigningKeys.of_secret(settings.jwt_secret.reveal())
    except ValueError as error:
        raise KeyFileError(str(error)) from None
