"""Following the files of `acl/`: what to put in force, and when.

Yields outcomes and puts nothing in force itself; the one who iterates keeps the old policy when the
outcome is a `PolicyError`. Starts no task. File system events make it quick; a look at the folder
twice a second makes it sure, for events are lost when the folder itself is replaced, when it is
reached through a symbolic link that is swapped (Kubernetes), and on network file systems.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

from gateway.core.policy import Policy
from gateway.policy.load import PolicyError, load_policy

_SETTLE_MS = 50
"""Editors write in several steps: wait until this long nothing has happened."""
_SETTLE_AT_MOST_MS = 200
_LOOK_MS = 500


async def follow(path: Path, *, reserved: str, current: Policy) -> AsyncGenerator[Policy | PolicyError, None]:
    """Each policy, or the reason why there is none, after the files in `path` have changed.

    Begins with what has changed since `current` was read. A policy that decides the same as the one
    before isn't yielded, unless a `PolicyError` came between: then it says that all is well again.
    Ends only by being closed or cancelled. OSError when the folder can't be watched (it isn't there,
    or the system has no watches left): a policy that can't be followed is for the caller to report.
    """
    seen: dict[str, tuple[int, ...]] | None = None
    digest: str | None = current.digest
    changes = awatch(
        path,
        watch_filter=None,
        step=_SETTLE_MS,
        debounce=_SETTLE_AT_MOST_MS,
        rust_timeout=_LOOK_MS,
        yield_on_timeout=True,
    )
    async with aclosing(changes):
        async for _ in changes:
            looked = await asyncio.to_thread(_look, path)
            if looked == seen:
                continue
            outcome = await asyncio.to_thread(_load, path, reserved)
            if await asyncio.to_thread(_look, path) != looked:
                continue  # somebody is still writing: half of a policy may well be valid TOML
            seen = looked
            before, digest = digest, outcome.digest if isinstance(outcome, Policy) else None
            if digest is None or digest != before:
                yield outcome


def _load(path: Path, reserved: str) -> Policy | PolicyError:
    try:
        return load_policy(path, reserved=reserved)
    except PolicyError as error:
        return error


def _look(path: Path) -> dict[str, tuple[int, ...]]:
    """What tells one state of the files from another, links followed."""
    found: dict[str, tuple[int, ...]] = {}
    for file in (*path.glob("*.toml"), *path.glob("roles/*.toml")):
        try:
            stat = file.stat()
        except OSError as error:
            found[str(file)] = (error.errno or 0,)
        else:
            # The change time too: copying tools set the modification time back.
            found[str(file)] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return found
