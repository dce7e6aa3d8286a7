"""What a server process has used: CPU time in nanosecond resolution, and memory. Linux only.

The clock of a foreign process is the kernel's own (clock_getcpuclockid(3)): the scheduler's sum over
all threads, dead ones included. The ticks in /proc/<pid>/stat count in 10 ms, too coarse for rounds
of a second.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import time
from collections.abc import Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)


def _clock_of(pid: int) -> int:
    clock = ctypes.c_int()
    error = _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, f"no CPU clock for process {pid}: has it ended?")
    return clock.value


def family(pid: int) -> list[int]:
    """The process and all that descend from it: a server may fork its workers."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of these processes since they started, in seconds."""
    return sum(time.clock_gettime(_clock_of(pid)) for pid in pids)


def memory_kib(pids: Sequence[int]) -> float:
    """Proportional set size in KiB: a page shared by n processes counts for 1/n in each."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
