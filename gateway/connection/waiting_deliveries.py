"""Deliveries that wait in the gateway: their device reads too slowly, or has used up its budget.

The bus is read all the same. What the gateway left unread the bus would queue, bounded by the number of
packets but not by their size (docs/adr/0021): sixty connections that never read would cost it gigabytes, at
the expense of honest clients. So deliveries wait here, in bytes that count as the device's own. Above the
bound messages of QoS 0 are dropped, as a bus drops them when its queue is full; all else is kept, and has a
bound at which the connection ends.

The bytes are kept as they came, only cut into whole packets: what may be delivered is decided when the device
reads again, by the rules in force then. Must not know of a packet more than its first byte and its length.
"""

from __future__ import annotations

from collections import deque

from gateway.connection.device_budgets import Meter
from gateway.mqtt.data_types import read_length
from gateway.mqtt.errors import LimitExceeded
from gateway.mqtt.reason_codes import Reason

_AT_ONCE = 65_536
"""Bytes that `take` returns, roughly: at least one packet, however long."""
_PIECE = 64
"""Bytes counted for each piece beside its own: a bus that sends small packets one by one makes many."""
_CHUNK = 4
"""Effort counted for each chunk, whatever is in it: a busy bus sends its messages one by one."""


class WaitingDeliveries:
    """The deliveries that wait for one connection, in the order in which they came."""

    __slots__ = ("_begun", "_budget", "_held", "_pieces", "_process_work", "_skip", "dropped")

    def __init__(self, meter: Meter, skip: int = 0) -> None:
        """`skip`: how many bytes are still to come of a packet that is left out."""
        self._budget = meter.budget
        self._process_work = meter.work
        """What all connections of the process did in this iteration of the loop, and hold."""
        self._pieces: deque[bytes] = deque()
        self._begun = bytearray()
        """The packet whose end has not come, as far as it is here."""
        self._skip = skip
        self._held = 0
        """Bytes that the budget counts for all this."""
        self.dropped = 0
        """Messages of QoS 0 that found no room. Whoever counts them resets it to 0."""

    def __bool__(self) -> bool:
        """Whether a whole packet waits."""
        return bool(self._pieces)

    def begin(self, begun: bytes | bytearray) -> None:
        """Start with the beginning of a packet that came before. To be called first."""
        self._begun += begun
        self._hold(len(begun))

    def add(self, chunk: bytes) -> None:
        """Keep what came from the bus. Raises MqttError: no room is left, or it is not MQTT."""
        pos, end = min(self._skip, len(chunk)), len(chunk)
        self._skip -= pos
        room = self._budget.room(self._process_work)
        packets = 0
        if self._begun and pos < end:
            pos = self._go_on(chunk, pos, room)
        start = pos
        while pos < end:
            length = read_length(chunk, pos + 1, end)
            if length is None:
                break
            nxt = length[0] + length[1]
            packets += 1
            if chunk[pos] & 0xF6 == 0x30 and nxt - start + _PIECE > room:  # a PUBLISH of QoS 0
                room -= self._keep(chunk[start:pos])
                self.dropped += 1
                self._skip = max(0, nxt - end)
                start = pos = min(nxt, end)
            elif nxt > end:
                break
            else:
                pos = nxt
        self._keep(chunk[start:pos])
        if pos < end:
            self._hold(end - pos)
            self._begun += chunk[pos:]
        self._charge(_CHUNK + (packets >> 2) + (end >> 12))

    def take(self) -> bytes:
        """Remove and return the next whole packets; empty if there are none."""
        pieces: list[bytes] = []
        size = 0
        while self._pieces and size < _AT_ONCE:
            pieces.append(self._pieces.popleft())
            size += len(pieces[-1])
        self._let_go(size + _PIECE * len(pieces))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> tuple[bytes, int]:
        """Stop holding anything. Returns the incomplete packet so far, and how many bytes to skip."""
        self._let_go(self._held)
        return bytes(self._begun), self._skip

    def _go_on(self, chunk: bytes, pos: int, room: int) -> int:
        """Add to the incomplete packet. Returns where in the chunk the next packet begins."""
        begun, end = self._begun, len(chunk)
        while (length := read_length(begun, 1, len(begun))) is None:
            if pos == end:
                return pos
            self._hold(1)
            begun.append(chunk[pos])
            pos += 1
        missing = length[0] + length[1] - len(begun)
        came = min(missing, end - pos)
        if begun[0] & 0xF6 == 0x30 and missing + _PIECE > room:
            self._skip = missing - came
            self.dropped += 1
            self._let_go(len(begun))
            begun.clear()
            return pos + came
        self._hold(came)
        begun += chunk[pos : pos + came]
        if came == missing:
            self._pieces.append(bytes(begun))
            self._let_go(len(begun))
            self._hold(len(begun) + _PIECE)
            begun.clear()
        return pos + came

    def _keep(self, piece: bytes) -> int:
        if not piece:
            return 0
        self._pieces.append(piece)
        self._hold(len(piece) + _PIECE)
        return len(piece) + _PIECE

    def _charge(self, effort: int) -> None:
        """Count effort against the device's second. Raises LimitExceeded when that is used up."""
        self._process_work.add(effort)
        self._budget.waiting_effort_left -= effort
        if self._budget.waiting_effort_left < 0:
            raise LimitExceeded(
                "the bus has more for the device than the gateway can look at, and it takes too little of it",
                Reason.QUOTA_EXCEEDED,
            )

    def _hold(self, size: int) -> None:
        self._held += size
        self._budget.waiting += size
        self._budget.hold(size, self._process_work)

    def _let_go(self, size: int) -> None:
        self._held -= size
        self._budget.waiting -= size
        self._budget.held -= size
        self._process_work.held -= size
