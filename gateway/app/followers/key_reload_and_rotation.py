"""The key files while the gateway runs: a change in them takes effect within a second, and old keys retire.

Owns when keys are read again and when the gateway rotates them by itself. What is in force stays in force
when a file is damaged or gone, for sealed messages must still open; health and log say so. It must not
know the format of the files: `gateway.keys.key_files` reads and writes them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gateway.app.followers.follower import Follower
from gateway.auth.signing_keys import SigningKeys
from gateway.auth.tokens import Tokens
from gateway.config import Settings
from gateway.connection.audit_vocabulary import HOUSE, changed_key
from gateway.connection.process_context import Context
from gateway.keys.key_files import (
    KeyFileError,
    read_sealing_file,
    read_signing_file,
    rotate_sealing,
    rotate_signing,
)
from gateway.keys.key_ring import Key, KeyState
from gateway.observe.audit_dispatch import Audit, AuditEvent
from gateway.observe.logs import get_logger
from gateway.policy.engine.identity import Grant
from gateway.store import Store, StoreError
from gateway.system.aligned_timers import until_next_multiple_of
from gateway.system.file_change_marks import Mark, mark, marks
from gateway.system.file_notices import FileNotices

_AGAIN_SECONDS = 10
"""Seconds after which a file that can't be used is read again, though its `Mark` (inode, size, times) is the
same: the disk may have failed once."""
_RETIRE_SECONDS = 60.0
AGE_MAX = 90 * 86_400
"""Seconds that a key is active before a new one takes its place."""
_AHEAD_MAX = 86_400
"""Seconds by which a key's creation may lie in the future: it is active for that much longer."""
USES_MAX = 2**31
"""Messages under one sealing key before a new one takes its place: half of the 2^32 that random nonces
bear."""

_log = get_logger()


@dataclass(slots=True)
class _KeyFile:
    """One key file, what is known of it, and what is done with it."""

    kind: str
    path: Path
    read: Callable[[], Sequence[Key]]
    rotate: Callable[[], Key]
    put_in_force: Callable[[Sequence[Key]], Awaitable[None]]
    fault: Callable[[Sequence[Key], Sequence[Key]], str]
    """Why the keys in force must not be replaced by these; empty when they may."""
    keys: Sequence[Key] = field(default=(), repr=False)
    """Those in force; none before the first look."""
    problem: str = ""
    mark: Mark | None = None
    looks: int = 0
    """How many there were since the file was last read."""
    not_rotated: str = ""
    """Why a key that is due could not be rotated."""

    @property
    def active(self) -> Key | None:
        return next((key for key in self.keys if key.state is KeyState.ACTIVE), None)


class KeyFollower(Follower):
    """Keeps the keys in force the same as the files, as long as they are sound."""

    seconds = 0.4

    def __init__(
        self,
        settings: Settings,
        context: Context,
        tokens: Tokens,
        store: Store,
        audit: Audit,
        *,
        signing_changed: Callable[[Callable[[Grant], str]], Awaitable[None]],
    ) -> None:
        """With JWT_SECRET there is no file of signing keys to follow.

        `signing_changed` is called when the signing keys have changed. Its argument says of a grant why its
        token is no longer valid under the new keys; an empty text if it still is.
        """
        super().__init__(FileNotices(lambda: [file.path for file in self._files]))
        self._context = context
        self._tokens = tokens
        self._store = store
        self._audit = audit
        self._signing_changed = signing_changed
        path, wrapping = settings.encryption_key_path, settings.encryption_key
        self._sealing = _KeyFile(
            "sealing",
            path,
            partial(read_sealing_file, path, wrapping),
            partial(rotate_sealing, path, wrapping),
            self._seal_with,
            _fault,
        )
        self._files = [self._sealing]
        if settings.jwt_secret is None:
            path = settings.signing_key_path
            self._files.append(
                _KeyFile(
                    "signing",
                    path,
                    partial(read_signing_file, path, wrapping),
                    partial(rotate_signing, path, wrapping, settings.jwt_ttl),
                    self._sign_with,
                    lambda _before, _after: "",  # what a key that is gone has signed is refused: that is safe
                )
            )
        self._over_at: int | None = None
        """When the next signing key that was replaced stops verifying, in Unix seconds; None: no such key."""

    def check(self) -> tuple[bool, str]:
        """Whether the files are what is in force."""
        for file in self._files:
            if file.problem:
                return False, f"the {file.kind} keys: {file.problem}; those before are in force"
            if file.not_rotated:
                return False, f"the {file.kind} key is due and can't be rotated: {file.not_rotated}"
        return True, f"sealing {self._context.ring.active_id}, signing {self._tokens.keys.active_id}"

    def created(self) -> Mapping[str, float]:
        """When the keys in force were made, by kind: Unix seconds."""
        actives = {file.kind: file.active for file in self._files}
        return {kind: key.created_at for kind, key in actives.items() if key is not None}

    async def run(self) -> None:
        """Look at the files when they may have changed, and at the keys' age once a minute, for ever."""
        loop, retired = asyncio.get_running_loop(), float("-inf")
        try:
            while True:
                await self.look()
                if loop.time() - retired >= _RETIRE_SECONDS:
                    retired = loop.time()
                    await self.retire()
                await self.rest()
        finally:
            self.stop_watching()

    async def rest(self) -> None:
        """Wait until the next look.

        While a key is about to end, or a file has a problem, it does not wait for a notice.
        """
        if self._over_at is not None or any(file.problem for file in self._files):
            await until_next_multiple_of(self.seconds)
        else:
            await super().rest()

    async def follow(self, *, anyway: bool) -> None:
        """Put in force what has changed in the files, and stop verifying with keys whose time is over."""
        # In a thread, as the reading: a disk that hangs must not hold up messages.
        seen = await asyncio.to_thread(marks, [file.path for file in self._files])
        for file in self._files:
            if anyway:
                file.mark = None
            await self._follow(file, seen[str(file.path)])
        await self._end_overlaps()

    async def _end_overlaps(self) -> None:
        """Stop verifying with the signing keys whose time is over."""
        if self._over_at is not None and self._context.now() // 1_000 >= self._over_at:
            await self._sign_with(self._files[-1].keys)

    async def retire(self) -> None:
        """Rotate keys that are too old or used too often, and stop verifying with those that are over."""
        async with self._reading:
            await self._retire()

    async def _retire(self) -> None:
        await self._end_overlaps()
        uses = await self._count_uses()
        now = self._context.now() // 1_000
        for file in self._files:
            active = file.active
            if active is None or file.problem:
                continue
            if now - active.created_at >= AGE_MAX:
                await self._rotate(file, f"it is older than {AGE_MAX // 86_400} days")
            elif active.created_at - now >= _AHEAD_MAX:
                await self._rotate(file, "the clock was ahead when it was made, so its age is unknown")
            elif file is self._sealing and uses >= USES_MAX:
                await self._rotate(file, f"it has sealed {uses:,} messages")

    async def _follow(self, file: _KeyFile, seen: Mark) -> None:
        file.looks += 1
        if seen == file.mark and not (file.problem and file.looks * self.seconds >= _AGAIN_SECONDS):
            return
        file.looks = 0
        keys: Sequence[Key] = ()
        try:
            keys = await asyncio.to_thread(file.read)  # to unwrap them by a passphrase takes long
            problem = _brought_back(file.keys, keys) or file.fault(file.keys, keys)
        except KeyFileError as error:
            problem = str(error)
        if problem:
            if problem != file.problem:
                _log.error("keys refused", reason=f"{problem}; the {file.kind} keys before are in force")
            file.problem, file.mark = problem, seen
            return
        await file.put_in_force(keys)
        # Not before: a look that fails on the way is to be repeated.
        file.mark = seen
        if file.problem:
            _log.info("keys in force", reason=f"the file of the {file.kind} keys can be used again")
        before, file.keys, file.problem = file.keys, keys, ""
        if before:
            self._report(_changes(file.kind, before, keys))

    async def _rotate(self, file: _KeyFile, why: str) -> None:
        try:
            key = await asyncio.to_thread(file.rotate)
        except KeyFileError as error:
            if str(error) != file.not_rotated:  # it is tried every minute, and a disk may be full for days
                _log.error("key not rotated", reason=f"{error}; the {file.kind} key is due, for {why}")
            file.not_rotated = str(error)
            return
        file.not_rotated = ""
        _log.info("key rotated", reason=f"the {file.kind} key before {key.key_id} is due: {why}")
        await self._follow(file, await asyncio.to_thread(mark, file.path))

    async def _seal_with(self, keys: Sequence[Key]) -> None:
        try:
            uses = await self._store.key_uses.read()
        except StoreError:
            uses = {}  # counted again in a minute; a key that was destroyed must stop now
        self._context.ring.replace(keys, uses)

    async def _count_uses(self) -> int:
        """How often the active sealing key was used, by other processes too."""
        if self._sealing.keys:
            await self._seal_with(self._sealing.keys)
        return self._context.ring.uses

    async def _sign_with(self, keys: Sequence[Key]) -> None:
        now = self._context.now() // 1_000
        signing = SigningKeys.of_keys(keys, now)
        self._tokens.use(signing)
        await self._signing_changed(lambda grant: signing.distrust(grant, now))
        ends = [key.until for key in keys if key.state is KeyState.VERIFY_ONLY and key.until is not None]
        self._over_at = min((end for end in ends if end > now), default=None)

    def _report(self, reasons: Iterator[str]) -> None:
        for reason in reasons:
            self._audit.emit(AuditEvent.of(changed_key(reason), HOUSE, self._context.now()))


def _brought_back(before: Sequence[Key], after: Sequence[Key]) -> str:
    """Why not, if a key that was destroyed is in the file again: somebody has put an older copy there."""
    gone = {key.key_id for key in before if key.state is KeyState.DESTROYED}
    for key in after:
        if key.key_id in gone and key.state is not KeyState.DESTROYED:
            return f"the key {key.key_id} was destroyed, and is back in its file: destroy it again"
    return ""


def _fault(before: Sequence[Key], after: Sequence[Key]) -> str:
    """Why these sealing keys must not replace those in force; empty if they may.

    After the next start nothing would open what was sealed with a key that no file holds any more, or that
    the file has replaced by a different one of the same id.
    """
    found = {key.key_id: key for key in after}
    for key in before:
        if key.state is KeyState.DESTROYED:
            continue
        other = found.get(key.key_id)
        if other is None:
            return f"the sealing key {key.key_id} is gone from its file: put the file back, or restart"
        if other.material and not secrets.compare_digest(other.material, key.material):
            return f"the sealing key {key.key_id} is a different one now: put the file back, or restart"
    return ""


def _changes(kind: str, before: Sequence[Key], after: Sequence[Key]) -> Iterator[str]:
    known = {key.key_id: key.state for key in before}
    for key in after:
        state = known.get(key.key_id)
        if state is key.state:
            continue
        if key.state is KeyState.ACTIVE:
            yield f"{kind} key {key.key_id} is in force"
        elif key.state is KeyState.DESTROYED:
            yield f"{kind} key {key.key_id} is destroyed"
        elif state is KeyState.ACTIVE:
            yield f"{kind} key {key.key_id} is retired, and {key.state} from now on"
        else:  # it was not in the file before: `gateway-admin keys import` or a restore put it there
            yield f"{kind} key {key.key_id} was brought in, and is {key.state}"
    for key_id in sorted(known.keys() - {key.key_id for key in after}):
        yield f"{kind} key {key_id} is gone"
