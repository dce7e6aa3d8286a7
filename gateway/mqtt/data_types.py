"""The data representations of the standard (MQTT 5, 1.5): integers, strings, binary data.

`Reader` reads one packet's body, and raises MalformedPacket wherever that is too short. The fast path of
messages does not use it: see `gateway.connection.one_way_relay`.
"""

from __future__ import annotations

from gateway.mqtt.errors import MalformedPacket, PacketTooLarge, Unanswerable


def encode_length(value: int) -> bytes:
    """A Variable Byte Integer (MQTT 5, 1.5.5) of 0 to 268,435,455. Raises PacketTooLarge above."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x200000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    if value < 0x10000000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80, value >> 21))
    raise PacketTooLarge("no packet can be that long")


def read_length(data: bytes | bytearray, pos: int, end: int) -> tuple[int, int] | None:
    """The Variable Byte Integer at `pos` and the position after it; None when its end has not come.

    Raises Unanswerable at a fourth byte with the continuation bit: the packet's end can't be known then.
    """
    value = shift = 0
    while pos < end:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
        if shift == 28:
            raise Unanswerable("a length of more than four bytes")
    return None


def encode_binary(data: bytes) -> bytes:
    """Binary Data or a UTF-8 string with its two length bytes (MQTT 5, 1.5.4 and 1.5.6)."""
    return len(data).to_bytes(2, "big") + data


def decode_utf8(data: bytes) -> str:
    """A UTF-8 Encoded String: well-formed, no surrogates, no U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2]."""
    if b"\0" in data:
        raise MalformedPacket("a string holds U+0000")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedPacket("a string is not well-formed UTF-8") from None


class Reader:
    """Reads one packet's body from front to back."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int, end: int) -> None:
        self.data = data
        self.pos = pos
        self.end = end

    def _advance(self, count: int) -> int:
        pos = self.pos
        if count > self.end - pos:
            raise MalformedPacket("a packet ends inside a field")
        self.pos = pos + count
        return pos

    def byte(self) -> int:
        """One byte."""
        pos = self.pos
        if pos >= self.end:
            raise MalformedPacket("a packet ends inside a field")
        self.pos = pos + 1
        return self.data[pos]

    def two_bytes(self) -> int:
        """A Two Byte Integer."""
        pos, data = self.pos, self.data
        if pos + 2 > self.end:
            raise MalformedPacket("a packet ends inside a field")
        self.pos = pos + 2
        return data[pos] << 8 | data[pos + 1]

    def length(self) -> int:
        """A Variable Byte Integer."""
        try:
            read = read_length(self.data, self.pos, self.end)
        except Unanswerable as error:
            raise MalformedPacket(str(error)) from None
        if read is None:
            raise MalformedPacket("a packet ends inside a length")
        value, after = read
        if after - self.pos > 1 and not self.data[after - 1]:
            raise MalformedPacket("a length in more bytes than it needs")  # [MQTT-1.5.5-1]
        self.pos = after
        return value

    def binary(self) -> bytes:
        """Binary Data, without its length."""
        data, pos, end = self.data, self.pos + 2, self.end
        if pos <= end:
            after = pos + (data[pos - 2] << 8 | data[pos - 1])
            if after <= end:
                self.pos = after
                return data[pos:after]
        raise MalformedPacket("a packet ends inside a field")

    def raw(self, count: int) -> bytes:
        """The next `count` bytes as they are."""
        pos = self._advance(count)
        return self.data[pos : pos + count]

    @property
    def left(self) -> int:
        """How many bytes are not read yet."""
        return self.end - self.pos
