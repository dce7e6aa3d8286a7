"""Watches the files of `acl/`: whether they have changed, and what they say then.

Puts nothing in force itself; whoever asks keeps the old policy when the answer is a `PolicyError`. Starts no
task.

It looks at the files, whatever it hears of changes: so nothing is missed when the folder itself is replaced,
when it is reached through a symbolic link that is swapped (Kubernetes), or on a network file system. How
often, `gateway.system.file_notices` says.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from gateway.policy.engine.policy import Policy
from gateway.policy.files.loader import PolicyError, load_policy
from gateway.system.file_change_marks import Mark, mark
from gateway.system.file_errors import why

_SETTLE_SECONDS = 0.05
"""Editors write in several steps, and half of a policy may well be valid TOML: after a change wait until the
files are the same for this long, and for as long as reading them takes."""


class PolicyFiles:
    """The files in one folder. Ask it again and again, one question at a time."""

    def __init__(self, path: Path, *, reserved: str, current: Policy) -> None:
        """`current` was read before: the first answer is what has changed since."""
        self._path = path
        self._reserved = reserved
        self._seen: dict[str, Mark] | None = None
        """The files as they were when they were last read whole; None before that."""
        self._digest = current.digest
        """Of the policy that was last answered; empty after a problem, or `forget`."""

    def paths(self) -> list[Path]:
        """The folders and the files that there are now. To be called in a thread: it looks at the disk."""
        return [self._path, self._path / "roles", *map(Path, _look(self._path))]

    async def changed(self) -> Policy | PolicyError | None:
        """The policy, or the reason why there is none, if the files have changed; None while they have not.

        None also while they are being written: ask again. An edit that changes no decision is a change too:
        a rule may stand in a different line, which refusals name. A folder that is gone is a `PolicyError`.
        """
        # In threads, here and below: a disk that hangs must not hold up messages.
        looked = await asyncio.to_thread(_look, self._path)
        if looked == self._seen:
            return None
        await asyncio.sleep(_SETTLE_SECONDS)
        if await asyncio.to_thread(_look, self._path) != looked:
            return None
        outcome = await asyncio.to_thread(_read, self._path, self._reserved)
        if await asyncio.to_thread(_look, self._path) != looked:
            return None
        return self._answer(outcome, looked, same=self._seen is None)

    async def read_now(self) -> Policy | PolicyError | None:
        """The same, read whether the files look the same or not; None when they say the same."""
        looked = await asyncio.to_thread(_look, self._path)
        outcome = await asyncio.to_thread(_read, self._path, self._reserved)
        return self._answer(outcome, looked, same=self._seen in (None, looked))

    def forget(self) -> None:
        """Take what was answered last for unknown: the files are a change again, whatever they say."""
        self._seen, self._digest = None, ""

    def _answer(
        self, outcome: Policy | PolicyError, looked: dict[str, Mark], *, same: bool
    ) -> Policy | PolicyError | None:
        """`same`: nothing is known to have changed but what the policy itself shows."""
        digest = outcome.digest if isinstance(outcome, Policy) else ""
        before, self._seen, self._digest = self._digest, looked, digest
        return None if same and digest and digest == before else outcome


def _read(path: Path, reserved: str) -> Policy | PolicyError:
    """The policy as the files are now, or why there is none."""
    try:
        return load_policy(path, reserved=reserved)
    except PolicyError as error:
        return error
    except OSError as error:
        # A disk that fails once is a problem to report, and not the end of watching.
        return PolicyError([f"{path}: it can't be read ({why(path, error)}); see to the disk"])


def _look(path: Path) -> dict[str, Mark]:
    """What distinguishes one state of the files from the next, links followed."""
    seen: dict[str, Mark] = {}
    for folder in (path, path / "roles"):
        try:
            with os.scandir(folder) as entries:
                seen |= {entry.path: mark(entry) for entry in entries if entry.name.endswith(".toml")}
        except OSError as error:
            seen[str(folder)] = (error.errno or 0,)
    return seen
