"""Standard input, output and error of a command: there in any case, and told when the answer can't leave.

A shell may close them (`>&-`), and a disk may be full. Must not know what is printed.
"""

from __future__ import annotations

import os
import sys


class Unwritten(OSError):
    """Standard output takes no more."""


def open_those_closed() -> None:
    """Have all three: else the next file that is opened gets the number of one, and its text."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))


def discard_output() -> None:
    """What is still to be written to standard output is not: the end of the process would try once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
