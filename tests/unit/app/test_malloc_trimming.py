"""That free memory goes back to the system, with the real C library."""

from __future__ import annotations

import ctypes
from pathlib import Path

from gateway.app.malloc_trimming import MallocTrimming

MIB = 1 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


def leave_free_pages_below_used_ones(library: ctypes.CDLL) -> int:
    """31 MiB that are free, below a block that is used. Gives that block."""
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = (ctypes.c_void_p,)
    blocks = [library.malloc(64_000) for _ in range(512)]
    for block in blocks:
        ctypes.memset(block, 1, 64_000)
    used = library.malloc(64_000)
    for block in blocks:
        library.free(block)
    return used


def test_free_pages_go_back_once_many_connections_have_ended():
    """They lie below what is in use, so that the C library by itself keeps them."""
    library, ended = ctypes.CDLL(None), [0]
    trimming = MallocTrimming(lambda: ended[0])
    used = leave_free_pages_below_used_ones(library)
    try:
        before = resident()
        ended[0] = 255
        trimming.look()
        assert before - resident() < 8 * MIB, "too few to be worth the wait"
        ended[0] = 256
        trimming.look()
        assert before - resident() > 24 * MIB
        before = resident()
        trimming.look()
        assert before - resident() < 8 * MIB
    finally:
        library.free(used)
