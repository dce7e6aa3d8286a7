"""The backup of a whole gateway in one file: store, keys, certificates, policy, under a passphrase.

Owns what is in it and under which names; `gateway.admin.restore` brings it back. What depends on something is
written before it: the store first and the keys after it, so that no key is missing that the store names.

A tar, compressed, in a `gateway.keys.sealed_stream`:

    backup.json             format, time, node, version, and the last checkpoint of the audit trail
    gateway.db              the store, as it was at one moment
    keys.json               as `keys export` writes it, under the same passphrase
    certificates/NAME       ca.crt, ca.key, server.crt, server.key and their RSA twins; those that are there
    acl/…                   the policy
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gateway.admin.audit_events import announced
from gateway.admin.errors import Refused
from gateway.connection.audit_vocabulary import begun_key_change, saved_all
from gateway.keys.key_backup import export_keys
from gateway.keys.sealed_stream import SealingWriter
from gateway.pki.ecdsa_and_rsa_choice import rsa_twin
from gateway.system.file_change_marks import mark

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.store import Store

FORMAT = 1
"""The version of the format, for later ones."""
ABOUT = "A whole MQTT security gateway: `gateway-admin restore` brings it back"
MANIFEST, STORE, KEYS, CERTIFICATES, POLICY = "backup.json", "gateway.db", "keys.json", "certificates", "acl"
POLICY_FILES_MAX = 10_000
"""Files of the policy in a backup."""
FILE_MAX = 16_777_216
"""Bytes of a file of the policy or a certificate."""
_CHECKPOINT_MAX = 4_096
_TRIES = 5
"""How often certificates, or the files of the policy, are read again because one changed meanwhile."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What a backup holds."""

    at: int
    """The moment at which the store was as it is in the backup, in Unix seconds."""
    devices: int
    files: int
    """Certificates and files of the policy."""


def certificate_files(settings: Settings) -> dict[str, Path]:
    """Where each certificate and key belongs by today's settings, by its name in a backup."""
    certificate, key = settings.tls_cert_path, settings.tls_key_path
    authority = {
        name: certificate.with_name(name) for name in ("ca.crt", "ca.key", "ca-rsa.crt", "ca-rsa.key")
    }
    server = {"server.crt": certificate, "server.key": key}
    twins = {"server-rsa.crt": rsa_twin(certificate), "server-rsa.key": rsa_twin(key)}
    return authority | server | twins


async def back_up(
    store: Store, settings: Settings, passphrase: bytes, target: BinaryIO, *, actor: str
) -> Saved:
    """Write all of it to `target`, if the audit has an event of that. A running gateway goes on meanwhile.

    Raises StoreError, KeyFileError, OSError, Refused.
    """
    count = len(await store.devices.read())
    from gateway.store.snapshot import copy_database

    begun = begun_key_change("all keys, devices and the policy to be exported to a backup")
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=settings.gateway_data_dir) as scratch:
        copy = Path(scratch) / STORE
        at = int(datetime.now(UTC).timestamp())
        # Before the event that it begins, which would be one in each place where it is restored.
        await asyncio.to_thread(copy_database, settings.database_path, copy)
        async with announced(store, begun, actor=actor) as done:
            files = await asyncio.to_thread(
                _write, settings, passphrase, target, copy, {"at": at, "devices": count}
            )
            done.append(saved_all())
    return Saved(at, count, files)


def _write(
    settings: Settings, passphrase: bytes, target: BinaryIO, store: Path, said: Mapping[str, int]
) -> int:
    """Seal all of it, with this copy of the store and what is `said` of it in the manifest.

    Returns how many certificates and files of the policy there are.
    """
    sealed = SealingWriter(target, passphrase, about=ABOUT)
    keys = export_keys(
        settings.encryption_key_path, settings.signing_key_path, settings.encryption_key, passphrase
    )
    certificates = _read_together(
        {name: path for name, path in certificate_files(settings).items() if path.exists()}
    )
    policy = _read_together(dict(policy_files(settings.acl_path)))
    manifest = {
        **said,
        "v": FORMAT,
        "node": settings.gateway_node,
        "version": version("mqtt-security-gateway"),
        "audit": _audit_checkpoint(settings.audit_path / "checkpoint"),
    }
    with tarfile.open(fileobj=sealed, mode="w|gz", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, MANIFEST, json.dumps(manifest).encode())
        archive.add(store, STORE, filter=_anonymous)
        _add(archive, KEYS, keys)
        for name, data in certificates.items():
            _add(archive, f"{CERTIFICATES}/{name}", data)
        for name, data in policy.items():
            _add(archive, f"{POLICY}/{name}", data)
    sealed.finish()
    return len(certificates) + len(policy)


def _audit_checkpoint(checkpoint: Path) -> str:
    """The last checkpoint of the trail (its name, size and root); empty for none."""
    try:
        with checkpoint.open(encoding="utf-8") as file:
            return " ".join(file.read(_CHECKPOINT_MAX).splitlines()[:3])
    except (OSError, ValueError):
        return ""


def policy_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a policy, by their names in its folder, without hidden ones (as drafts of editors are)."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), path


def _read_together(files: Mapping[str, Path]) -> dict[str, bytes]:
    """All of them as they were at one moment: a certificate must not come with a key that is not its own."""
    if len(files) > POLICY_FILES_MAX:
        raise Refused(f"there are more than {POLICY_FILES_MAX:,} files in the folder of the policy")
    for _ in range(_TRIES):
        before = {name: mark(path) for name, path in files.items()}
        read = {name: _whole(path) for name, path in files.items()}
        if before == {name: mark(path) for name, path in files.items()}:
            return read
    raise Refused("files of the policy or certificates change all the time: try again")


def _whole(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(FILE_MAX + 1)
    if len(data) > FILE_MAX:
        raise Refused(f"{path} is longer than {FILE_MAX:,} bytes: nothing of the gateway's is")
    return data


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    item = tarfile.TarInfo(name)
    item.size, item.mode = len(data), 0o600
    archive.addfile(item, io.BytesIO(data))


def _anonymous(item: tarfile.TarInfo) -> tarfile.TarInfo:
    item.uid = item.gid = 0
    item.uname = item.gname = ""
    item.mode = 0o600
    return item


def write_file(path: Path) -> BinaryIO:
    """A new file for our user alone. Raises FileExistsError, OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
