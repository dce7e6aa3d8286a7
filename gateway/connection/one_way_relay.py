"""One direction of a connection: cuts a stream into packets, and passes runs of allowed ones unchanged.

It compares, and reads no more than the header of a PUBLISH. A packet that begins like the last allowed
PUBLISH gets the same verdict (`gateway.connection.fast_path`, with an example). A packet on a topic with a
cached, unconditional verdict (`gateway.connection.verdict_cache`) passes or is sealed without being decoded.
All others go to `handle`, which the two directions define (`gateway.connection.upstream`,
`gateway.connection.downstream`). A chunk that passes whole is not copied.

It counts the effort of what it does, and stops after a slice (`gateway.connection.device_budgets`): the rest
of the chunk waits until `go_on` is called.

Must not know what is allowed, nor who is on the other end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from gateway.connection.device_budgets import (
    EFFORT_CACHED,
    EFFORT_DECODED,
    EFFORT_SEALED,
    RUN_PACKETS,
    SLICE_EFFORT,
    Meter,
)
from gateway.connection.fast_path import PUBACK, FastPath, end_of_acks
from gateway.connection.verdict_cache import CachedVerdict
from gateway.connection.writes import LONG_BYTES
from gateway.mqtt.acknowledgement_order import Ledger
from gateway.mqtt.data_types import encode_length, read_length
from gateway.mqtt.errors import PacketTooLarge, ProtocolError
from gateway.mqtt.packets import Version
from gateway.policy.engine.limits import ANY_SIZE

UNFINISHED = b"unfinished"
"""What `handle` answers while a packet that costs more than a slice is not done. Compared by identity."""
_NOT_CACHED = b"not cached"
"""No cached verdict decides about the packet. Compared by identity."""


def rebuilt(data: bytes, pos: int, body_at: int, payload_at: int, payload: bytes) -> bytes:
    """The PUBLISH at `pos` with a different payload; all other bytes are as they came.

    Its variable header begins at `body_at`, its old payload at `payload_at`.
    """
    length = encode_length(payload_at - body_at + len(payload))
    return b"".join((data[pos : pos + 1], length, data[body_at:payload_at], payload))


class Relay(FastPath, ABC):
    """One direction of one connection."""

    __slots__ = (
        "_at",
        "_held",
        "_need",
        "_partial",
        "_skip",
        "answers",
        "max_size",
        "out",
        "partial_packets",
        "receiver_max_size",
        "retained_verdicts",
        "sealed",
        "stopped",
        "unchanged_max_size",
        "unprocessed",
        "verdicts",
        "version",
    )

    def __init__(
        self, version: Version, ledger: Ledger, other_ledger: Ledger, max_size: int, meter: Meter
    ) -> None:
        super().__init__(ledger, other_ledger, meter)
        self.version = version
        self.max_size = max_size
        """Longest packet that is accepted, in bytes."""
        self.unchanged_max_size = max_size
        """Longest packet that may pass unchanged, in bytes.

        Downstream it is what the device accepts; `max_size` is larger there, for a sealed message shrinks
        when it is opened. Upstream the two are the same.
        """
        self.receiver_max_size = ANY_SIZE
        """Longest packet the other side accepts, in bytes."""
        self.sealed = 0
        """Payloads sealed since the counter was last read."""
        self.verdicts: dict[bytes, CachedVerdict] = {}
        """The verdicts on the topics seen so far."""
        self.retained_verdicts = self.verdicts
        """The verdicts that also let a retained message with a payload pass.

        All of them here; in `Upstream` those on topics that are counted as retained.
        """
        self.out: list[bytes] = []
        """Bytes for the other side, in order. Whoever sends them empties the list."""
        self.answers: list[bytes] = []
        """Bytes for the side the packets came from: answers of the gateway's own. Emptied likewise."""
        self.partial_packets = 0
        """How often the beginning of a packet was kept so far, since the rest had not come.

        Unchanged between two ticks while a packet is unfinished: it is stuck.
        """
        self.stopped = False
        """Whether nothing more is read here: the sender sent DISCONNECT, or the bus is drained."""
        self._partial: bytearray | None = None
        """The packet whose end has not come, as far as it is here; None if there is none."""
        self._need = 0
        """Bytes that `_partial` must have before it is processed.

        One more than now when the packet's length is still unknown.
        """
        self._held = 0
        """Bytes that the budget counts: of `_partial`, or of a packet that came in pieces and waits."""
        self._skip = 0
        """Bytes still to come of a packet that was too large, and is left out."""
        self.unprocessed: bytes | None = None
        """Bytes that wait for this connection's turn, from `_at` on: see `go_on`."""
        self._at = 0

    @property
    def has_partial_packet(self) -> bool:
        """Whether a packet has begun and its end has not come."""
        return self._partial is not None

    @property
    def at_packet_start(self) -> bool:
        """Whether the next chunk begins a packet, and nothing waits before it."""
        return self._at_packet_start

    @abstractmethod
    def handle(self, data: bytes, pos: int, body_at: int, end: int) -> bytes | None:
        """Decide about one whole packet: None lets it pass as it came, else what goes on in its place.

        UNFINISHED: call it again with the same packet, when it is the connection's turn again. `data[pos]` is
        its first byte. Its variable header begins at `body_at`, after the Remaining Length. The next packet
        begins at `end`. Raises MqttError.
        """

    def check_beginning(self, first: int, size: int) -> None:
        """Refuse a packet by its first byte and remaining length, before the rest comes. Raises MqttError."""

    def skip_oversized(self, data: bytes, pos: int, body_at: int, end: int) -> bool:  # noqa: ARG002 - overridden
        """Whether to skip a packet over `max_size`, of which `data` may hold only the beginning.

        False: not decidable yet, keep the bytes and call again with more. Raises MqttError: it is refused.
        """
        raise PacketTooLarge(f"a packet that is longer than the {self.max_size:,} bytes allowed here")

    def feed(self, chunk: bytes) -> None:
        """Take a chunk. Raises MqttError: what `out` and `answers` hold is valid and must still be sent."""
        if self.takes_fast_path(chunk):
            self.out.append(chunk)
            return
        pos = 0
        if self._partial is not None and len(chunk) > LONG_BYTES and not self.meter.work.iteration_is_full:
            pos = self._complete(chunk)
        if self.stopped:
            return
        if not self._at_packet_start:
            ready = self._gather(chunk[pos:])
            if ready is None:
                return
            chunk, pos = ready, 0
        if self.meter.work.iteration_is_full:
            self._wait(chunk, pos)
        else:
            self._run(chunk, pos)

    def go_on(self) -> None:
        """Process a slice of what waits: it is this connection's turn. Raises MqttError, as `feed`."""
        rest = self.unprocessed
        if rest is not None:
            self.unprocessed = None
            self._at_packet_start = True
            self._run(rest, self._at)

    def release(self) -> None:
        """Drop what is held here: the connection ends."""
        self._partial = self.unprocessed = None
        self._let_go()

    def _complete(self, chunk: bytes) -> int:
        """Process the packet whose end this long chunk brings: where the next begins; 0 if it brings none.

        `_gather` would copy all of the chunk to the few bytes before it.
        """
        partial = self._partial or b""
        missing = self._need - len(partial)
        if missing > len(chunk):
            return 0
        self._hold(missing)
        packet = b"".join((partial, chunk[:missing]))
        self._partial = None
        self._at_packet_start = True
        self._run(packet, 0)
        return missing

    def _gather(self, chunk: bytes) -> bytes | None:
        """What can be processed now that this chunk is there; None for nothing."""
        if self.unprocessed is not None:
            # Reading is paused; this chunk was already in flight.
            self.unprocessed = self.unprocessed[self._at :] + chunk
            self._at = 0
            return None
        if self._partial is not None:
            self._hold(len(chunk))
            self._partial += chunk
            if len(self._partial) < self._need:
                return None
            chunk = bytes(self._partial)
            self._partial = None
        elif self._skip:
            # The rest of a packet that was too large.
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            if self._skip:
                return None
            chunk = chunk[skipped:]
        self._at_packet_start = True
        return chunk

    def _run(self, chunk: bytes, pos: int) -> None:  # noqa: C901, PLR0912, PLR0915 - a call would cost as much as a packet
        # Process packets from `pos` to the end of the chunk or of the slice; what is left is kept or waits.
        # `start` is where the bytes begin that are not in `out` yet, `began` where this call began.
        end = len(chunk)
        start = began = pos
        other_ledger = self.other_ledger
        meter = self.meter
        messages_before = meter.messages
        effort_before = meter.effort
        effort_max = min(effort_before + SLICE_EFFORT, meter.effort_left)
        acknowledged = 0
        head, alike_size = self._head, self._size
        stop = min(end, pos + alike_size * RUN_PACKETS) if alike_size else end
        try:
            while pos < stop:
                if chunk.startswith(head, pos) and pos + alike_size <= end:
                    nxt = self._end_of_run(chunk, pos, stop)
                    if nxt > pos:
                        passed = (nxt - pos) // alike_size
                        meter.messages += passed
                        if self._id_at:
                            self.ledger.passed1 += passed
                        pos = nxt
                        continue
                if chunk.startswith(PUBACK, pos) and not other_ledger.waiting_answers and pos + 4 <= end:
                    # In its short form, and no answer of ours waits for it.
                    if acknowledged == RUN_PACKETS:
                        break
                    nxt = end_of_acks(chunk, pos, min(end, pos + 4 * (RUN_PACKETS - acknowledged)))
                    other_ledger.acked1 += nxt - pos >> 2
                    acknowledged += nxt - pos >> 2
                    pos = nxt
                    continue
                if chunk[pos] < 0x10:
                    # From its first byte, so that the answer does not depend on how the stream is cut.
                    raise ProtocolError("a packet of the reserved type")
                # `gateway.mqtt.framing.packet_at`, without the call.
                length = read_length(chunk, pos + 1, end)
                if length is None:
                    self._keep(chunk, pos, end - pos + 1)
                    break
                size, body_at = length
                nxt = body_at + size
                if nxt - pos > self.max_size:
                    if not self.skip_oversized(chunk, pos, body_at, end):
                        self._keep(chunk, pos, end - pos + 1)
                        break
                    meter.effort += EFFORT_DECODED
                    replacement: bytes | None = b""
                    if nxt > end:
                        self._skip = nxt - end
                        self._at_packet_start = False
                        nxt = end
                elif nxt > end:
                    self.check_beginning(chunk[pos], size)
                    self._keep(chunk, pos, nxt - pos)
                    break
                elif meter.effort > effort_max:
                    break
                else:
                    replacement = self._by_cached_verdict(chunk, pos, body_at, nxt)
                    if replacement is _NOT_CACHED:
                        # One more for every 4,096 bytes.
                        meter.effort += EFFORT_DECODED + (nxt - pos >> 12)
                        replacement = self.handle(chunk, pos, body_at, nxt)
                        if replacement is UNFINISHED:
                            break
                    head, alike_size = self._head, self._size
                    stop = min(end, nxt + alike_size * RUN_PACKETS) if alike_size else end
                if replacement is not None:
                    if pos > start:
                        self.out.append(chunk[start:pos])
                    if replacement:
                        self.out.append(replacement)
                    start = nxt
                pos = nxt
                if self.stopped:
                    break
        finally:
            # Also when a packet after them is refused: these were allowed.
            if pos > start:
                self.out.append(chunk[start:pos])
            # An acknowledgement is no message, but uses up the device's budget for this second as one does.
            meter.messages_left -= acknowledged
            passed = meter.messages - messages_before + acknowledged
            # One more for every 8 packets that passed, and for every 2,048 bytes looked at: for the loop's
            # iteration alone, and not for the device's second.
            meter.work.add(meter.effort - effort_before + (passed >> 3) + (pos - began >> 11))
        if pos < end and self._at_packet_start and not self.stopped:
            self._wait(chunk, pos)
        elif self._held and self._partial is None:
            self._let_go()

    def _by_cached_verdict(self, data: bytes, pos: int, body_at: int, end: int) -> bytes | None:
        """What `handle` would return for a PUBLISH on a topic seen before, without decoding the packet.

        Only for QoS 0 and 1 without properties. `_NOT_CACHED` leaves the packet to `handle`.
        """
        first = data[pos]
        if first & 0xF5 == 0x30:  # a PUBLISH below QoS 2, not retained
            verdicts = self.verdicts
        elif first & 0xF4 == 0x30:  # the same, retained
            verdicts = self.retained_verdicts
        else:
            return _NOT_CACHED
        if end - body_at < 2 or end - pos > self.unchanged_max_size:
            return _NOT_CACHED
        at = body_at + 2 + (data[body_at] << 8 | data[body_at + 1])
        cached = verdicts.get(data[body_at + 2 : at])
        if cached is None or cached.conditional or not (cached.passes_always or cached.sealer):
            return _NOT_CACHED
        payload_at = at
        if first & 2:
            payload_at += 2
        if self.version == Version.V5:
            payload_at += 1
        if (
            # An empty retained message clears its topic.
            (payload_at >= end and (payload_at > end or first & 1))
            or (first & 2 and not (data[at] or data[at + 1]))
            or (self.version == Version.V5 and data[payload_at - 1])
        ):
            return _NOT_CACHED
        replacement: bytes | None = None
        if cached.sealer is not None:
            if payload_at == end:
                return _NOT_CACHED  # an empty payload that clears nothing: rare, and `handle` seals it
            replacement = rebuilt(data, pos, body_at, payload_at, cached.sealer.seal(data[payload_at:end]))
            if len(replacement) > self.receiver_max_size:
                return _NOT_CACHED
            self.sealed += 1
            # One more for every 256 bytes.
            self.meter.effort += EFFORT_SEALED + (end - payload_at >> 8)
        else:
            self._keep_header(data, pos, at, payload_at, end)
        self.meter.messages += 1
        self.meter.effort += EFFORT_CACHED
        if first & 2:
            self.ledger.passed1 += 1
        return replacement

    def _wait(self, chunk: bytes, pos: int) -> None:
        """Keep a chunk from `pos` on until it is this connection's turn."""
        self.unprocessed, self._at = chunk, pos
        self._at_packet_start = False

    def _keep(self, chunk: bytes, pos: int, need: int) -> None:
        """Keep the beginning of a packet until `need` bytes of it are there."""
        self._let_go()
        self._hold(len(chunk) - pos)
        self._partial = bytearray(chunk[pos:])
        self._need = need
        self._at_packet_start = False
        self.partial_packets += 1

    def _hold(self, size: int) -> None:
        meter = self.meter
        self._held += size
        meter.budget.hold(size, meter.work)

    def _let_go(self) -> None:
        if not self._held:
            return
        meter = self.meter
        meter.budget.held -= self._held
        meter.work.held -= self._held
        self._held = 0

    def acknowledged(self, data: bytes, pos: int, end: int, qos: int) -> bytes | None:
        """A PUBACK or PUBREC passes, followed by answers of ours that had to wait for it."""
        due = self.other_ledger.acknowledged(qos)
        return data[pos:end] + due if due else None
