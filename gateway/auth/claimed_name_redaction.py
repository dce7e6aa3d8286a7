"""What the log may say of a name that somebody only claims to have.

People type a secret where the user name belongs, and many a secret looks like a device id. So a name is shown
as it is only if a device of that id exists; any other stands in the log, the audit and the store as a keyed
digest. The key is this process's alone and never leaves it: within a run the same name has the same digest,
so that attempts can be counted and compared, and nobody can try names or secrets against it afterwards.
"""

from __future__ import annotations

import hashlib
import os
from typing import Protocol

from gateway.policy.engine.identity import Device

_PREFIX = "unknown:"
"""No device id begins like that: a colon can't stand in one."""
_DIGEST_BYTES = 6


class Known(Protocol):
    """Where devices are looked up without waiting."""

    def get(self, device_id: str) -> Device | None:
        """The device of this id."""


class ClaimedNames:
    """One for a gate."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._key = os.urandom(32)

    def shown(self, name: str) -> str:
        """`name`, or what stands for it."""
        # Digested for a known name too, for the time it takes.
        digest = hashlib.blake2b(name.encode(), key=self._key, digest_size=_DIGEST_BYTES).hexdigest()
        return f"{_PREFIX}{digest}" if self._known.get(name) is None else name
