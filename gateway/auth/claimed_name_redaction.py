"""How a device id that is only claimed appears in logs and audit events.

People sometimes type their secret instead of the user name, and many secrets look like a device id. So an id
is shown only if a device with this id exists; any other is replaced by a keyed digest in the log, the audit
and the store. The key never leaves this process. While it runs, the same name has the same digest, so
attempts can be counted and compared; but nobody can test guesses against the digests afterwards.
"""

from __future__ import annotations

import hashlib
import os
from typing import Protocol

from gateway.policy.engine.identity import Device

_PREFIX = "unknown:"
"""Begins such a digest. No device id looks like that, for it can't contain a colon."""
_DIGEST_BYTES = 6


class ExistingDevices(Protocol):
    """Where devices are looked up without waiting, as in `device_lookup_protocol`."""

    def get(self, device_id: str) -> Device | None:
        """The device of this id."""


class ClaimedNames:
    """Redacts claimed names. One per `LoginGate`."""

    def __init__(self, devices: ExistingDevices) -> None:
        self._devices = devices
        self._key = os.urandom(32)

    def shown(self, name: str) -> str:
        """`name`, or the digest that replaces it."""
        # The digest is made in any case, so that the time shows nothing.
        digest = hashlib.blake2b(name.encode(), key=self._key, digest_size=_DIGEST_BYTES).hexdigest()
        return f"{_PREFIX}{digest}" if self._devices.get(name) is None else name
