"""What signals do while a gateway starts: a stop ends it, nothing else does.

Called in the first lines of the process, so it imports nothing but `signal`: of a start, imports take
longest. A signal without a handler would end the process on the spot, and as process 1 of a container it
would not even hear SIGTERM.
"""

from __future__ import annotations

import signal
from types import FrameType


def until_the_loop_runs() -> None:
    """Take over SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2. `gateway.app.signals` takes them over from here."""
    signal.signal(signal.SIGTERM, _leave)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _ignore)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)  # nothing is open yet


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass  # a start reads all files anyway
