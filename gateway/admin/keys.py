"""The keys that seal and sign: rotating, destroying, exporting and importing them.

Keys are files, which no transaction covers: so each change is announced (`gateway.admin.audit_events`). Where
the event of what is about to be done can't be kept, nothing is changed, and no key leaves the gateway
(EventNotKept, or whatever StoreError `opening` raises).

Each function takes `opening`, which opens the store when all else is known to be right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, TypeVar

from gateway.admin.audit_events import announced
from gateway.admin.errors import Refused
from gateway.connection.audit_vocabulary import begun_key_change, changed_key
from gateway.keys import key_files
from gateway.keys.key_backup import Imported, export_keys, import_keys
from gateway.keys.key_kinds import KeyKind
from gateway.keys.key_ring import Key, KeyState
from gateway.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.config import Settings

Opening = AbstractAsyncContextManager[Store]


class _Counted(Protocol):
    """What `seal_again` returns: among other things, how many it sealed again."""

    @property
    def resealed(self) -> int: ...


_Resealed = TypeVar("_Resealed", bound=_Counted)


def path_of(settings: Settings, kind: KeyKind) -> Path:
    """The file of these keys."""
    return settings.encryption_key_path if kind is KeyKind.SEALING else settings.signing_key_path


def keys_of(settings: Settings, kind: KeyKind) -> list[Key]:
    """The keys of the file. Raises Refused where there is none, and KeyFileError."""
    if kind is KeyKind.SIGNING and settings.jwt_secret is not None:
        raise Refused("tokens are signed with JWT_SECRET: to rotate it, change it; all tokens end with it")
    path = path_of(settings, kind)
    if not path.exists():
        # They are not made here: keys in whatever folder this happens to be called from would serve nobody.
        raise Refused(
            f"there are no {kind} keys at {path.absolute()}: `gateway-admin init` makes what is missing, "
            "`keys import` brings back what is lost; or call this where the gateway runs (--config, "
            "GATEWAY_DATA_DIR)"
        )
    read = key_files.read_sealing_file if kind is KeyKind.SEALING else key_files.read_signing_file
    return read(path, settings.encryption_key)


async def rotate(
    opening: Opening, settings: Settings, kind: KeyKind, *, actor: str
) -> tuple[Key, str | None]:
    """Make a new key the active one. Returns the key, and the id of the one it retires.

    That is None if the file of the signing keys was lost, and is made again. Raises Refused, KeyFileError.
    """
    lost = (
        kind is KeyKind.SIGNING and settings.database_path.exists() and not settings.signing_key_path.exists()
    )
    before = None if lost else _active(keys_of(settings, kind))
    begun = begun_key_change(f"a new {kind} key to be made, {before or 'none'} to be retired")
    async with opening as store, announced(store, begun, actor=actor) as done:
        if kind is KeyKind.SEALING:
            key = key_files.rotate_sealing(settings.encryption_key_path, settings.encryption_key)
        else:
            key = key_files.rotate_signing(
                settings.signing_key_path, settings.encryption_key, settings.jwt_ttl
            )
        done.append(changed_key(f"{kind} key {key.key_id} made, {before or 'none'} retired"))
    return key, before


def to_destroy(settings: Settings, key_id: str) -> tuple[KeyKind, KeyState]:
    """Kind and state of a key to be destroyed.

    Raises Refused if there is none, or it is in use; KeyFileError.
    """
    kind = KeyKind.SIGNING if key_id.startswith("s") else KeyKind.SEALING
    keys = keys_of(settings, kind)
    state = next((key.state for key in keys if key.key_id == key_id), None)
    if state is None:
        there = ", ".join(key.key_id for key in keys)
        raise Refused(f"there is no key {key_id!r}; the {kind} keys are: {there}")
    if state is KeyState.ACTIVE:
        raise Refused(f"{key_id} is in use: first `gateway-admin keys rotate {kind}`")
    return kind, state


async def destroy(opening: Opening, settings: Settings, key_id: str, *, actor: str) -> None:
    """Destroy a retired key, for ever; one that is destroyed already stays so, without an event.

    Raises Refused, KeyFileError.
    """
    kind, state = to_destroy(settings, key_id)
    if state is KeyState.DESTROYED:
        return
    purpose = key_files.SIGNING if kind is KeyKind.SIGNING else key_files.SEALING
    begun = begun_key_change(f"{kind} key {key_id} to be destroyed")
    async with opening as store, announced(store, begun, actor=actor) as done:
        key_files.destroy(path_of(settings, kind), purpose, settings.encryption_key, key_id)
        done.append(changed_key(f"{kind} key {key_id} destroyed"))


async def export(
    opening: Opening, settings: Settings, passphrase: bytes, put: Callable[[bytes], None], *, actor: str
) -> None:
    """Call `put` with all keys, encrypted under the passphrase. Raises what it raises, and KeyFileError."""
    begun = begun_key_change("all keys to be exported")
    async with opening as store, announced(store, begun, actor=actor) as done:
        sealing, signing = settings.encryption_key_path, settings.signing_key_path
        put(export_keys(sealing, signing, settings.encryption_key, passphrase))
        done.append(changed_key("all keys exported"))


async def import_(
    opening: AbstractAsyncContextManager[Store | None],
    settings: Settings,
    backup: bytes,
    passphrase: bytes,
    *,
    actor: str,
) -> Imported:
    """Add the keys of a backup that are missing here. Raises KeyFileError.

    There may be no store yet: then a first start records that it found keys (`app.startup_preparation`).
    """
    async with (
        opening as store,
        announced(store, begun_key_change("keys of a backup to be imported"), actor=actor) as done,
    ):
        sealing, signing = settings.encryption_key_path, settings.signing_key_path
        found = import_keys(backup, passphrase, sealing, signing, settings.encryption_key)
        done.append(changed_key(f"keys imported: {', '.join(found.added) or 'none was missing'}"))
    return found


async def reseal(store: Store, seal_again: Callable[[], Awaitable[_Resealed]], *, actor: str) -> _Resealed:
    """Have `seal_again` re-seal what the bus retains. Raises what it raises."""
    begun = begun_key_change("retained messages to be sealed again")
    async with announced(store, begun, actor=actor) as done:
        outcome = await seal_again()
        done.append(changed_key(f"{outcome.resealed} retained messages sealed again"))
    return outcome


def _active(keys: list[Key]) -> str:
    return next(key.key_id for key in keys if key.state is KeyState.ACTIVE)
