"""The keys that seal and sign: rotating, destroying, exporting and importing them.

Keys are files, which no transaction covers. So a change is made first and recorded afterwards, never the
other way round: an event must not claim what may not have happened. The store is opened before a file is
touched, so that only one short transaction lies between the change and its event. A process that is killed
just there leaves a change without an event. If the store fails the change stays, for keys have to be exported
on the very day when everything fails; the caller is then told why it is not recorded. If it is known
beforehand that the running gateway can't write its audit trail, no key is changed (EventNotKept); but keys
are still exported.

Each function takes `opening`, which opens the store, or gives None if there is none. Each returns its
outcome, and why there is no event of it: "" if there is one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from gateway.admin.audit_events import demand_kept, record
from gateway.admin.errors import Refused
from gateway.connection.audit_vocabulary import changed_key
from gateway.keys import key_files
from gateway.keys.key_backup import Imported, export_keys, import_keys
from gateway.keys.key_kinds import KeyKind
from gateway.keys.key_ring import Key, KeyState
from gateway.store import EventNotKept, Repositories, Store, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.config import Settings

Opening = AbstractAsyncContextManager[Store | None]
_Outcome = TypeVar("_Outcome")


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
) -> tuple[tuple[Key, str | None], str]:
    """Make a new key the active one. The outcome is the key, and the id of the one it retires.

    That is None if the file of the signing keys was lost, and is made again. Raises Refused, KeyFileError.
    """
    lost = (
        kind is KeyKind.SIGNING and settings.database_path.exists() and not settings.signing_key_path.exists()
    )
    before = None if lost else _active(keys_of(settings, kind))

    def change() -> tuple[tuple[Key, str | None], str]:
        if kind is KeyKind.SEALING:
            key = key_files.rotate_sealing(settings.encryption_key_path, settings.encryption_key)
        else:
            key = key_files.rotate_signing(
                settings.signing_key_path, settings.encryption_key, settings.jwt_ttl
            )
        return (key, before), f"{kind} key {key.key_id} made, {before or 'none'} retired"

    return await _done_then_recorded(opening, change, actor, demand=demand_kept)


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


async def destroy(opening: Opening, settings: Settings, key_id: str, *, actor: str) -> tuple[None, str]:
    """Destroy a retired key, for ever; one that is destroyed already stays so, without an event.

    Raises Refused, KeyFileError.
    """
    kind, state = to_destroy(settings, key_id)
    if state is KeyState.DESTROYED:
        return None, ""

    purpose = key_files.SIGNING if kind is KeyKind.SIGNING else key_files.SEALING

    def change() -> tuple[None, str]:
        key_files.destroy(path_of(settings, kind), purpose, settings.encryption_key, key_id)
        return None, f"{kind} key {key_id} destroyed"

    return await _done_then_recorded(opening, change, actor, demand=demand_kept)


async def export(
    opening: Opening, settings: Settings, passphrase: bytes, put: Callable[[bytes], None], *, actor: str
) -> tuple[None, str]:
    """Call `put` with all keys, encrypted under the passphrase. Raises what it raises, and KeyFileError."""

    def change() -> tuple[None, str]:
        sealing, signing = settings.encryption_key_path, settings.signing_key_path
        put(export_keys(sealing, signing, settings.encryption_key, passphrase))
        return None, "all keys exported"

    return await _done_then_recorded(opening, change, actor)


async def import_(
    opening: Opening, settings: Settings, backup: bytes, passphrase: bytes, *, actor: str
) -> tuple[Imported, str]:
    """Add the keys of a backup that are missing here. Raises KeyFileError."""

    def change() -> tuple[Imported, str]:
        sealing, signing = settings.encryption_key_path, settings.signing_key_path
        found = import_keys(backup, passphrase, sealing, signing, settings.encryption_key)
        return found, f"keys imported: {', '.join(found.added)}" if found.added else ""

    return await _done_then_recorded(opening, change, actor, demand=demand_kept)


async def record_resealed(opening: Opening, count: int, *, actor: str) -> tuple[None, str]:
    """Record that `count` retained messages were re-sealed, which was done on the bus."""
    return await _done_then_recorded(
        opening, lambda: (None, f"{count} retained messages sealed again"), actor
    )


async def record_first_made(store: Store, kind: KeyKind, *, actor: str) -> None:
    """Record that a gateway's first key was made, as by `gateway-admin init`. Raises StoreError."""
    async with store.transaction() as tx:
        await record(tx, changed_key(f"the first {kind} key made"), actor=actor)


async def _no_demand(_: Repositories) -> None:
    """Demands nothing: the change is made in any case."""


async def _done_then_recorded(
    opening: Opening,
    change: Callable[[], tuple[_Outcome, str]],
    actor: str,
    demand: Callable[[Repositories], Awaitable[None]] = _no_demand,
) -> tuple[_Outcome, str]:
    """Make the change, which returns its outcome and the reason for its event, and write that event.

    Without a reason there is nothing to record. `demand` raises EventNotKept if the change must not be made.
    """
    unrecorded = ""
    async with AsyncExitStack() as stack:
        store: Store | None = None
        try:
            store = await stack.enter_async_context(opening)
            if store is not None:
                await demand(store)
        except EventNotKept:
            raise
        except StoreError as error:
            unrecorded = str(error)
        outcome, reason = change()
        if not reason:
            return outcome, ""
        if store is not None:
            try:
                async with store.transaction() as tx:
                    await record(tx, changed_key(reason), actor=actor)
            except StoreError as error:
                unrecorded = str(error)
        return outcome, unrecorded


def _active(keys: list[Key]) -> str:
    return next(key.key_id for key in keys if key.state is KeyState.ACTIVE)
