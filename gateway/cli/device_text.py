"""How a device is shown: to people and to scripts, alone and in a list. Never its secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.admin.devices import label_text, observed, state
from gateway.auth.password_hash_identification import is_imported
from gateway.cli.device_connections import Here, column
from gateway.cli.output import json_time
from gateway.cli.tables import table
from gateway.policy.engine.identity import METHODS, Device, written_labels
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from rich.table import Table


def as_json_object(device: Device, here: Here | None = None) -> dict[str, object]:
    """A device for scripts; with its connections, null when they are not known, where `here` is given."""
    connections = {} if here is None else {"connections": here.of(device.device_id)}
    return {
        "device_id": device.device_id,
        "enabled": device.enabled,
        "roles": list(device.roles),
        "labels": written_labels(device.labels),
        "methods": list(device.methods),
        "imported_secret": is_imported(device.credential),
        "created_at": json_time(device.created_at),
        "updated_at": json_time(device.updated_at),
        "observed_until": json_time(device.observe_until) if observed(device) else None,
        "old_secret_until": json_time(device.overlap_until) if device.next_credential else None,
        **connections,
    }


def lines(device: Device) -> list[str]:
    """A device for people, a line for each thing."""
    imported = "secret   Mosquitto's hash, as imported; its next login replaces it by Argon2id"
    return [
        f"device   {device.device_id}",
        f"state    {state(device)}",
        f"roles    {', '.join(device.roles)}",
        f"labels   {label_text(device.labels)}",
        *([f"methods  {', '.join(device.methods)}"] if device.methods != METHODS else []),
        *([imported] if is_imported(device.credential) else []),
        *([_two_secrets(device)] if device.next_credential else []),
        f"created  {utc_text(device.created_at)}",
        f"changed  {utc_text(device.updated_at)}",
    ]


def rows(devices: Sequence[Device], here: Here) -> list[Table | str]:
    """A list of devices, and which of them are connected."""
    return table(
        ("device", "state", "roles", "labels", "connected"),
        [
            (
                one.device_id,
                state(one),
                ", ".join(one.roles),
                label_text(one.labels),
                column(here, one.device_id),
            )
            for one in devices
        ],
        state=1,
        colour=lambda state: {"enabled": "green", "disabled": "red"}.get(state, "yellow"),
        empty="No devices.",
    )


def _two_secrets(device: Device) -> str:
    until = utc_text(device.overlap_until)
    return f"secret   two: the old one is good until the new one was used, or {until}"
