"""The heartbeat of one connection: the PINGREQs to the bus, the gateway's own among them, and their answers.

The bus closes a connection on which it hears nothing for one and a half times the Keep Alive
[MQTT-3.1.2-22]. What the device sends to the gateway itself the bus does not hear: then the gateway sends a
PINGREQ in place of the device. And by a PINGREQ the gateway learns that the bus has answered everything
before it, for answers come in order. Time comes as ticks of a second.
"""

from __future__ import annotations

REST_MAX = 60
"""Seconds for which a connection rests without a tick, at most."""


class Heartbeat:
    """Counts the PINGREQs that went to the bus and the PINGRESPs that came from it."""

    __slots__ = ("_last", "_own", "_pings_answered", "_pings_sent", "heard", "keep_alive", "silent")

    def __init__(self, keep_alive: int) -> None:
        self.keep_alive = keep_alive
        """Seconds; 0 for none."""
        self.heard = False
        """Whether the device has sent something since the bus last got anything."""
        self.silent = 0
        """Seconds since something was last sent to the bus. Whoever sends something resets these two."""
        self._pings_sent = 0
        """PINGREQs that went to the bus, the gateway's own too."""
        self._pings_answered = 0
        self._own = 0
        """PINGREQs of the gateway's own that are not answered."""
        self._last = 0
        """Number of the PINGRESP that ends draining; 0 while not draining."""

    def device_pinged(self) -> None:
        """A PINGREQ of the device goes to the bus."""
        self._pings_sent += 1

    def bus_ponged(self) -> bool:
        """A PINGRESP came from the bus: whether it answers the device, and not the gateway."""
        self._pings_answered += 1
        if self.is_drained:
            return False
        own = self._own > 0
        self._own -= own
        return not own

    def tick(self, seconds: int = 1) -> bool:
        """This many seconds have passed: whether the gateway has to send a PINGREQ. It counts as sent.

        More than one after a rest without ticks. Whatever ends a rest is followed by a tick within a second:
        if it went to the bus, `silent` is 0, and the seconds of the rest before it do not count.
        """
        self.silent += seconds if self.silent else 1
        due = self.heard and self.keep_alive and self.silent * 2 >= self.keep_alive
        if due:
            self._own += 1
            self._pings_sent += 1
            self.heard, self.silent = False, 0
        return bool(due)

    @property
    def seconds_of_rest(self) -> int:
        """After how many seconds a tick matters again, if nothing comes: for a PINGREQ, or for `why_lost`."""
        if not self.keep_alive:
            return REST_MAX
        if not self.silent:
            return 1  # `tick` counts a single second when `silent` is 0
        if self.heard:
            return (self.keep_alive + 1) // 2 - self.silent
        taken_for_gone = (3 * self.keep_alive + 1) // 2 - 1 - self.silent
        return taken_for_gone if taken_for_gone > 0 else REST_MAX

    @property
    def why_lost(self) -> str:
        """Why the bus closed, for the log; by ticks, which may differ from its clock by a second."""
        if self.keep_alive and 2 * (self.silent + 1) >= 3 * self.keep_alive:
            silent = f"nothing was heard for 1.5 times its keep alive of {self.keep_alive:,} s"
            return f"the bus ended the session: {silent}"
        return "the bus closed the connection"

    def drain(self) -> None:
        """The PINGREQ that ends draining goes to the bus: see `is_drained`."""
        self._pings_sent += 1
        self._last = self._pings_sent

    @property
    def all_answered(self) -> bool:
        """Whether the bus has answered each PINGREQ."""
        return self._pings_sent == self._pings_answered

    @property
    def is_drained(self) -> bool:
        """Whether the bus has answered the PINGREQ of `drain`, and so everything before it."""
        return 0 < self._last <= self._pings_answered
