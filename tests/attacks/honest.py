"""The honest device: it pings and publishes on time, whatever was answered, in a process of its own.

What is measured begins when a packet was due, so that one long wait is seen as the many short ones that it
held up.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from harness import raw

EVERY = 0.02
"""Seconds between two pings; as many messages of QoS 1."""
_PATIENCE = 4.0
"""Seconds for which what is unanswered at the end of a window is still waited for."""


@dataclass
class Noticed:
    """What the device noticed in a window, in seconds."""

    pings: list[float] = field(default_factory=list)
    messages: list[float] = field(default_factory=list)
    lost: int = 0
    """How many times its connection ended."""


class _Device:
    def __init__(self, port: int, ca: str, device: str, secret: str) -> None:
        self._tls = ssl.create_default_context(cafile=ca)
        self._port, self._device, self._secret = port, device, secret
        self._packet_id = 0
        self.noticed = Noticed()
        self._pings: deque[float] = deque()
        self._messages: deque[float] = deque()

    def join(self) -> None:
        self._link = raw.Raw(self._port, self._tls, timeout=30)
        self._link.send(raw.connect("honest", v5=True, username=self._device, password=self._secret))
        answer = self._link.read(30)
        if answer[3:4] != b"\0":
            raise ConnectionError(f"the honest device was refused: {answer.hex()}")

    @property
    def waits(self) -> bool:
        return bool(self._pings or self._messages)

    def say(self, due: float) -> None:
        self._packet_id = self._packet_id % 65_535 + 1
        message = raw.publish(f"{self._device}/x", b"ping", qos=1, packet_id=self._packet_id, v5=True)
        self._pings.append(due)
        self._messages.append(due)
        self._link.send(raw.PINGREQ, message)

    def hear(self, seconds: float) -> None:
        """Take in one answer, if one comes in time. Raises ConnectionError."""
        with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
            packet = self._link.read(seconds)
            now = time.monotonic()
            if not packet:
                raise ConnectionError("the gateway ended the connection")
            if packet[0] == 0xD0:
                self.noticed.pings.append(now - self._pings.popleft())
            elif packet[0] == 0x40:
                self.noticed.messages.append(now - self._messages.popleft())

    def over(self) -> Noticed:
        """The window ends: what is still unanswered counts as long as it waited."""
        now, noticed = time.monotonic(), self.noticed
        noticed.pings += [now - due for due in self._pings]
        noticed.messages += [now - due for due in self._messages]
        self.noticed = Noticed()
        return noticed

    def again(self) -> None:
        self.noticed.lost += 1
        self.noticed.pings += [time.monotonic() - due for due in self._pings]
        self._pings.clear()
        self._messages.clear()
        self._link.close()
        self.join()


def _serve(ask: Connection, port: int, ca: str, device: str, secret: str) -> None:
    one, parent = _Device(port, ca, device, secret), os.getppid()
    one.join()
    ask.send(None)
    due, asked, end = time.monotonic(), False, 0.0
    while os.getppid() == parent:
        try:
            now = time.monotonic()
            if asked and (now > end or not one.waits):
                ask.send(one.over())
                asked, due = False, now
            if not asked and now >= due:
                one.say(due)
                due += EVERY
            one.hear(max(0.001, min(due - now, EVERY)))
        except OSError:
            one.again()
        if not asked and ask.poll():
            if ask.recv() == "stop":
                return
            # What is new would only be answered after the window.
            asked, end = True, time.monotonic() + _PATIENCE


class Honest:
    """It, as it is used."""

    def __init__(self, port: int, ca: str, device: str, secret: str) -> None:
        context = mp.get_context("spawn")
        self._ask, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, port, ca, device, secret), daemon=True)
        self._process.start()
        if not self._ask.poll(30):
            raise RuntimeError("the honest device did not get in")
        self._ask.recv()

    def begin(self) -> None:
        """A window begins."""
        self.end()

    def end(self) -> Noticed:
        """The window is over: what was noticed in it."""
        self._ask.send("window")
        if not self._ask.poll(_PATIENCE + 40):
            raise RuntimeError("the honest device says nothing any more")
        noticed: Noticed = self._ask.recv()
        return noticed

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._ask.send("stop")
        self._process.join(2)
        self._process.kill()
