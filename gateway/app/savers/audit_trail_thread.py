"""Writes the audit trail: an entry for each audit event that the log has, signed every minute.

The data path only puts an event into a queue. A thread writes what waits, five times a second; what finds
no room in the queue is counted, and the next entry says how many events that were. While a disk is nearly
full, what devices do is only counted: the room that is left is for what administrators do.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from gateway.app.savers.saver import Saver
from gateway.audit_trail.errors import TrailError
from gateway.audit_trail.recovery import ENTRIES
from gateway.audit_trail.segments import decoded, entries_from
from gateway.audit_trail.writer import Trail
from gateway.connection.audit_vocabulary import Report, Source, changed_trail, failed_trail
from gateway.connection.process_counters import Counters
from gateway.observe.logs import get_logger, log_always
from gateway.observe.save_failures import Saves
from gateway.store import KnownTrail, Store, StoreError
from gateway.system.aligned_timers import Rounds

_QUIET_SECONDS = 1.0
"""Between two looks at the clock, and at whether a checkpoint is due, while nothing waits."""
SIGN_SECONDS = 60.0
"""Between two checkpoints, when something came."""
_WAITING_MAX = 10_000
"""Events in the queue, at most."""
_OF_THE_HOUSE = 1_000
"""Events that may wait beyond that, if they are about the gateway itself."""
_AT_ONCE = 5_000
"""Entries in one write."""
_AGAIN_SECONDS = 5.0
"""From a failure to the next attempt."""
_FAULT_SECONDS = 20.0
"""Between two reports to the store that the trail can't be written, which goes on."""
_DROP_SECONDS = 3_600.0
"""Between two looks for a day that is too old to be kept."""
_ROOM = 64 * 1024 * 1024
"""Bytes that entries about devices must leave free on the disk; a twentieth of it, if that is less."""
_JUMP_MS = 60_000
"""A jump of the wall clock by more than this is reported: it was set, and does not just run fast."""
_CLOSE_SECONDS = 10.0
"""How long a stop waits for the disk."""
_HUNG_SECONDS = 10.0
"""A write that has taken this long is a fault, for health."""
_OF_DEVICES = "audit entries of devices"
_COUNTED = "what devices do is only counted there; make room on that disk"
_Waiting = tuple[Mapping[str, object], bool]
"""What is to be written, and whether it is of the gateway itself or an administrator."""
_Result = TypeVar("_Result")

_log = get_logger()


class AuditTrail(Saver):
    """The trail of this process: what waits for it, and when it is signed."""

    subject = "audit trail"
    seconds = 0.2

    def __init__(
        self,
        trail: Trail,
        store: Store,
        node: str,
        *,
        counters: Counters,
        retention: int,
        now: Callable[[], int],
        saves: Saves,
    ) -> None:
        """`retention` in seconds; `now` gives Unix milliseconds."""
        super().__init__(saves)
        self._trail = trail
        self._store = store
        self._node = node
        self._counters = counters
        self._retention = retention
        self._now = now
        self._report: Callable[[Report], None] = lambda _: None
        self._rounds = Rounds(self.seconds, _QUIET_SECONDS)
        self._waiting: deque[_Waiting] = deque()
        self._queued_ever = 0
        self._under_way: Sequence[_Waiting] = ()
        """What the thread writes now."""
        self._dropped_ever = self._counted_dropped = 0
        """Events that were dropped, and those of them that an entry counts already."""
        self._thread = ThreadPoolExecutor(1, "audit-trail")
        self._lock = asyncio.Lock()
        self._fault = ""
        self._no_room = ""
        """Why what devices do is only counted; empty while it is written."""
        self._again_at = self._reported_at = float("-inf")
        self._looked_at = time.monotonic()
        self._signed_at = float("-inf")  # first at once: what a killed process left is not signed yet
        self._ahead: int | None = None
        """Milliseconds by which the wall clock was ahead of the monotonic one at the last look."""
        self._writing_since = float("inf")
        self.checkpoint_time = 0.0
        """When the newest checkpoint was signed, in Unix seconds; 0 before the first of this process."""

    @property
    def size(self) -> int:
        """How many entries the trail has."""
        return self._trail.size

    def keep(self, fields: Mapping[str, object], source: Source) -> None:
        """Put an event into the queue, or count it. Called on the data path."""
        of_house = source is Source.HOUSE
        if len(self._waiting) >= _WAITING_MAX:
            # What an administrator did waits in the store, and some of it here: that is bounded there.
            of_admin = of_house and fields.get("id") is not None
            if not of_house or (len(self._waiting) >= _WAITING_MAX + _OF_THE_HOUSE and not of_admin):
                self._drop(fields)
                return
        self._waiting.append((fields, of_house))
        self._queued_ever += 1
        self._rounds.soon()

    async def open(self, report: Callable[[Report], None]) -> None:
        """Find the trail, repair what was cut off, and report that.

        Never raises: devices are served anyway.
        """
        self._report = report
        try:
            known = await self._store.audit_trails.read(self._node)
            self._trail.expect(known.note)
            await self._in_thread(self._trail.open)
            if self._trail.is_new:
                report(changed_trail(_beginning(self._trail.origin, known)))
                async with self._lock:
                    await self._append()
                # Before it is signed: the store must not hold it against the checkpoint of the one before it.
                await self._store.audit_trails.begin(self._node)
        except (TrailError, StoreError) as error:
            self._failed(error)
            await self._report_fault()
        self._report_repairs()

    async def ids_before(self) -> frozenset[str]:
        """The ids of administrators' events that are in the trail and may wait in the store all the same.

        Raises OSError, StoreError.
        """
        known = await self._store.audit_trails.read(self._node)
        after = known.looked_through if known.looked_through <= self.size else 0
        return await self._in_thread(lambda: _ids(self._trail, after))

    async def durable(self) -> None:
        """Wait until all that waits now is on disk, but for nothing that comes later.

        Raises TrailError: it is not.
        """
        queued = self._queued_ever
        while self._queued_ever - len(self._waiting) - len(self._under_way) < queued:
            await self.write()

    async def looked_through(self, size: int) -> None:
        """No event among the first `size` entries waits in the store. Raises StoreError."""
        await self._store.audit_trails.save_looked_through(self._node, size)

    async def write(self) -> bool:
        """Write what waits, some of it; and what is due every minute and every hour."""
        async with self._lock:
            if time.monotonic() < self._again_at:
                raise TrailError(self._fault)
            self._writing_since = time.monotonic()
            self._look_at_the_clock()
            some = bool(self._waiting or self._under_way)
            try:
                if self._fault:
                    await self._in_thread(self._trail.open)
                await self._append()
                await self._sign(SIGN_SECONDS)
                self._fault = ""
            except TrailError as error:
                self._failed(error)
                raise
            finally:
                self._writing_since = float("inf")
                await self._report_fault()
            self._report_repairs()
            self._saves.done(self.subject)
        return some

    async def run(self) -> None:
        """Write for ever, and drop what is too old."""
        while True:
            await self._rounds.wait()
            await self.save_some()
            await self._drop_what_is_old()
            if self._waiting or self._under_way:
                self._rounds.soon()

    async def close(self) -> None:
        """Write and sign what is left, as far as that can be done now: a disk may hang."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                self._again_at = float("-inf")
                await self.save()
                await self._finish()
        self._thread.shutdown(wait=False)

    async def _finish(self) -> None:
        async with self._lock:
            try:
                await self._sign(0)
            except TrailError as error:
                self._saves.failed(self.subject, error)
            await self._in_thread(self._trail.close)

    def check(self) -> tuple[bool, str]:
        """Whether events are kept."""
        if time.monotonic() - self._writing_since > _HUNG_SECONDS:
            return (
                False,
                f"the disk of {self._trail.folder} does not answer; {len(self._waiting)} events wait",
            )
        if self._fault:
            return False, f"{self._fault}; administrators can change nothing until then"
        if self._no_room:
            return True, f"warning: {self._no_room}"
        return True, f"{self.size} entries, {self._trail.signed} of them signed"

    async def _append(self) -> None:
        if self._under_way:
            # The write failed, or a stop did not wait for it. The one thread has then finished it by now.
            await self._in_thread(lambda: None)
            self._waiting.extendleft(reversed(self._under_way))
            self._under_way = ()
        if not (self._waiting or self._no_room):
            return
        free, room = await self._in_thread(lambda: _free_and_room(self._trail))
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
        self._no_room = ""
        if free < room:
            self._no_room = f"{free // 2**20} MiB are left at {self._trail.folder}: {_COUNTED}"
            if batch:
                self._saves.failed(_OF_DEVICES, self._no_room)
            for fields, of_house in batch:
                if not of_house:
                    self._drop(fields)
            batch = [one for one in batch if one[1]]
        else:
            self._saves.done(_OF_DEVICES)
        if not batch:
            return
        self._under_way = batch
        dropped = self._dropped_ever - self._counted_dropped
        await self._in_thread(lambda: self._write(batch, dropped))

    def _write(self, batch: Sequence[_Waiting], dropped: int) -> None:
        """In the thread. What is written is not under way any more, whether somebody still waits or not."""
        self._trail.append([fields for fields, _ in batch], dropped)
        self._under_way = ()
        self._counted_dropped += dropped

    async def _sign(self, seconds: float) -> None:
        if time.monotonic() - self._signed_at < seconds:
            return
        note = await self._in_thread(self._trail.sign)
        self._signed_at = time.monotonic()
        if note is None:
            return
        self.checkpoint_time, signed = self._now() / 1_000, self._trail.signed
        # So that it leaves the machine: by it anybody can see later whether an entry before it was changed.
        log_always("audit checkpoint", trail=self._trail.origin, size=signed, note=note)
        with suppress(StoreError):
            await self._store.audit_trails.save_note(self._node, note)
            # Else the next start would look through all entries since the last of an administrator.
            if not await self._store.admin_events.waiting(most=1):
                await self.looked_through(signed)

    async def _drop_what_is_old(self) -> None:
        if self._fault or time.monotonic() - self._looked_at < _DROP_SECONDS:
            return
        self._looked_at = time.monotonic()
        before = self._now() - self._retention * 1_000
        with suppress(OSError):
            old = await self._in_thread(lambda: self._trail.oldest_day(before))
            if not old:
                return
            kept_from = await self._in_thread(lambda: self._trail.first_after(old))
            self._report(
                changed_trail(
                    f"entries before {kept_from} are dropped: older than AUDIT_RETENTION", kept_from
                )
            )
            await self.durable()
            # What is not signed does not count: whoever deletes entries could have appended it.
            async with self._lock:
                await self._sign(0)
            await self._in_thread(lambda: self._trail.delete(old))

    def _look_at_the_clock(self) -> None:
        """Report if it was set: the times of entries before and after can't be compared."""
        ahead = self._now() - time.monotonic_ns() // 1_000_000
        jump, self._ahead = ahead - (ahead if self._ahead is None else self._ahead), ahead
        if abs(jump) > _JUMP_MS:
            self._report(failed_trail(f"the clock was set by {jump / 1_000:+.0f} s"))

    def _report_repairs(self) -> None:
        while self._trail.repairs:
            repair = self._trail.repairs.pop(0)
            _log.warning("audit trail repaired", reason=repair)
            self._report(failed_trail(repair))

    def _drop(self, fields: Mapping[str, object]) -> None:
        suppressed = fields.get("suppressed")
        count = suppressed if isinstance(suppressed, int) else 1
        self._dropped_ever += count
        self._counters.audit_dropped += count

    def _failed(self, error: Exception) -> None:
        self._fault = str(error)
        self._again_at = time.monotonic() + _AGAIN_SECONDS
        self._saves.failed(self.subject, error)

    async def _report_fault(self) -> None:
        """Have the store know of a fault or its end: during one, administrators may change nothing."""
        fault = self._fault
        if not fault and self._reported_at == float("-inf"):
            return
        if fault and time.monotonic() - self._reported_at < _FAULT_SECONDS:
            return
        with suppress(StoreError):
            await self._store.audit_trails.set_fault(self._node, fault)
            self._reported_at = time.monotonic() if fault else float("-inf")

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _beginning(origin: str, known: KnownTrail) -> str:
    if not known.note:
        return f"the trail {origin} begins"
    was = " ".join(known.note.split("\n")[:3])
    return f"the trail {origin} begins; the one before it was signed as: {was}"


def _ids(trail: Trail, after: int) -> frozenset[str]:
    found = set()
    for _, line in entries_from(trail.folder / ENTRIES, after):
        # An entry with an action is of a refusal, whose id is not meant; and there may be many.
        if b'"id":' in line and b'"action":' not in line:
            said = decoded(line).get("id")
            found.add(str(said))
    return frozenset(found)


def _free_and_room(trail: Trail) -> tuple[int, int]:
    """How many bytes are free on its disk, and how many of these what devices do must leave."""
    try:
        disk = os.statvfs(trail.folder)
    except OSError:
        return 0, 0  # it is about to be made, or the write says what is wrong
    return disk.f_bavail * disk.f_frsize, min(_ROOM, disk.f_blocks * disk.f_frsize // 20)
