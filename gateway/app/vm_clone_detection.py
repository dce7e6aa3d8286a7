"""Notices that this process may be running twice: resumed from a snapshot of a machine's memory.

Two machines resumed from one snapshot would go on with the same nonces, and a nonce that comes twice under
one key gives both messages away. So the random part of the nonces is drawn anew whenever something says that
time went on without us. After a false alarm (a laptop that slept, a clock that was set) that costs nothing.

What can be read without privileges: the boot id, which is new at each boot; the marker that a hypervisor
changes in `/dev/vmclock0` (Linux 6.13 and later, where it is offered and readable); and the clocks. A machine
that is resumed goes on with the monotonic clock of the snapshot, and sooner or later its wall clock is put
right. Where none of these says anything, nothing is noticed: SECURITY.md says so.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.keys.key_ring import Nonces
from gateway.observe.logs import get_logger
from gateway.system.aligned_timers import Rounds

_SURE = 0.2
"""Seconds for which a look counts: if a machine is cloned within them (or while the loop is late) its nonces
may repeat for as long."""
_LOOK = 1.0
"""Seconds between two looks while nothing is sealed: one that is late shows that the process stood still."""
_JUMP = 100_000_000
"""Nanoseconds by which two clocks must not move apart between two looks: drift makes it microseconds, and NTP
sets a clock, instead of slewing it, from 128 ms on."""
_LATE = 2_000_000_000
"""Nanoseconds after which a look is so late that the machine may have been stopped, and go on elsewhere
too."""
_BRACKET = 1_000_000
"""Nanoseconds within which the clocks have to be read to count as read together."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_VM_CLOCK = Path("/dev/vmclock0")
_MARKER = slice(16, 24)
"""Where `disruption_marker` stands in it (linux/vmclock-abi.h)."""

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Reading:
    """What distinguishes one run of a machine from the next."""

    boot_id: str
    marker: bytes
    """Of the virtual machine; empty where there is none to read."""
    wall: int
    """The wall clock in nanoseconds, as the two below."""
    running: int
    """Since the machine started, without the time that it slept."""
    elapsed: int
    """Since the machine started, with the time that it slept."""


class Sources:
    """The files to read, kept open: to open them each time would be most of what a look costs."""

    def __init__(self) -> None:
        self._boot_id = _KeptFile(_BOOT_ID)
        self._vm_clock = _KeptFile(_VM_CLOCK)

    def reading(self) -> Reading:
        """As it is now."""
        wall, running, elapsed = _clocks()
        return Reading(
            self._boot_id.read().decode("ascii", "replace"),
            self._vm_clock.read()[_MARKER],
            wall,
            running,
            elapsed,
        )


def _clocks() -> tuple[int, int, int]:
    # Read together: a process that is put to sleep between two of them would take that for a jump.
    for _ in range(3):
        running = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
        elapsed = time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
        if time.clock_gettime_ns(time.CLOCK_MONOTONIC) - running < _BRACKET:
            break
    return wall, running, elapsed


class _KeptFile:
    """A file that the kernel makes anew every time it is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def read(self) -> bytes:
        """Its first 64 bytes; empty if it can't be read now, which may be different at the next look."""
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._descriptor, 64, 0)
        except OSError:
            self.close()
            return b""

    def close(self) -> None:
        """Close it; the next read opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()


def resumed(before: Reading, now: Reading) -> str | None:
    """What shows that time went on without this process between the two readings; None if nothing does."""
    if now.boot_id != before.boot_id:
        return "this is another boot than a moment ago"
    if now.marker != before.marker:
        return "the hypervisor says that the machine was resumed or moved"
    if abs((now.wall - now.running) - (before.wall - before.running)) > _JUMP:
        return "the wall clock jumped against the monotonic one"
    if abs((now.elapsed - now.running) - (before.elapsed - before.running)) > _JUMP:
        return "the machine slept"
    if now.running - before.running > _LATE:
        return "the process stood still"
    return None


def random_bytes(count: int) -> bytes:
    """As `os.urandom`, with the clocks mixed in.

    In two machines resumed from one snapshot the kernel's generators are in the same state, until they are
    reseeded: at once where the hypervisor notifies them (vmgenid), else some time later. The clocks differ
    sooner.
    """
    stirred = os.urandom(32) + b"".join(clock.to_bytes(8, "big") for clock in _clocks())
    return hashlib.blake2b(stirred, digest_size=count).digest()


class SnapshotWatch:
    """Calls `renew` when the process may be running twice.

    Whoever is about to do what must not be done twice calls `make_sure`, which looks unless it has looked
    since the last round. So nothing is sealed without a look. An idle process has one round a second, and one
    that seals five, with a look in each and one more before the first seal after it.
    """

    def __init__(
        self,
        renew: Callable[[], None],
        *,
        doubt: Callable[[], None] = lambda: None,
        read: Callable[[], Reading] | None = None,
    ) -> None:
        """Make it before the first nonce is drawn. `doubt` is called when the last look counts no longer."""
        self._renew = renew
        self._doubt = doubt
        self._read = read = read or Sources().reading
        self._before = read()
        self._is_sure = False
        self._rounds = Rounds(_SURE, _LOOK)

    async def run(self) -> None:
        """Look again and again, for ever."""
        self.look()  # a start may take long, and nothing is sealed yet: what this finds is not logged
        while True:
            await self._rounds.wait()
            self._is_sure = False
            self._doubt()
            self._look_and_log()

    def make_sure(self) -> None:
        """Look, if the last look counts no longer. If it raises, it is not known whether we run twice."""
        if not self._is_sure:
            self._look_and_log()
            self._is_sure = True
            self._rounds.soon()

    def _look_and_log(self) -> None:
        if (why := self.look()) is not None:
            _log.warning("nonces drawn anew", reason=why)

    def look(self) -> str | None:
        """Draw anew if something happened since the last look, and say what."""
        before, self._before = self._before, self._read()
        why = resumed(before, self._before)
        if why is not None:
            self._renew()
            # OpenSSL has a generator of its own. What is added does no harm, and counts as no entropy.
            ssl.RAND_add(random_bytes(32), 0.0)
        return why


def watched_nonces() -> tuple[Nonces, SnapshotWatch]:
    """Nonces that are drawn only after a look, and the watch that looks, which the caller has to run."""
    nonces = Nonces(random_bytes)
    watch = SnapshotWatch(nonces.renew, doubt=nonces.doubt)
    nonces.make_sure = watch.make_sure
    nonces.renew()  # what was drawn before the first look may be a clone's too
    return nonces, watch
