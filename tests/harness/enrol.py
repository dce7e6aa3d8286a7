"""Puts devices into a gateway's store without the cost of a `gateway-admin` process for each."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from gateway.auth.passwords import hash_secret
from gateway.store import Store, open_store
from harness.gateway import Gateway
from harness.label_notation import labels_of

_Answer = TypeVar("_Answer")


def in_store(gateway: Gateway, work: Callable[[Store], Awaitable[_Answer]]) -> _Answer:
    """Do something with the gateway's store, as any other process may."""

    async def run() -> _Answer:
        store = await open_store(f"sqlite:///{gateway.env['GATEWAY_DATA_DIR']}/gateway.db")
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def enrol(gateway: Gateway, **devices: str | tuple[str, ...]) -> None:
    """Add devices by id and roles; an underscore in the name stands for a hyphen in the id."""
    roles_of = {
        name.replace("_", "-"): (roles,) if isinstance(roles, str) else roles
        for name, roles in devices.items()
    }
    enrol_with_labels(gateway, {device: (roles, {}) for device, roles in roles_of.items()})


def enrol_with_labels(
    gateway: Gateway, devices: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]]
) -> None:
    """Add devices with roles and labels; their secrets are in `gateway.secrets`."""
    made = {device: _hashed(gateway.enrolled + number) for number, device in enumerate(devices)}
    gateway.enrolled += len(made)

    async def add(store: Store) -> None:
        for device, (roles, labels) in devices.items():
            _, credential = made[device]
            await store.devices.add(device, credential=credential, roles=roles, labels=labels_of(labels))

    in_store(gateway, add)
    gateway.secrets |= {device: secret for device, (secret, _) in made.items()}
    gateway.wait_for_devices()


@cache
def _hashed(number: int) -> tuple[str, str]:
    """A secret and its hash: all gateways of this process begin with the same, for a hash takes 20 ms."""
    secret = secrets.token_urlsafe(32)
    return secret, hash_secret(secret.encode())


def disable(gateway: Gateway, device: str) -> None:
    """Disable a device; the gateway knows it when this returns."""
    in_store(gateway, lambda store: store.devices.set_enabled(device, enabled=False))
    enrol(gateway, **{f"after_{device}": "full"})  # changes are followed in their order


def change_row(gateway: Gateway, device: str, column: str, value: str) -> float:
    """Another program's change to a device: its row and a line in the log of changes.

    The answer is the moment when it was committed.
    """
    path = Path(gateway.env["GATEWAY_DATA_DIR"]) / "gateway.db"
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"UPDATE devices SET {column} = ? WHERE device_id = ?", (value, device))
        connection.execute("INSERT INTO changes (device_id, at) VALUES (?, strftime('%s'))", (device,))
        connection.execute("COMMIT")
        return time.monotonic()
    finally:
        connection.close()
