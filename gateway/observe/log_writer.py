"""Writes log lines in a thread of its own, so that whoever reads them slowly holds up nothing.

What waits to be written is bounded; lines that find no room are dropped and counted, and the count is a line
of its own once lines are read again. Must not know what a line says.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

WAITING_MAX = 1_048_576
"""Characters that wait at most, what is being written among them."""
_PAUSE_SECONDS = 0.01
"""After each write: of many lines the thread writes some together, for each time that it wakes it takes the
interpreter from the event loop."""
_EXIT_SECONDS = 2.0
"""How long the end of the process waits for what is to be written."""


class LogWriter:
    """Writes lines to a file descriptor, which it does not close."""

    def __init__(self, descriptor: int, dropped_line: Callable[[int], str]) -> None:
        """`dropped_line` makes the line that says how many were dropped."""
        self._descriptor = descriptor
        self._dropped_line = dropped_line
        self._waiting: deque[str] = deque()
        self._size = 0
        self._missed = 0
        self.dropped = 0
        """How many lines were dropped since the start."""
        # A reentrant lock: the garbage collector may run while it is held, and log a warning.
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> None:
        """Have this line written, if there is room for it."""
        with self._changed:
            if self._size + len(line) > WAITING_MAX:
                self._missed += 1
                self.dropped += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
                atexit.register(self.flush, _EXIT_SECONDS)
                self._flush_before_tracebacks()
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Wait until all is written, for `seconds` at most."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._size or self._missed), seconds)

    def _flush_before_tracebacks(self) -> None:
        """Have the lines that wait written before the traceback of a crash, which Python writes in pieces."""
        show = sys.excepthook

        def flush_and_show(
            kind: type[BaseException], error: BaseException, traceback: TracebackType | None
        ) -> None:
            self.flush(_EXIT_SECONDS)
            show(kind, error, traceback)

        sys.excepthook = flush_and_show

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._missed)
                lines = "".join(self._waiting)
                self._waiting.clear()
                if self._missed:
                    # After the lines that filled the room, and before those that find room from now on.
                    line = self._dropped_line(self._missed)
                    self._missed = 0
                    self._size += len(line)
                    lines += line
            self._put(lines)
            with self._changed:
                self._size -= len(lines)
                self._changed.notify_all()
            time.sleep(_PAUSE_SECONDS)

    def _put(self, lines: str) -> None:
        data = memoryview(lines.encode("utf-8", "backslashreplace"))
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Another process that has the same terminal or pipe has made it non-blocking.
                select.select([], [self._descriptor], [])
            except (OSError, ValueError):
                return  # there is nowhere left to say so
