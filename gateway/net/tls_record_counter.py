"""Where TLS records end, how many there were, and how little they yielded: what a stranger's are judged by.

Owns the count of a peer's records until it has shown who it is. It reads the five bytes of a record's header
(RFC 8446, 5.1) and nothing else. Must not know how records are decrypted (`gateway.net.bounded_tls`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

OVERHEAD = {"TLSv1.3": 22}
"""Bytes of a record beside its data, where that is not padded, by version."""
OVERHEAD_OLDER = 96
"""TLS 1.2, at its worst (CBC). It has nothing cheap to send that costs much."""
_HEADER = 5
_HANDSHAKE_RECORDS_MAX = 256
"""Until the handshake is done; what is in them OpenSSL bounds."""
STRANGER_EMPTY_MAX = 16
"""Records without data from a stranger. Honest clients send none."""
STRANGER_OVERHEAD_MAX = 32_768
"""Bytes that a stranger may send beyond its data and an eighth of it: a CONNECT in records of one
byte, a thousand and more of them, passes."""


class TooLittleData(ssl.SSLError):
    """The peer sends records that yield nothing, or next to nothing."""

    reason = ""
    """OpenSSL says nothing here; an SSLError that it did not make has no such attribute."""

    def __str__(self) -> str:
        return str(self.args[-1])


class RecordCounter:
    """Of one peer. Counts a record when its last byte is there."""

    __slots__ = ("_empty", "_left", "_overhead", "_size", "records")

    def __init__(self) -> None:
        self.records = 0
        self._left = self._size = 0
        """Bytes of the record under way that are still to come; its size."""
        self._empty = self._overhead = 0

    def end_of_record(self, data: memoryview, at: int) -> int:
        """Where the record ends that begins or goes on at `at`, or what is there of it."""
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
        """Where the records of a handshake end that make up a portion, or what is there of them.

        Raises TooLittleData: a handshake in too many records.
        """
        # `end_of_record`, written out: a handshake has some records, and a call for each was felt.
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
        if self.records > _HANDSHAKE_RECORDS_MAX:
            raise TooLittleData("a handshake in too many records")
        return at

    def is_short_flight(self, data: bytes, portion: int) -> bool:
        """Whether all of `data` is whole records, a portion at most; they are counted then.

        As a ClientHello is, and what a client sends last, with its CONNECT or without. Any other flight is
        for `feed_flights`.
        """
        size = len(data)
        if self._left or size > portion:
            return False
        at, records = 0, self.records
        while at + _HEADER <= size:
            at += _HEADER + (data[at + 3] << 8 | data[at + 4])
            records += 1
        if at != size or records > _HANDSHAKE_RECORDS_MAX:
            return False
        self.records = records
        return True

    def feed_flights(
        self, data: bytes, incoming: ssl.MemoryBIO, take_step: Callable[[], None], portion: int
    ) -> None:
        """Give OpenSSL the records of a handshake a portion at a time, until it is done.

        Raises SSLWantReadError: it needs more; TooLittleData: it came in too many records.
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
        """What is left begins with a record."""
        self._left = 0

    def yielded(self, data: bytes) -> None:
        """A record, or a part of one, gave this. Raises TooLittleData: too many gave too little."""
        if self._left:
            return
        self._overhead += self._size - len(data) - len(data) // 8
        if not data:
            self._empty += 1
        if self._empty > STRANGER_EMPTY_MAX or self._overhead > STRANGER_OVERHEAD_MAX:
            raise TooLittleData("it sends TLS records that yield next to nothing, and has not said who it is")
