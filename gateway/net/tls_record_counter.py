"""Counts the TLS records of a stranger, and ends the connection when too many of them yield too little.

Owns the count of a peer's records until it is authenticated. It reads the five bytes of a record's header
(RFC 8446, 5.1) and nothing else. Must not know how records are decrypted (`gateway.net.bounded_tls`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

OVERHEAD = {"TLSv1.3": 22}
"""Bytes of a record beside its data, without padding, by version."""
OVERHEAD_OLDER = 96
"""The same for TLS 1.2, at its worst (CBC). That version has no message that is cheap to send and costly to
receive."""
_HEADER = 5
"""Bytes of a record's header."""
_HANDSHAKE_RECORDS_MAX = 256
"""Records until the handshake is done."""
_HANDSHAKE_BYTES_MAX = 32_768
"""Bytes until the handshake is done: several chains of certificates. OpenSSL would take three times as many,
and keep five bytes of memory for each until the connection ends."""
STRANGER_EMPTY_MAX = 16
"""Records without data from a stranger, at most. Honest clients send none."""
STRANGER_OVERHEAD_MAX = 32_768
"""Bytes that a stranger's records may have beyond its data and an eighth of that: enough for a CONNECT in
more than a thousand records of one byte."""


class TooLittleData(ssl.SSLError):
    """The peer sends records that yield nothing, or next to nothing."""

    reason = ""
    """Set because an SSLError that OpenSSL did not make has no such attribute."""

    def __str__(self) -> str:
        return str(self.args[-1])


class RecordCounter:
    """Counts the records of one peer, each when its last byte has come."""

    __slots__ = ("_bytes", "_empty", "_left", "_overhead", "_size", "records")

    def __init__(self) -> None:
        self.records = 0
        self._left = self._size = 0
        """Of the record that is coming in: the bytes still to come, and its size in bytes."""
        self._empty = self._overhead = self._bytes = 0

    def end_of_record(self, data: memoryview, at: int) -> int:
        """Where the record that begins or goes on at `at` ends, or else the end of the data."""
        if not self._left:
            if data.nbytes - at < _HEADER:
                return at
            self._size = self._left = _HEADER + (data[at + 3] << 8 | data[at + 4])
        end = min(at + self._left, data.nbytes)
        self._left -= end - at
        if not self._left:
            self.records += 1
        return end

    def end_of_flight(self, data: memoryview, at: int, portion: int) -> int:
        """Where the handshake's records that make up a portion end, or else the end of the data.

        Raises TooLittleData: a handshake in too many records or bytes.
        """
        if self._bytes >= _HANDSHAKE_BYTES_MAX:
            raise TooLittleData("its handshake is too long: it has to send its own certificates alone")
        # `end_of_record`, inlined: a call for each record of a handshake was measurable.
        begun, size, left = at, data.nbytes, self._left
        while at < size and at - begun < portion:
            if not left:
                if size - at < _HEADER:
                    break
                left = self._size = _HEADER + (data[at + 3] << 8 | data[at + 4])
            end = min(at + left, size)
            left -= end - at
            at = end
            if not left:
                self.records += 1
        self._left = left
        # Data may stand behind the handshake, whose end OpenSSL alone sees: it gets all that is allowed.
        at = min(at, begun + _HANDSHAKE_BYTES_MAX - self._bytes)
        self._bytes += at - begun
        if self.records > _HANDSHAKE_RECORDS_MAX:
            raise TooLittleData("a handshake in too many records")
        return at

    def is_short_flight(self, data: bytes, portion: int) -> bool:
        """Whether `data` is whole records only, at most a portion. If so they are counted.

        A ClientHello is, and so is the client's last flight, with or without its CONNECT. Any other flight is
        for `feed_flights`.
        """
        size = len(data)
        if self._left or size > portion:
            return False
        at, records = 0, self.records
        while at + _HEADER <= size:
            at += _HEADER + (data[at + 3] << 8 | data[at + 4])
            records += 1
        if at != size or records > _HANDSHAKE_RECORDS_MAX or self._bytes + size > _HANDSHAKE_BYTES_MAX:
            return False
        self.records = records
        self._bytes += size
        return True

    def feed_flights(
        self, data: bytes, incoming: ssl.MemoryBIO, take_step: Callable[[], None], portion: int
    ) -> None:
        """Give OpenSSL the records of a handshake a portion at a time, until it is done.

        Raises SSLWantReadError if it needs more, TooLittleData if there were too many records.
        """
        view, at = memoryview(data), 0
        try:
            while True:
                begun, at = at, self.end_of_flight(view, at, portion)
                incoming.write(view[begun:at])
                try:
                    return take_step()
                except ssl.SSLWantReadError:
                    if at in (begun, view.nbytes):  # no progress, or everything was given
                        raise
        finally:
            if at < view.nbytes:
                incoming.write(view[at:])

    def handshake_done(self) -> None:
        """The next byte begins a record."""
        self._left = 0

    def yielded(self, data: bytes) -> None:
        """Count the data that a record, or a part of one, yielded. Raises TooLittleData."""
        if self._left:
            return
        self._overhead += self._size - len(data) - len(data) // 8
        if not data:
            self._empty += 1
        if self._empty > STRANGER_EMPTY_MAX or self._overhead > STRANGER_OVERHEAD_MAX:
            raise TooLittleData("it sends TLS records that yield next to nothing, and has not said who it is")
