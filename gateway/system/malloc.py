"""Where large buffers live and when free pages go back (glibc's mallopt(3), malloc_trim(3)).

uvloop gives each TLS connection a buffer of 256 KiB of which a few pages are ever used. In the heap it
would inherit pages that others touched: 47 KiB a connection instead of 28. But it also asks for as much
for a moment at each read, and to map and unmap that every time costs more than the message. So memory is
mapped on its own while connections are made, and not otherwise: each connection's outside of the heap,
passing ones inside. Other C libraries have no such dial.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SMALL, _LARGE = 131_072, 4_194_304
_TRIM = 33_554_432


class _Mallinfo2(ctypes.Structure):
    """What mallinfo2(3) answers, in bytes and blocks."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


_libc = ctypes.CDLL(None)
_mallopt, _malloc_trim = getattr(_libc, "mallopt", None), getattr(_libc, "malloc_trim", None)
_mallinfo2 = getattr(_libc, "mallinfo2", None)
if _mallinfo2 is not None:
    _mallinfo2.restype = _Mallinfo2
if _mallopt is not None:
    # Giving memory back after each burst would cost as much again.
    _mallopt(_M_TRIM_THRESHOLD, _TRIM)
    _mallopt(_M_MMAP_THRESHOLD, _LARGE)


def map_large_blocks(*, wanted: bool) -> None:
    """Whether blocks of 128 KiB and more are mapped on their own from now on."""
    if _mallopt is not None:
        _mallopt(_M_MMAP_THRESHOLD, _SMALL if wanted else _LARGE)


def free_bytes() -> int:
    """How many bytes of the heap are free, whether their pages went back to the system or not.

    0 where the C library does not say (glibc before 2.33, and others).
    """
    return 0 if _mallinfo2 is None else int(_mallinfo2().fordblks)


def give_back_free_pages() -> None:
    """Give the system every whole page that is free, also between others (malloc_trim(3)).

    Takes 0.1 ms for each MiB that is given back, and nobody can allocate meanwhile.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)
