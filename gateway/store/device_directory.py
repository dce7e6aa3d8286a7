"""All devices in memory, kept true: what the data path reads, without waiting and without a database.

It follows the change log, whichever process wrote there. When the store fails it says so, and from then
on nobody new is let in, for a device disabled meanwhile would be among them (promise 1).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, NamedTuple

from gateway.policy.engine.identity import Device
from gateway.store.change_pulse import LastIds
from gateway.store.errors import StoreError
from gateway.store.store import Repositories, Store
from gateway.system.aligned_timers import until_next_multiple_of
from gateway.system.file_notices import FileNotices

_RELOAD_ALL_ABOVE = 500  # touched ids; SQLite takes no query with more than some thousands of them
_RETRY_SECONDS_MAX = 1.0
_ANSWER_SECONDS = 5.0
_ANSWER_WAITS = 50
_CANCEL_SECONDS = 1.0
_abandoned: set[asyncio.Task[None]] = set()
"""The loop alone keeps only weak references to tasks."""


class _LookResult(NamedTuple):
    """What a look at the store found."""

    last_ids: LastIds
    written: float
    """Unix seconds: when the database's file was written last."""
    seq: int
    """The number of the newest change in the change log."""
    touched: frozenset[str] | None
    """Ids of the devices that changed; None: `devices` are all there are."""
    devices: list[Device]


class Directory:
    """Reads are synchronous and never fail; `available` says whether they may be relied upon."""

    def __init__(self, store: Store, *, interval: float = 0.4, notices: FileNotices | None = None) -> None:
        """Look for changes every `interval` seconds; with `notices`, those of the store, when one comes."""
        self._notices = notices
        self.available = False
        self._reason = "not read yet"
        self._store = store
        self._interval = interval
        self._devices: dict[str, Device] = {}
        self._seq = 0
        self._looking = asyncio.Lock()
        self._last_ids: LastIds | None = None
        """The last ids given in the store's tables, as of the last look: different ones mean a change."""
        self.changed_at = 0.0
        """When the newest change that is known was written, by the database's file: Unix seconds."""
        self._on_change: list[Callable[[frozenset[str]], None]] = []
        self._on_commit: list[Callable[[], None]] = []
        self._on_availability: list[Callable[[bool, str], None]] = []

    def __len__(self) -> int:
        return len(self._devices)

    def __iter__(self) -> Iterator[str]:
        return iter(self._devices)

    def check(self) -> tuple[bool, str]:
        """Whether the store is followed: how many devices it has, or else why not."""
        return self.available, f"{len(self)} devices" if self.available else self._reason

    def states(self, now: float) -> dict[str, int]:
        """How many devices there are in each state; `now` in Unix seconds."""
        found = {"enabled": 0, "disabled": 0, "observed": 0}
        for device in self._devices.values():
            state = "observed" if device.observe_until > now else "enabled"
            found[state if device.enabled else "disabled"] += 1
        return found

    def enabled(self) -> list[str]:
        """The ids of the devices that may connect."""
        return [one.device_id for one in self._devices.values() if one.enabled]

    def get(self, device_id: str) -> Device | None:
        """The device of this id as last read."""
        return self._devices.get(device_id)

    def on_change(self, callback: Callable[[frozenset[str]], None]) -> None:
        """Call with the ids that were added, changed or removed, once `get` answers with the new state."""
        self._on_change.append(callback)

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Call when somebody has committed a change of a device, or an event of an administrator."""
        self._on_commit.append(callback)

    def on_availability(self, callback: Callable[[bool, str], None]) -> None:
        """Call with False and the reason when the store fails, with True and "" when it is back."""
        self._on_availability.append(callback)

    async def load(self) -> None:
        """Read all devices. Raises StoreError."""
        self._take(await asyncio.to_thread(self._read_all))
        self._set_available(available=True, reason="")

    async def look(self) -> None:
        """Take up now what was committed, as `follow` does within its interval; nothing while unavailable."""
        async with self._looking:
            if self.available:
                with contextlib.suppress(TimeoutError, StoreError):  # `follow` meets it too, and says so
                    await _within_answer_seconds(self._catch_up())

    async def follow(self) -> None:
        """Keep the devices true, for ever. Once it ends, for whatever reason, they are unavailable."""
        try:
            await self._follow()
        finally:
            self._set_available(available=False, reason="the store is no longer followed")
            if self._notices is not None:
                self._notices.close()

    async def _follow(self) -> None:
        wait = self._interval
        while True:
            if self._notices is not None and self.available:
                await self._notices.wait(wait)
            else:
                await until_next_multiple_of(wait)
            try:
                async with self._looking:
                    if self.available:
                        await _within_answer_seconds(self._catch_up())  # a disk may hang instead of failing
                    else:
                        await self._store.reopen()
                        await self.load()
                        self._say_committed()  # perhaps, while it was not served
                wait = self._interval
            except TimeoutError:
                self._set_available(
                    available=False,
                    reason=f"the store did not answer within {_ANSWER_SECONDS:g} s; see to the disk",
                )
            except StoreError as error:
                self._set_available(available=False, reason=str(error))
                wait = min(wait * 2, _RETRY_SECONDS_MAX)

    async def _catch_up(self) -> None:
        # All in one call of a thread: a disk that hangs must not hold up messages, and while messages hold up
        # the loop a change must not wait for many of its turns.
        result = await asyncio.to_thread(self._read_if_changed)
        if result is not None:
            self._say_committed()
            self._take(result)

    def _read_if_changed(self) -> _LookResult | None:
        """In a thread. The numbers first: what changes meanwhile is read twice, not missed."""
        last_ids, written = self._store.pulse()
        if last_ids == self._last_ids:
            return None
        return _LookResult(last_ids, written, *self._store.read(partial(_changes, self._seq)))

    def _read_all(self) -> _LookResult:
        """In a thread; the numbers first, as above."""
        last_ids, written = self._store.pulse()
        return _LookResult(last_ids, written, *self._store.read(partial(_changes, None)))

    def _take(self, result: _LookResult) -> None:
        found = {device.device_id: device for device in result.devices}
        touched = result.touched
        if touched is None:
            before, self._devices = self._devices, found
            touched = frozenset(
                name for name in before.keys() | found.keys() if before.get(name) != found.get(name)
            )
        else:
            for name in touched - found.keys():
                self._devices.pop(name, None)
            self._devices.update(found)
        self._seq = result.seq
        if touched or result.touched is None:
            self.changed_at = result.written
        self._call_back(touched)
        self._last_ids = result.last_ids

    def _say_committed(self) -> None:
        for callback in self._on_commit:
            callback()

    def _call_back(self, touched: frozenset[str]) -> None:
        if touched:
            for callback in self._on_change:
                callback(touched)

    def _set_available(self, *, available: bool, reason: str) -> None:
        self._reason = reason
        if available != self.available:
            self.available = available
            for callback in self._on_availability:
                callback(available, reason)


async def _changes(since: int | None, store: Repositories) -> tuple[int, frozenset[str] | None, list[Device]]:
    """The latest number, the ids touched after `since`, and these devices; None for the ids: all devices."""
    if since is not None:
        seq, touched = await store.changes.since(since)
        if touched is not None and len(touched) <= _RELOAD_ALL_ABOVE:
            return seq, touched, await store.devices.read(touched) if touched else []
    seq = await store.changes.last()
    return seq, None, await store.devices.read()


async def _within_answer_seconds(work: Coroutine[Any, Any, None]) -> None:
    """Wait for an answer of the store. Raises TimeoutError when it takes `_ANSWER_SECONDS`.

    Counted in short waits of the event loop: a loop that stalls for seconds has lost one of them by that. It
    must not be taken for a hung disk, for then nobody is let in.
    """
    task = asyncio.create_task(work)  # noqa: TID251 - held here until it ends
    try:
        for _ in range(_ANSWER_WAITS):
            done, _ = await asyncio.wait({task}, timeout=_ANSWER_SECONDS / _ANSWER_WAITS)
            if done:
                return await task
        raise TimeoutError
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        if not task.done():
            # The driver's thread hangs in the disk, and hears of nothing before that is back.
            _abandoned.add(task)
            task.add_done_callback(_let_go)


def _let_go(task: asyncio.Task[None]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # it was reported as a time-out
