"""How busy the machine was with what is not ours, while a round was measured. Linux only.

The kernel counts the processor time of all processes (/proc/stat), in ticks of 10 ms; what this
process and its children used (the generator, all servers and their buses) is taken off. Interrupts
are counted, since most kernels charge them to the process that they interrupt as well: ours would
otherwise be taken off without being in it. A kernel built to measure them apart
(IRQ_TIME_ACCOUNTING) does not, and there the network's work for the load itself remains in what
others used. What the host of a virtual machine took is added: to us it makes no difference who it was.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from bench import resource_usage

_TICKS = os.sysconf("SC_CLK_TCK")


def everybody(stat: str) -> float:
    """Seconds in which processors were not idle since boot, from the text of /proc/stat."""
    name, *fields = stat.split("\n", 1)[0].split()
    if name != "cpu":
        raise ValueError("the first line of /proc/stat is not that of all processors")
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / _TICKS


@dataclass(frozen=True)
class Reading:
    """Seconds: processor time of all and of ours, and the clock."""

    all: float
    ours: float
    clock: float

    @classmethod
    def now(cls) -> Reading:
        """Ours is this process and all that descend from it."""
        return cls(
            everybody(Path("/proc/stat").read_text()),
            resource_usage.cpu_seconds(resource_usage.family(os.getpid())),
            time.monotonic(),
        )


def others(before: Reading, after: Reading) -> float:
    """Processors that others kept busy on average. Ticks are coarse: what comes out below zero is zero."""
    foreign = (after.all - before.all) - (after.ours - before.ours)
    return max(0.0, foreign / (after.clock - before.clock))
