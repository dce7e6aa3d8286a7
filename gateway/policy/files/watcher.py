"""Following the files of `acl/`: what to put in force, and when.

Yields outcomes and puts nothing in force itself; the one who iterates keeps the old policy when the
outcome is a `PolicyError`. Starts no task.

It looks at the files instead of being told of changes: four times a second that costs less than a
watcher's threads, and nothing is missed when the folder itself is replaced, when it is reached through
a symbolic link that is swapped (Kubernetes), or on a network file system.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from gateway.policy.engine.policy import Policy
from gateway.policy.files.loader import PolicyError, load_policy
from gateway.system.file_marks import Mark, marks

_LOOK_SECONDS = 0.25
_SETTLE_SECONDS = 0.05
"""Editors write in several steps, and half of a policy may well be valid TOML: after a change wait until the
files are the same for this long, and for as long as reading them takes."""


async def follow(path: Path, *, reserved: str, current: Policy) -> AsyncGenerator[Policy | PolicyError, None]:
    """Each policy, or the reason why there is none, after the files in `path` have changed.

    Begins with what has changed since `current` was read. An edit that changes no decision is yielded
    too: a rule may stand in another line, which refusals name. Ends only by being closed or cancelled.
    A folder that is gone is a `PolicyError` like others.
    """
    seen: dict[str, Mark] | None = None
    while True:
        # In a thread: a disk that hangs must not hold up messages.
        looked = await asyncio.to_thread(_look, path)
        if looked == seen:
            await asyncio.sleep(_LOOK_SECONDS)
            continue
        await asyncio.sleep(_SETTLE_SECONDS)
        if await asyncio.to_thread(_look, path) != looked:
            continue
        outcome = await asyncio.to_thread(read, path, reserved)
        if await asyncio.to_thread(_look, path) != looked:
            continue
        first, seen = seen is None, looked
        if not first or isinstance(outcome, PolicyError) or outcome.digest != current.digest:
            yield outcome


def read(path: Path, reserved: str) -> Policy | PolicyError:
    """The policy as the files are now, or why there is none."""
    try:
        return load_policy(path, reserved=reserved)
    except PolicyError as error:
        return error
    except OSError as error:
        # A disk that fails once is a problem to tell, and not the end of following.
        return PolicyError([f"{path}: it can't be read ({error}); see to the disk"])


def _look(path: Path) -> dict[str, Mark]:
    """What tells one state of the files from another, links followed."""
    try:
        files = [*path.glob("*.toml"), *path.glob("roles/*.toml")]
    except OSError as error:
        return {str(path): (error.errno or 0,)}
    return marks(files)
