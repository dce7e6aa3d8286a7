"""How busy the machine is: its processors, its memory, and the disk of the data folder.

The disk is asked in a thread, for one that hangs does not answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import psutil

_SCARCE = 0.10
"""The free share of the disk below which health warns."""
_FULL_BYTES = 16 * 2**20
"""The free bytes below which health fails: what is written in the next minutes would find no room."""


@dataclass(frozen=True, slots=True)
class Load:
    """What was found at one look."""

    cpu: float
    """From 0 to 1, since the look before."""
    load1: float
    """The load average of the last minute."""
    memory_used: float
    """From 0 to 1."""
    memory_available: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The room on the disk of a folder."""

    free: int
    """Bytes."""
    share: float
    """The share that is free, from 0 to 1."""


class SystemLoad:
    """Keeps what was found last."""

    def __init__(self, folder: Path) -> None:
        """The disk that is looked at is the one with `folder`."""
        self._folder = folder
        self._looking: asyncio.Future[Disk] | None = None
        psutil.cpu_percent(None)  # from now on it is counted
        self.load: Load | None = None
        """None before the first look."""
        self.disk: Disk | None = None
        """None before the first look, and while the disk does not answer."""

    def look(self) -> None:
        """Look at processors and memory, and ask the disk; its answer comes later, into `disk`."""
        memory = psutil.virtual_memory()
        self.load = Load(
            cpu=psutil.cpu_percent(None) / 100,
            load1=psutil.getloadavg()[0],
            memory_used=memory.percent / 100,
            memory_available=memory.available,
        )
        self._ask_disk()

    def _ask_disk(self) -> asyncio.Future[Disk]:
        """Ask the disk, unless the last question is still unanswered: one that hangs takes one thread."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(asyncio.to_thread(_disk, self._folder))  # noqa: TID251 - held here
            self._looking.add_done_callback(self._take_disk)
        return self._looking

    def _take_disk(self, looked: asyncio.Future[Disk]) -> None:
        self.disk = None if looked.cancelled() or looked.exception() is not None else looked.result()

    async def check(self) -> tuple[bool, str]:
        """Whether the disk has room: for health."""
        try:
            disk = await asyncio.shield(self._ask_disk())
        except OSError as error:
            return False, f"the disk of {self._folder} can't be asked: {error.strerror or error}"
        except asyncio.CancelledError:
            self.disk = None
            raise
        said = f"{disk.share:.0%} free, {disk.free / 2**30:.1f} GiB, on the disk of {self._folder}"
        if disk.free < _FULL_BYTES:
            return False, f"{said}: make room, for nothing more can be saved"
        return True, f"warning: {said}: make room" if disk.share < _SCARCE else said


def _disk(folder: Path) -> Disk:
    usage = psutil.disk_usage(str(folder))
    # As `df` counts it: what is reserved for root is not free.
    return Disk(usage.free, usage.free / ((usage.used + usage.free) or 1))
