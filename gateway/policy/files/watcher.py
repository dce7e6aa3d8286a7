"""Watches the files of `acl/`: whether they have changed, and what policy they give then.

It puts nothing in force itself: the caller keeps the old policy when the answer is a `PolicyError`. It starts
no task.

Changes are found by looking at the files, not by notices from the operating system. So nothing is missed if
the folder itself is replaced, if it is reached through a symbolic link that is swapped (Kubernetes), or on a
network file system. `gateway.system.file_notices` says when to look.
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
"""Editors write in several steps, and half of a policy may well be valid TOML. So after a change the files
have to stay the same for this long, and while they are read."""


class PolicyFiles:
    """The files in one folder. Its methods are called again and again, but not concurrently."""

    def __init__(self, path: Path, *, reserved: str, current: Policy) -> None:
        """`current` is the policy that was read last: `changed` compares with that at first."""
        self._path = path
        self._reserved = reserved
        self._seen: dict[str, Mark] | None = None
        """The files as they were when they were last read whole; None before that."""
        self._digest = current.digest
        """`Policy.digest` of the last policy that was returned; empty after a problem, or after `forget`."""

    def paths(self) -> list[Path]:
        """The folders, and the files in them now. It reads the disk, so call it in a thread."""
        return [self._path, self._path / "roles", *map(Path, _look(self._path))]

    async def changed(self) -> Policy | PolicyError | None:
        """If the files have changed, the new policy, or the reason why there is none; else None.

        None also while they are being written: ask again. An edit that changes no decision counts as a
        change, too: a rule may stand on a different line, which refusals name. A missing folder is a
        `PolicyError`.
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
        """The same, but read the files even if they look unchanged. None if their policy is the same."""
        looked = await asyncio.to_thread(_look, self._path)
        outcome = await asyncio.to_thread(_read, self._path, self._reserved)
        return self._answer(outcome, looked, same=self._seen in (None, looked))

    def forget(self) -> None:
        """Have the next call return the policy of the files, even if they have not changed."""
        self._seen, self._digest = None, ""

    def _answer(
        self, outcome: Policy | PolicyError, looked: dict[str, Mark], *, same: bool
    ) -> Policy | PolicyError | None:
        """`same`: the files look unchanged, so that only a different digest is a change."""
        digest = outcome.digest if isinstance(outcome, Policy) else ""
        before, self._seen, self._digest = self._digest, looked, digest
        return None if same and digest and digest == before else outcome


def _read(path: Path, reserved: str) -> Policy | PolicyError:
    """The policy that the files give now, or why there is none."""
    try:
        return load_policy(path, reserved=reserved)
    except PolicyError as error:
        return error
    except OSError as error:
        # A disk error is reported, and must not end the watching.
        return PolicyError([f"{path}: it can't be read ({why(path, error)}); see to the disk"])


def _look(path: Path) -> dict[str, Mark]:
    """The mark of each file (see `gateway.system.file_change_marks`) by path; links are followed."""
    seen: dict[str, Mark] = {}
    for folder in (path, path / "roles"):
        try:
            with os.scandir(folder) as entries:
                seen |= {entry.path: mark(entry) for entry in entries if entry.name.endswith(".toml")}
        except OSError as error:
            seen[str(folder)] = (error.errno or 0,)
    return seen
