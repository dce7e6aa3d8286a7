"""What commands work on: the settings, the policy and the store, opened as the gateway opens them.

The database is imported here and late: it takes most of a second, which `--help` need not wait for.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.output import Failure
from gateway.system.file_errors import is_unreachable, who_may

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.policy.engine.identity import Device
    from gateway.policy.engine.policy import Policy
    from gateway.store import Store

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings file; gateway.toml if it is there.", readable=False
    ),
]
DeviceId = Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The device's id.")]


def settings_of(config: Path | None) -> Settings:
    """The settings that a gateway started here would have. Raises ConfigError."""
    from gateway.config import load_settings

    return load_settings(config)


def policy_of(settings: Settings) -> Policy:
    """The policy as its files say now. Raises PolicyError."""
    from gateway.policy.files.loader import load_policy

    return load_policy(settings.acl_path, reserved=settings.service_topic_prefix)


def actor() -> str:
    """Who calls, for the audit. It is not read from the environment, which anybody may set."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())  # mostly in a container
    return f"gateway-admin:{name}"


def has_store(settings: Settings) -> bool:
    """Whether there is a store where a gateway started here would have it."""
    return not settings.database_url.startswith("sqlite:") or settings.database_path.exists()


@asynccontextmanager
async def store_of(settings: Settings) -> AsyncIterator[Store]:
    """The store, opened; a running gateway may have it open too, and is poked when it was changed.

    Raises StoreError.

    It is never made here: a store in whatever folder the command happens to be called from would be given
    devices that no gateway ever sees.
    """
    from gateway.control.client import poke
    from gateway.store import open_blocking_store

    if is_unreachable(settings.database_path):
        why = who_may(settings.database_path)
        raise Failure(f"the store {settings.database_path.absolute()} can't be used: {why}")
    if not has_store(settings):
        raise Failure(
            f"there is no store at {settings.database_path.absolute()}: call this where the gateway runs "
            "(--config FILE, GATEWAY_DATA_DIR), put it back if it was moved away, or make a new one with "
            "`gateway-admin init`"
        )
    store = open_blocking_store(settings.database_url)
    before = _mark(store)
    try:
        yield store
    finally:
        changed = _mark(store) != before
        await store.close()
        if changed:
            poke(settings.gateway_data_dir)


def _mark(store: Store) -> tuple[int, int] | None:
    from gateway.store import StoreError

    try:
        return store.wal_stamp()
    except StoreError:
        return None


async def device_of(settings: Settings, device_id: str) -> Device:
    """The device as stored. Raises UnknownDevice."""
    async with store_of(settings) as store:
        return await store.devices.get(device_id)


async def all_devices(settings: Settings) -> list[Device]:
    """All devices as stored. Raises StoreError."""
    async with store_of(settings) as store:
        return await store.devices.read()


async def devices_if_any(settings: Settings) -> Sequence[Device] | None:
    """All devices; None when there is no store, or none that can be read."""
    from gateway.store import StoreError

    try:
        return await all_devices(settings) if has_store(settings) else None
    except (Failure, StoreError):
        return None


@asynccontextmanager
async def store_if_any(settings: Settings) -> AsyncIterator[Store | None]:
    """The store, opened; None if there is none, for commands that can do without. Raises StoreError."""
    if not settings.database_path.exists():
        yield None
        return
    async with store_of(settings) as store:
        yield store
