"""The order of acknowledgements (MQTT 5, 4.6), kept by counting.

A receiver acknowledges PUBLISH packets in the order in which they came [MQTT-4.6.0-2, -3]. The other side
keeps that order for the messages that pass to it; answers of the gateway's own have to take their place
between. Counting is enough for that: an answer may go once all messages of its QoS that passed before it are
acknowledged. No packet identifiers are stored, so nothing grows.
"""

from __future__ import annotations

from collections import deque

from gateway.mqtt.errors import LimitExceeded
from gateway.mqtt.reason_codes import Reason


class Ledger:
    """Messages of one direction: how many passed, how many were acknowledged, and which of our answers wait.

    The number in a name is the QoS.
    """

    __slots__ = (
        "_queues",
        "acked1",
        "acked2",
        "completed",
        "passed1",
        "passed2",
        "released",
        "waiting_answers",
    )

    def __init__(self) -> None:
        self.passed1 = self.passed2 = 0
        """PUBLISH packets that passed to the other side."""
        self.acked1 = self.acked2 = 0
        """PUBACKs, and PUBRECs, that came back for them."""
        self.released = 0
        """PUBRELs that passed."""
        self.completed = 0
        """PUBCOMPs that came back for them."""
        self.waiting_answers = 0
        """How many answers of ours wait."""
        # By QoS: after how many acknowledgements an answer may go, and the answer. Rarely needed.
        self._queues: dict[int, deque[tuple[int, bytes]]] | None = None

    def passed(self, qos: int) -> None:
        """A message of this QoS passed."""
        if qos == 1:
            self.passed1 += 1
        elif qos == 2:
            self.passed2 += 1

    def answer(self, qos: int, packet: bytes, most: int) -> bytes:
        """Our answer to a message that did not pass: `packet` if it may go now, else empty, and it waits.

        Raises LimitExceeded when `most` answers wait already.
        """
        first = self.passed1 if qos == 1 else self.passed2
        acked = self.acked1 if qos == 1 else self.acked2
        if acked >= first:
            return packet
        if self.waiting_answers >= most:
            raise LimitExceeded("too many unacknowledged messages", Reason.RECEIVE_MAXIMUM_EXCEEDED)
        if self._queues is None:
            self._queues = {1: deque(), 2: deque()}
        self._queues[qos].append((first, packet))
        self.waiting_answers += 1
        return b""

    def acknowledged(self, qos: int) -> bytes:
        """A message of this QoS was acknowledged. Returns the answers of ours that may go now."""
        if qos == 1:
            self.acked1 += 1
            acked = self.acked1
        else:
            self.acked2 += 1
            acked = self.acked2
        if not self.waiting_answers or self._queues is None:
            return b""
        queue = self._queues[qos]
        due: list[bytes] = []
        while queue and queue[0][0] <= acked:
            due.append(queue.popleft()[1])
        self.waiting_answers -= len(due)
        return b"".join(due)
