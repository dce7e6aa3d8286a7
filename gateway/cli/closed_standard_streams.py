"""Standard input, output and error of a command, where a shell has closed one or a disk is full.

Must not know what is printed.
"""

from __future__ import annotations

import os
import sys


class Unwritten(OSError):
    """Standard output takes no more."""


def open_those_closed() -> None:
    """Open /dev/null for each that is closed: else the next file opened gets its number, and its text."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))


def discard_output() -> None:
    """Drop what is still to be written to standard output, which Python would try again when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
