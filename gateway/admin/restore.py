"""Bringing a gateway back from its backup, and what a backup may not bring back.

A backup is the past, and the past knows nothing of what was decided since. So:

- **Where the store is in use** (it has devices, had some, or counted uses of a key): what was removed stays
  removed, what was disabled stays disabled, a device keeps the secret it has, a destroyed key stays
  destroyed. Roles and labels, keys and certificates that this machine has lost, and the policy are those of
  the backup; devices that were added since are removed.
- **On a different machine**, and where the store is lost or new: everything is the backup's, and as this
  machine does not know what was decided since, all devices are disabled unless whoever restores says
  otherwise.
- Every token issued before the restore is revoked either way (`token_epoch`).

All of it is read, checked and decrypted before anything is changed, and what this machine has is first copied
aside, to a folder in the data folder. A store that can be opened keeps the event that a restore begins. The
gateway must not run meanwhile. If a restore is killed in the middle, run it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gateway.admin.audit_events import announced, record
from gateway.admin.backup import (
    CERTIFICATES,
    FILE_MAX,
    FORMAT,
    KEYS,
    MANIFEST,
    POLICY,
    POLICY_FILES_MAX,
    STORE,
    certificate_files,
    policy_files,
)
from gateway.admin.errors import Refused
from gateway.connection.audit_vocabulary import begun_key_change, restored_all
from gateway.keys.key_backup import Imported, import_keys, is_of_another_gateway
from gateway.keys.sealed_stream import OpeningReader, StreamNotOpened
from gateway.system.atomic_files import put_file
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.store import Store
    from gateway.store.restore_merge import Merged

_DAMAGED = "the file is damaged: give another one"
_CHUNK_BYTES = 1_048_576
"""Bytes that are copied at a time."""


class _StoreState(Enum):
    """What is known of the store on this machine."""

    NONE = "there is none"
    DAMAGED = "it can't be opened, so that nobody knows what it knew"
    NEW = "a first start made it, and it had no devices but some that are removed, as by a test of the set-up"
    IN_USE = "it has devices, had some, or counted uses of a key: what was decided since is known"


@dataclass(slots=True)
class Restored:
    """What was brought back."""

    at: int
    """When the backup was made, Unix seconds."""
    node: str
    """The node that it was made on."""
    audit_checkpoint: str
    """The last checkpoint of the audit trail at that moment; empty where there was none."""
    history_unknown: bool
    """Nobody knows what was decided since the backup: on a different machine, or with a lost or new store."""
    keys: Imported
    aside: Path | None
    """The folder with the copy of what this machine had; None where it had nothing."""
    devices: list[str] = field(default_factory=list)
    """Ids of the devices in the backup."""
    merged: Merged | None = None
    """What became of the devices of a store in use; None where the backup's store took its place."""
    kept_files: list[str] = field(default_factory=list)
    """Certificates of this machine that stay, and are not those of the backup."""
    policy_folder: Path | None = None
    """Where the policy of the backup was written to; None where this machine's is the same."""


class _Unpacked:
    """A backup, unpacked into a folder and known to be complete."""

    def __init__(self, source: BinaryIO, passphrase: bytes, folder: Path) -> None:
        """Raises StreamNotOpened, Refused, OSError."""
        self.folder = folder
        self.files: dict[str, bytes] = {}
        reader = OpeningReader(source, passphrase)
        try:
            with tarfile.open(fileobj=reader, mode="r|gz") as archive:
                for item in archive:
                    self._take(archive, item)
            while reader.read(_CHUNK_BYTES):
                pass
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise StreamNotOpened(_DAMAGED) from error
        if not reader.is_over or not {MANIFEST, KEYS} <= self.files.keys() or not self.store.exists():
            raise StreamNotOpened(_DAMAGED)
        try:
            manifest = json.loads(self.files[MANIFEST])
            if manifest["v"] != FORMAT:
                raise Refused("the backup was written by a newer gateway: upgrade this one")
            self.at, self.node = int(manifest["at"]), str(manifest["node"])
            self.audit_checkpoint = str(manifest["audit"])
        except (ValueError, TypeError, KeyError):
            raise StreamNotOpened(_DAMAGED) from None

    @property
    def store(self) -> Path:
        return self.folder / STORE

    def below(self, folder: str) -> dict[str, bytes]:
        """The files in a folder of the archive, by their names in it."""
        begin = f"{folder}/"
        return {name.removeprefix(begin): data for name, data in self.files.items() if name.startswith(begin)}

    def _take(self, archive: tarfile.TarFile, item: tarfile.TarInfo) -> None:
        content = archive.extractfile(item) if item.isreg() else None
        if content is None or not _is_safe_member_name(item.name) or len(self.files) > POLICY_FILES_MAX:
            raise StreamNotOpened(_DAMAGED)
        if item.name == STORE:
            with self.store.open("xb") as file:
                shutil.copyfileobj(content, file, _CHUNK_BYTES)
        elif item.size > FILE_MAX:
            raise StreamNotOpened(_DAMAGED)
        else:
            self.files[item.name] = content.read()


def _is_safe_member_name(name: str) -> bool:
    """Whether a member of the archive stays below the folder that it is unpacked in, whoever named it."""
    parts = name.split("/")
    return not name.startswith("/") and all(part and not part.startswith(".") for part in parts)


async def restore(
    settings: Settings, source: BinaryIO, passphrase: bytes, *, enable_devices: bool, actor: str
) -> Restored:
    """Bring back what `source` holds. The caller holds the lock on the data folder (`data_folder_lock`).

    Raises StreamNotOpened, Refused, KeyFileError, PolicyError, StoreError, OSError. Then nothing was changed,
    unless it is one of the last two, for the disk failed in the middle.
    """
    from gateway.policy.files.loader import load_policy
    from gateway.store import open_blocking_store

    folder = settings.gateway_data_dir
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=folder) as scratch:
        backup = _Unpacked(source, passphrase, Path(scratch))
        policy = Path(scratch) / POLICY
        _write_files(policy, backup.below(POLICY))
        load_policy(policy, reserved=settings.service_topic_prefix)
        backup_store = open_blocking_store(f"sqlite:///{backup.store}")
        store: Store | None = None
        try:
            devices = await backup_store.devices.read()
            state = await _store_state(settings, backup.files[KEYS], passphrase)
            aside = _copy_aside(settings, state)
            if state in {_StoreState.NEW, _StoreState.IN_USE}:
                store = open_blocking_store(settings.database_url)
            begun = begun_key_change(f"to be restored from a backup: {_origin(backup)}")
            async with announced(store, begun, actor=actor):
                done = _bring_back_files(settings, backup, passphrase, state, aside)
                done.devices = [device.device_id for device in devices]
                if store is not None and state is _StoreState.IN_USE:
                    async with store.transaction() as tx:
                        done.merged = await tx.restored.merge(devices)
                        await record(tx, restored_all(_summary(backup, done)), actor=actor)
                else:
                    async with backup_store.transaction() as tx:
                        await tx.restored.begin_anew(enabled=enable_devices)
                        await record(tx, restored_all(_summary(backup, done)), actor=actor)
        finally:
            await backup_store.close()
            if store is not None:
                await store.close()
        if done.history_unknown:
            _put_in_place(backup.store, settings.database_path)
        _give_to_owner(settings, folder)
    return done


def _bring_back_files(
    settings: Settings, backup: _Unpacked, passphrase: bytes, state: _StoreState, aside: Path | None
) -> Restored:
    """Bring back keys, certificates and policy. Raises KeyFileError, OSError."""
    if state is _StoreState.NEW:
        _remove_first_start_keys(settings)
    sealing, signing = settings.encryption_key_path, settings.signing_key_path
    for path in {sealing.parent, signing.parent}:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = import_keys(backup.files[KEYS], passphrase, sealing, signing, settings.encryption_key)
    done = Restored(
        backup.at,
        backup.node,
        history_unknown=state is not _StoreState.IN_USE,
        keys=keys,
        aside=aside,
        audit_checkpoint=backup.audit_checkpoint,
    )
    done.kept_files = _restore_certificates(settings, backup.below(CERTIFICATES))
    done.policy_folder = _restore_policy(settings, backup.below(POLICY))
    return done


def _origin(backup: _Unpacked) -> str:
    return f"of {utc_text(backup.at)}, made on {backup.node}"


def _summary(backup: _Unpacked, done: Restored) -> str:
    where = (
        "the changes since then are not known here"
        if done.history_unknown
        else "merged with the store in use"
    )
    trail = f"; the audit trail was at {done.audit_checkpoint}" if done.audit_checkpoint else ""
    return f"{_origin(backup)}; {len(done.devices)} devices; {where}{trail}"


async def _store_state(settings: Settings, keys: bytes, passphrase: bytes) -> _StoreState:
    """What is known of the store on this machine; `keys` are those of the backup, as it has them.

    Raises StoreError if a restore would lose still more; KeyFileError.
    """
    from gateway.store import StoreError, open_blocking_store

    path = settings.database_path
    if not path.exists():
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            raise StoreError(
                f"the database {path} is missing, but its log {log} is there: put the database back, or "
                "take the log away too"
            )
        return _StoreState.NONE
    try:
        store = open_blocking_store(settings.database_url)
    except StoreError:
        return _StoreState.DAMAGED
    try:
        if await store.devices.read() or await store.key_uses.read():
            return _StoreState.IN_USE
        if await store.changes.last() == 0:
            return _StoreState.NEW
        # Devices were here. If the keys are not those of the backup, they were a different gateway's.
        other = is_of_another_gateway(keys, passphrase, settings.encryption_key_path, settings.encryption_key)
        return _StoreState.NEW if other else _StoreState.IN_USE
    finally:
        await store.close()


def _keys_and_certificates(settings: Settings) -> dict[str, Path]:
    keys = {
        "sealing.key": settings.encryption_key_path,
        "signing.key": settings.signing_key_path,
        "audit.key": settings.audit_key_path,
    }
    return {name: path for name, path in (keys | certificate_files(settings)).items() if path.exists()}


def _copy_aside(settings: Settings, state: _StoreState) -> Path | None:
    """Copy all that a restore may change to a folder of its own, which is as secret as what it copies."""
    from gateway.store.snapshot import copy_database

    here = _keys_and_certificates(settings)
    if not here and state is _StoreState.NONE:
        return None
    name = datetime.now(UTC).strftime("before-restore-%Y%m%dT%H%M%S.%fZ")
    aside = settings.gateway_data_dir / name
    aside.mkdir(mode=0o700)
    for file_name, path in here.items():
        _write_files(aside, {file_name: path.read_bytes()})
    _write_files(aside / POLICY, {name: path.read_bytes() for name, path in policy_files(settings.acl_path)})
    if state is _StoreState.DAMAGED:
        for suffix in ("", "-wal"):
            path = settings.database_path.with_name(f"{settings.database_path.name}{suffix}")
            if path.exists():
                shutil.copyfile(path, aside / f"{STORE}{suffix}")
    elif state is not _StoreState.NONE:
        copy_database(settings.database_path, aside / STORE)
    return aside


def _remove_first_start_keys(settings: Settings) -> None:
    """Remove keys, and certificates of our own CA, that a first start made: nothing depends on them yet."""
    files = _keys_and_certificates(settings)
    ours = {"sealing.key", "signing.key"}
    # Without a CA key of ours the certificates are the administrator's, of a different CA.
    if "ca.key" in files or "ca-rsa.key" in files:
        ours |= certificate_files(settings).keys()
    for name, path in files.items():
        if name in ours:
            path.unlink()


def _restore_certificates(settings: Settings, files: Mapping[str, bytes]) -> list[str]:
    """Write those that this machine lacks; returns the paths of those that it has, and that differ."""
    paths = certificate_files(settings)
    kept = []
    for name, data in files.items():
        path = paths.get(name)
        if path is None:
            continue
        if path.exists():
            if path.read_bytes() != data:
                kept.append(str(path))
            continue
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        put_file(path, data, mode=0o600 if name.endswith(".key") else 0o644)
    return kept


def _restore_policy(settings: Settings, files: Mapping[str, bytes]) -> Path | None:
    """Write the policy of the backup; returns its folder, or None where this machine's is the same."""
    folder = settings.acl_path
    here = {name: path.read_bytes() for name, path in policy_files(folder)} if folder.is_dir() else {}
    if here == dict(files):
        return None
    try:
        if any(_is_of_another_user(folder / name) for name in files):
            raise PermissionError(f"{folder} has files of another user")  # before some of them are replaced
        _write_files(folder, files, mode=0o644)
    except OSError:
        # Mounted read-only, as it ought to be, or of a different user: its owner copies the policy there.
        folder = settings.gateway_data_dir / "restored-acl"
        shutil.rmtree(folder, ignore_errors=True)
        _write_files(folder, files, mode=0o644)
        return folder
    for name in here.keys() - files.keys():
        (folder / name).unlink()
    return folder


def _is_of_another_user(path: Path) -> bool:
    """Whether only root could replace this file and leave it to its owner."""
    return path.exists() and os.geteuid() not in {0, path.stat().st_uid}


def _write_files(folder: Path, files: Mapping[str, bytes], mode: int = 0o600) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        put_file(path, data, mode=mode)


def _put_in_place(store: Path, database: Path) -> None:
    """Move the store of the backup to the place of the database; nobody has either of them open."""
    for suffix in ("-wal", "-shm"):
        database.with_name(f"{database.name}{suffix}").unlink(missing_ok=True)
    descriptor = os.open(store, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.move(store, database)


def _give_to_owner(settings: Settings, folder: Path) -> None:
    """An administrator's command must not leave files that the gateway's own user can't read."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in (*folder.rglob("*"), *certificate_files(settings).values(), settings.database_path):
        with contextlib.suppress(FileNotFoundError):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
