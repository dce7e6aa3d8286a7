"""All devices in memory and up to date: the data path reads them without waiting, and without a database.

It follows the change log, whichever process writes there. If the store fails the directory is unavailable,
and then nobody new is let in, for it might be a device that was disabled meanwhile (promise 1).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, NamedTuple

from gateway.policy.engine.identity import Device
from gateway.store.errors import StoreError
from gateway.store.last_row_ids import LastIds
from gateway.store.store import Repositories, Store
from gateway.system.aligned_timers import until_next_multiple_of
from gateway.system.file_notices import FileNotices

_RELOAD_ALL_ABOVE = 500
"""Number of changed devices above which all are read: SQLite bounds the ids in a query."""
_RETRY_SECONDS_MAX = 1.0
"""Longest interval between attempts while the store fails."""
_WRITE_RETRY_SECONDS = 2.0
"""From an attempt to write that failed to the next."""
_ANSWER_SECONDS = 5.0
"""Seconds after which a store that does not answer is unavailable."""
_ANSWER_WAITS = 50
"""Into how many waits of the event loop these seconds are divided (see `_within_answer_seconds`)."""


class _LookResult(NamedTuple):
    """What a look at the store found."""

    last_ids: LastIds
    written: float
    """Unix seconds: when the -wal file was written last; 0 without one."""
    seq: int
    """The number of the newest change in the change log."""
    touched: frozenset[str] | None
    """Ids of the devices that changed; None: `devices` are all there are."""
    devices: list[Device]


class Directory:
    """Reads are synchronous and never fail; `available` says whether they may be relied upon."""

    def __init__(self, store: Store, *, interval: float = 0.4, notices: FileNotices | None = None) -> None:
        """Look for changes every `interval` seconds. With `notices`: after each of them, and else seldom."""
        self._notices = notices
        self.available = False
        self._reason = "not read yet"
        self._store = store
        self._interval = interval
        self._devices: dict[str, Device] = {}
        self._seq = 0
        self._looking = asyncio.Lock()
        self._write_fault = ""
        """Why nothing could be written when that was last tried."""
        self._last_ids: LastIds | None = None
        """The highest row ids as of the last look: if they differ now, something has changed."""
        self.changed_at = 0.0
        """When the newest known change was written, by the -wal file: Unix seconds; 0 without such a file."""
        self._on_change: list[Callable[[frozenset[str]], None]] = []
        self._on_commit: list[Callable[[], None]] = []
        self._on_availability: list[Callable[[bool, str], None]] = []

    def __len__(self) -> int:
        return len(self._devices)

    def __iter__(self) -> Iterator[str]:
        return iter(self._devices)

    def check(self) -> tuple[bool, str]:
        """Whether the store can be followed and written, and how many devices it has, or what is wrong."""
        if self.available and self._write_fault:
            return False, self._write_fault
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
        """Call when somebody may have committed a change of a device, or an event of an administrator."""
        self._on_commit.append(callback)

    def on_availability(self, callback: Callable[[bool, str], None]) -> None:
        """Call with False and the reason when the store fails, with True and "" when it is back."""
        self._on_availability.append(callback)

    async def load(self) -> None:
        """Read all devices. Raises StoreError."""
        self._take(await asyncio.to_thread(self._read_all))
        self._set_available(available=True, reason="")

    async def look(self) -> None:
        """Read now what was committed, as `follow` does at its next look. Does nothing while unavailable."""
        async with self._looking:
            if self.available:
                with contextlib.suppress(TimeoutError, StoreError):  # `follow` meets it too, and says so
                    await _within_answer_seconds(self._catch_up())

    async def follow(self) -> None:
        """Keep the devices up to date until cancelled. However it ends, they are unavailable then."""
        try:
            await self._follow()
        finally:
            self._set_available(available=False, reason="the store is no longer followed")
            if self._notices is not None:
                self._notices.close()

    async def try_writing(self, interval: float) -> None:
        """Try every `interval` seconds whether the store can be written, sooner after a fault. For ever."""
        while True:
            self._write_fault = await asyncio.to_thread(self._store.write_fault)
            await until_next_multiple_of(
                min(interval, _WRITE_RETRY_SECONDS) if self._write_fault else interval
            )

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
                        self._say_committed()  # somebody may have, while the store was unavailable
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
        # In a thread, because a disk that hangs must not hold up messages; and in a single call, because
        # under load each iteration of the event loop takes long.
        result = await asyncio.to_thread(self._read_if_changed)
        if result is not None:
            self._say_committed()
            self._take(result)

    def _read_if_changed(self) -> _LookResult | None:
        """Runs in a thread. Row ids are read first: what changes meanwhile is read twice, not missed."""
        last_ids, written = self._store.last_ids()
        if last_ids == self._last_ids:
            return None
        return _LookResult(last_ids, written, *self._store.read(partial(_changes, self._seq)))

    def _read_all(self) -> _LookResult:
        """Runs in a thread; row ids first, as above."""
        last_ids, written = self._store.last_ids()
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
    """The number of the latest change, the ids changed after `since`, and these devices.

    None for the ids: all devices were read.
    """
    if since is not None:
        seq, touched = await store.changes.since(since)
        if touched is not None and len(touched) <= _RELOAD_ALL_ABOVE:
            return seq, touched, await store.devices.read(touched) if touched else []
    seq = await store.changes.last()
    return seq, None, await store.devices.read()


async def _within_answer_seconds(work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work` of the store. Raises TimeoutError if it takes longer than `_ANSWER_SECONDS`.

    The time is counted in short waits: if the event loop stalls for seconds, that counts as only one of them.
    It must not be mistaken for a hung disk, for then nobody would be let in.
    """
    task = asyncio.create_task(work)  # noqa: TID251 - held here until it ends
    try:
        for _ in range(_ANSWER_WAITS):
            done, _ = await asyncio.wait({task}, timeout=_ANSWER_SECONDS / _ANSWER_WAITS)
            if done:
                return await task
        raise TimeoutError
    finally:
        task.cancel()  # its thread may go on hanging in the disk: nobody takes what it reads
