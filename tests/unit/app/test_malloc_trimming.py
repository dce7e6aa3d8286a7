"""That free memory goes back to the system, with the real C library."""

from __future__ import annotations

import ctypes
from pathlib import Path

from gateway.app.malloc_trimming import MallocTrimming

MIB = 1 << 20
LIBRARY = ctypes.CDLL(None)
LIBRARY.malloc.restype = ctypes.c_void_p
LIBRARY.free.argtypes = (ctypes.c_void_p,)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


class Blocks:
    """Used memory with a last block above it, so that the C library by itself keeps what is freed below."""

    def __init__(self, mib: int) -> None:
        self.blocks = [LIBRARY.malloc(64_000) for _ in range(mib * 16)]
        for block in self.blocks:
            ctypes.memset(block, 1, 64_000)
        self.last = LIBRARY.malloc(64_000)

    def free(self) -> None:
        for block in self.blocks:
            LIBRARY.free(block)


def test_free_pages_go_back_each_time_enough_bytes_became_free_and_no_sooner():
    """Pages that went back count as free too: what they say is not that there is something to give back."""
    trimming, last = MallocTrimming(), []
    for _ in range(2):
        blocks = Blocks(31)
        trimming.look()
        used = resident()
        blocks.free()
        assert used - resident() < 8 * MIB, "it goes back by itself: this test shows nothing"
        trimming.look()
        assert used - resident() > 24 * MIB
        last.append(blocks.last)
    few = Blocks(8)
    trimming.look()
    used = resident()
    few.free()
    trimming.look()
    assert used - resident() < 4 * MIB, "too few to be worth the wait"
    for block in (*last, few.last):
        LIBRARY.free(block)
