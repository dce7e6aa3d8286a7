"""The order of acknowledgements (MQTT 5, 4.6), kept by counting.

A receiver acknowledges PUBLISH packets in the order in which they came [MQTT-4.6.0-2, -3]. The other
side keeps that order for what it gets; what the gateway answers itself must take its place between.
Two counts a QoS are enough for that: an answer may go once all messages that passed before it are
acknowledged. No packet identifiers are stored, so nothing grows.
"""

from __future__ import annotations

from gateway.mqtt.errors import LimitExceeded
from gateway.mqtt.reasons import Reason


class Ledger:
    """What passed in one direction, what was acknowledged, and which of our answers wait."""

    __slots__ = ("acked1", "acked2", "completed", "held", "passed1", "passed2", "released")

    def __init__(self) -> None:
        self.passed1 = 0
        self.passed2 = 0
        self.acked1 = 0
        """PUBACKs."""
        self.acked2 = 0
        """PUBRECs."""
        self.released = 0
        """PUBRELs that went on."""
        self.completed = 0
        """PUBCOMPs that came back."""
        # (QoS, count of messages that go first, the answer). A tuple while empty: most stay so.
        self.held: tuple[tuple[int, int, bytes], ...] = ()

    def passed(self, qos: int) -> None:
        """A message of this QoS went on."""
        if qos == 1:
            self.passed1 += 1
        elif qos == 2:
            self.passed2 += 1

    def answer(self, qos: int, packet: bytes, most: int) -> bytes:
        """Our answer to a message that did not go on: `packet` if its turn is now, else nothing yet.

        Raises LimitExceeded when `most` answers wait already.
        """
        first = self.passed1 if qos == 1 else self.passed2
        acked = self.acked1 if qos == 1 else self.acked2
        if acked >= first:
            return packet
        if len(self.held) >= most:
            raise LimitExceeded("too many unacknowledged messages", Reason.RECEIVE_MAXIMUM_EXCEEDED)
        self.held = (*self.held, (qos, first, packet))
        return b""

    def acknowledged(self, qos: int) -> bytes:
        """A message of this QoS was acknowledged: the answers of ours whose turn is now."""
        if qos == 1:
            self.acked1 += 1
        else:
            self.acked2 += 1
        if not self.held:
            return b""
        due: list[bytes] = []
        waiting: list[tuple[int, int, bytes]] = []
        for held in self.held:
            if held[1] <= (self.acked1 if held[0] == 1 else self.acked2):
                due.append(held[2])
            else:
                waiting.append(held)
        self.held = tuple(waiting)
        return b"".join(due)
