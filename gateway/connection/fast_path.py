"""The fast path of a relay: what begins like the last allowed message passes without being decoded.

A device sends the same kind of message over and over. Once one was allowed, its verdict holds for all that
begin with the same bytes: type and flags, Remaining Length, topic, and in MQTT 5 the properties. So this
header is remembered, and others are compared with it. A sensor in MQTT 3.1.1 sends `21.5` to `t/1` at QoS 1,
packet identifier 7:

    32 0b  00 03 74 2f 31  00 07  32 31 2e 35
    header topic           id     payload

It was decoded and allowed, and passed unchanged. Of its 13 bytes these are remembered:

    _head   32 0b 00 03 74 2f 31    all before the packet identifier, which is different each time
    _id_at  7                       where that stands; 0 at QoS 0, whose head goes up to the payload
    _tail                           from there to the payload: the properties in MQTT 5, nothing here
    _size   13                      how long the packet is: so says the Remaining Length in the head

The next chunk is `32 0b 00 03 74 2f 31 00 08 32 31 2e 36`. It starts with `_head` and has `_size` bytes, its
identifier is not 0, which no packet may have, and `_tail` follows. So it is one whole PUBLISH with the same
verdict: it is counted as a message, and as one whose PUBACK is to come, and the chunk itself is written to
the bus. A chunk of 26 bytes is compared at 0 and at 13. What begins with `32 0c` has a longer payload: it is
decoded, and its header is remembered in place of this one.

The payload makes no difference: a verdict that depends on QoS, retain flag or size is not remembered
(`passes_always` in `gateway.connection.verdict_cache`), and whatever changes verdicts calls `forget_header`.
The other packet that comes once for each message is the PUBACK, `40 02` and the identifier: it passes unless
an answer of ours has to follow it (`gateway.mqtt.acknowledgement_order`).
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from gateway.connection.device_budgets import Meter
from gateway.mqtt.acknowledgement_order import Ledger
from gateway.mqtt.packets import Publish

_REMEMBERED_MAX = 1024
"""Longest header that is remembered, in bytes."""


PUBACK = b"\x40\x02"
"""How a PUBACK in its short form begins: four bytes, and all is well."""
_ALIKE_MAX = 32
"""Messages of one chunk that may pass together whether or not it is the connection's turn."""
_TOGETHER = 16
"""Messages of a long run that are compared at once: that costs a quarter of comparing each by itself."""


class FastPath:
    """The header of the last allowed message of one direction, and the comparison with it."""

    __slots__ = ("_at_packet_start", "_head", "_id_at", "_size", "_tail", "ledger", "meter", "other_ledger")

    def __init__(self, ledger: Ledger, other_ledger: Ledger, meter: Meter) -> None:
        self.ledger = ledger
        """Counts the QoS 1 and 2 messages that pass here, so that answers of ours keep their place."""
        self.other_ledger = other_ledger
        """The other direction's ledger: its acknowledgements pass here."""
        self.meter = meter
        """Counts what is done here, with the device's other connections."""
        self._at_packet_start = True
        """Whether the next chunk begins a packet, and nothing waits before it."""
        # As after `forget_header`: `startswith` of an empty tuple is False for all bytes.
        self._head: bytes | tuple[()] = ()
        self._size = 0
        self._id_at = 0
        self._tail = b""

    def forget_header(self) -> None:
        """Let nothing pass by comparison: the policy or the meaning of a topic alias changed."""
        self._head = ()
        self._size = 0
        self._id_at = 0
        self._tail = b""

    def remember_header(self, packet: Publish, data: bytes, pos: int, body_at: int, end: int) -> None:
        """Let packets pass that begin like this allowed one, up to its payload.

        Not at QoS 2, whose handshake costs more than decoding.
        """
        if packet.qos != 2:
            self._keep_header(data, pos, body_at + 2 + len(packet.topic), packet.payload_at, end)

    def _keep_header(self, data: bytes, pos: int, topic_end: int, payload_at: int, end: int) -> None:
        if payload_at - pos > _REMEMBERED_MAX:
            return
        self._size = end - pos
        if data[pos] & 2:
            self._head = data[pos:topic_end]
            self._id_at = topic_end - pos
            self._tail = data[topic_end + 2 : payload_at]
        else:
            self._head = data[pos:payload_at]
            self._id_at = 0

    def takes_fast_path(self, chunk: bytes) -> bool:
        """Whether a chunk is a few messages like the last allowed one, or PUBACKs, and may pass unchanged.

        Most chunks of most devices are, and most hold one message. If so it is counted here, and the caller
        only has to write it: neither `out` nor `answers` changes. False leaves it to `feed`.
        """
        length, size, meter = len(chunk), self._size, self.meter
        if chunk.startswith(self._head):
            count = 1
            if length != size:
                count, rest = divmod(length, size)
                if rest or count > _ALIKE_MAX or self._end_of_run(chunk, size, length) != length:
                    return False
            if not self._at_packet_start or meter.messages + count > meter.messages_left:
                return False
            at = self._id_at
            if at:
                if not (chunk[at] or chunk[at + 1]) or not chunk.startswith(self._tail, at + 2):
                    return False
                self.ledger.passed1 += count
            meter.messages += count
            return True
        if chunk.startswith(PUBACK) and length <= 4 * _ALIKE_MAX and not length & 3:
            count, other = length >> 2, self.other_ledger
            if not self._at_packet_start or other.waiting_answers:
                return False
            if meter.messages + count > meter.messages_left:
                return False
            if count > 1 and end_of_acks(chunk, 0, length) != length:
                return False
            other.acked1 += count
            meter.messages_left -= count
            return True
        return False

    def _end_of_run(self, chunk: bytes, pos: int, stop: int) -> int:
        """Where the messages from `pos` on end that are like the last allowed one, and begin before `stop`.

        `pos` itself if there is none: what is there begins like it, but has to be decoded.
        """
        head, size, id_at, tail = self._head, self._size, self._id_at, self._tail
        starts = chunk.startswith
        last = min(stop, len(chunk) - size + 1)
        if last - pos > _TOGETHER * size and head:
            pos = self._end_of_blocks(chunk, pos, last)
        whole = range(pos, last, size)
        for at in whole:
            if not starts(head, at):
                return at
            if id_at:
                id_pos = at + id_at
                if not (chunk[id_pos] or chunk[id_pos + 1]) or (tail and not starts(tail, id_pos + 2)):
                    return at
        return pos + len(whole) * size

    def _end_of_blocks(self, chunk: bytes, pos: int, last: int) -> int:
        """As `_end_of_run`, for whole blocks of messages: where the first block begins that is not all alike.

        The heads of a block are cut out and compared in one call each, where a comparison is a call for each
        message.
        """
        head, tail = self._head, self._tail
        cut = _cut(len(head), self._id_at, len(tail), self._size)
        block = cut.size
        heads, tails = (head,) * _TOGETHER, (tail,) * _TOGETHER
        for at in range(pos, last - block + self._size, block):
            found = cut.unpack_from(chunk, at)
            if self._id_at:
                if found[::3] != heads or 0 in found[1::3] or found[2::3] != tails:
                    return at
            elif found != heads:
                return at
            pos = at + block
        return pos


@lru_cache(maxsize=256)
def _cut(head: int, id_at: int, tail: int, size: int) -> Struct:
    """Cuts the heads out of a block of messages, at QoS 1 their identifiers and tails too. Sizes in bytes."""
    one = f"{head}sH{tail}s{size - head - 2 - tail}x" if id_at else f"{head}s{size - head}x"
    return Struct(">" + one * _TOGETHER)


def end_of_acks(chunk: bytes, pos: int, end: int) -> int:
    """Where the run of short PUBACKs ends, of which one begins at `pos`."""
    starts = chunk.startswith
    for at in range(pos + 4, end - 3, 4):
        if not starts(PUBACK, at):
            return at
    return pos + (end - pos & ~3)
