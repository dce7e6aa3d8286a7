"""Where a login finds its device: without waiting, and without a database."""

from __future__ import annotations

from typing import Protocol

from gateway.policy.engine.identity import Device


class Lookup(Protocol):
    """Where devices are looked up without waiting: `gateway.store.device_directory.Directory`."""

    available: bool

    def get(self, device_id: str) -> Device | None:
        """The device of this id."""
