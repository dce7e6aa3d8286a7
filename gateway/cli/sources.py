"""What commands work on: the settings, the policy and the store, opened as the gateway opens them.

The database is imported here and late: it takes most of a second, which `--help` need not wait for.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway.cli.output import Failure, shown_time
from gateway.policy.engine.identity import is_observed
from gateway.system.atomic_files import is_closed, who_may

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.policy.engine.identity import Device
    from gateway.policy.engine.policy import Policy
    from gateway.store import Store

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file; gateway.toml if it is there."),
]


def settings_of(config: Path | None) -> Settings:
    """The settings that a gateway started here would have. Raises ConfigError."""
    from gateway.config import load_settings

    return load_settings(config)


def policy_of(settings: Settings) -> Policy:
    """The policy as its files say now. Raises PolicyError."""
    from gateway.policy.files.loader import load_policy

    return load_policy(settings.acl_path, reserved=settings.service_topic_prefix)


def no_such_role(settings: Settings, policy: Policy, wanted: Iterable[str]) -> Failure:
    """What to say of roles that the policy has not."""
    return Failure(
        f"there is no role {', '.join(map(repr, wanted))} in {settings.acl_path / 'roles'}; "
        f"the roles are: {', '.join(sorted(policy.roles))}"
    )


def observed(device: Device) -> str:
    """Until when a device is observed, in words; empty when it is not."""
    now = datetime.now(UTC).timestamp()
    seen = is_observed(device.observe_until, now)
    return f"observed until {shown_time(device.observe_until)}" if seen else ""


@asynccontextmanager
async def store_of(settings: Settings) -> AsyncIterator[Store]:
    """The store, opened; a running gateway may have it open too. Raises StoreError.

    It is never made here: a store that appears in whatever folder the command was called from would
    take devices that no gateway ever sees.
    """
    from gateway.store import open_store

    if is_closed(settings.database_path):
        why = who_may(settings.database_path)
        raise Failure(f"the store {settings.database_path.absolute()} can't be used: {why}")
    if settings.database_url.startswith("sqlite:") and not settings.database_path.exists():
        raise Failure(
            f"there is no store at {settings.database_path.absolute()}: run `gateway-admin init` first, "
            "or call this where the gateway runs (--config FILE, GATEWAY_DATA_DIR)"
        )
    store = await open_store(settings.database_url)
    try:
        yield store
    finally:
        await store.close()


async def device_of(settings: Settings, device_id: str) -> Device:
    """The device as stored. Raises UnknownDevice."""
    async with store_of(settings) as store:
        return await known_device(store, device_id)


async def known_device(store: Store, device_id: str) -> Device:
    """The device as stored. Raises UnknownDevice."""
    from gateway.store import UnknownDevice

    device = await store.device(device_id)
    if device is None:
        raise UnknownDevice(device_id)
    return device


async def note(
    store: Store,
    kind: Literal["device", "token", "key"],
    reason: str,
    *,
    device: str | None = None,
    refused: bool = False,
) -> None:
    """Have the running gateway, or the next one, tell what was done here and by whom. No secret in `reason`.

    `kind` is one of `connection.audit_reports.Kind`. Raises StoreError: what nobody learns of is not done.
    """
    await store.note_event(
        {
            "time": int(datetime.now(UTC).timestamp() * 1000),
            "kind": kind,
            "outcome": "refused" if refused else "done",
            "reason": reason,
            "device": device,
            "actor": f"gateway-admin:{_user()}",
        }
    )


def _user() -> str:
    # Not by the environment, which anybody may set.
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())  # in a container, mostly
