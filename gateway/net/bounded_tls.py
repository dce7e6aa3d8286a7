"""Limits the decryption work that a peer can cause without sending application data.

Bytes are unproductive if OpenSSL took them and no application data came of them: KeyUpdates, empty records,
padding. What a record needs beside its data is its overhead, which only a stranger's bound counts. Owns how
much of what came from the socket OpenSSL gets at a time, the count of unproductive bytes, and the end of a
peer that sends too many. Must not know what the data means.

OpenSSL takes all that it can get until a record yields data. A quarter of a megabyte of KeyUpdates is one
call to it and a third of a second of work, and neither `data_received` nor any limit of MQTT sees them. So
the gateway's contexts make TLS objects that give OpenSSL what came bit by bit:

- from a stranger, a peer that is not authenticated, record by record: after too many empty ones, or too many
  bytes beside its data, its connection ends (`gateway.net.tls_record_counter`);
- from an authenticated peer in portions. They grow while they yield data, and shrink when they do not; once
  one was slow and mostly unproductive, those of all connections stay small for a while;
- from a connection that is being closed nothing: what still comes is dropped undecrypted.

What is too much for one iteration of the event loop stays in the buffer it came in, and the socket is not
read meanwhile, so that a peer's end is never seen before its last bytes.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, NoReturn

from gateway.net.tls_decryption_cost import PeerBudget
from gateway.net.tls_portions import PORTION_MIN, PortionCap, was_quick
from gateway.net.tls_record_counter import OVERHEAD, OVERHEAD_OLDER, RecordCounter, TooLittleData

_RECORD_MAX = 16_640
"""Bytes of data in one record, at most: 16,384 (RFC 8446, 5.1) and some room."""
_HANDSHAKE_PORTION = 4_096
"""Bytes of records that one step of the handshake gets: mostly a whole flight of the client."""
_STRANGER_RECORDS = 64
"""Records of a stranger that are decrypted in one iteration of the loop."""

UNPRODUCTIVE_MAX = 24_576
"""Unproductive bytes that end a connection: more than a record, for an incomplete one yields nothing."""
_FORGIVEN_PER_SECOND = 4_096
"""Unproductive bytes that are forgiven each second: padded records, a KeyUpdate now and then."""
_DATA_PER_FORGIVEN = 4_096
"""Bytes of data for which one unproductive byte is forgiven, where data is read in portions."""
_UNFINISHED_SHIFT = 4
"""Right shift: only 1/16 of what may be an incomplete record counts, so four of the longest fill an iteration
(`ITERATION_EFFORT`): KeyUpdates would block the loop for 80 ms, as often as their device's budget allows."""
_ITERATION_RECORDS = 1_536
"""Records of an authenticated peer after which no further portion is begun in this iteration."""
_MANY_RECORDS = 256
"""Records in one portion after which the next ones are small, whatever they yield. A connection that reads
a portion at once (`_read_more`) also awaits its turn after so many."""

_CLOSE_NOTIFY_MAX = 1_024
"""Bytes in which the peer's close_notify is looked for, at most."""
_DROPPED_MAX = 262_144
"""Bytes that are dropped while a connection is being closed, at most; then it is cut."""
_READ_HIGH_WATER, _READ_LOW_WATER = 64, 16
"""Bytes left undecrypted at which reading of the socket stops and resumes. Fewer may be part of a header."""


class BoundedSSLObject(ssl.SSLObject):
    """The TLS of one peer, with a bound on the work of one `read`."""

    _budget: PeerBudget | None = None
    _transport: asyncio.Transport | None = None
    _is_strict = True
    """Whether `read` is `_read_strictly`: of a stranger, a peer that awaits its turn, or one being closed."""
    _is_awaiting_turn = False
    _dropped = _unproductive = 0
    _forgiven_at = 0.0  # most never change: here they cost a connection neither time nor memory
    _record_overhead = OVERHEAD_OLDER
    _portion = PORTION_MIN
    """Bytes that OpenSSL gets at a time from this peer, once authenticated."""
    _last: ssl.SSLError | bytes | None = None
    """What follows the data that was just returned: b"" for the peer's close, or the error of its fault."""

    def attach(self, incoming: ssl.MemoryBIO, cap: PortionCap) -> None:
        """Set it up, before the handshake. `incoming` is what the loop writes received bytes to."""
        self._incoming, self._cap = incoming, cap
        self._take: Callable[[int], bytes] = self._sslobj.read  # type: ignore[attr-defined]
        """OpenSSL's own `read`. A bound method of this object would be a reference cycle."""
        # Bound to the C methods themselves: SSLObject's wrappers cost a call.
        self.write, self.pending = self._sslobj.write, self._sslobj.pending  # type: ignore[attr-defined, method-assign]
        self.getpeercert = self._sslobj.getpeercert  # type: ignore[attr-defined, method-assign]
        self._counter: RecordCounter | None = RecordCounter()
        """Counts a stranger's records; None once the peer is authenticated."""

    def handshake_done(self, transport: asyncio.Transport) -> None:
        """The handshake is done. From now on more may arrive than one iteration can process."""
        self._transport = transport
        transport.set_read_buffer_limits(_READ_HIGH_WATER, _READ_LOW_WATER)  # type: ignore[attr-defined]

    def peer_is_authenticated(self, budget: PeerBudget | None = None) -> None:
        """The peer is authenticated: unproductive bytes count against `budget` from now on."""
        self._counter = None
        self._budget = budget
        self._record_overhead = OVERHEAD.get(self._sslobj.version(), OVERHEAD_OLDER)  # type: ignore[attr-defined]
        self._forgiven_at = time.monotonic()
        # What waits is read before the socket is, so that the peer's end does not overtake it.
        if not self._is_awaiting_turn and not self._incoming.pending:
            self._leave_strict_mode()

    def stop_decrypting(self) -> None:
        """The connection is being closed: decrypt nothing more."""
        self._is_strict = True

    def detach(self) -> None:
        """The connection is gone."""
        self._transport = None
        self._last = None  # its traceback holds this object
        self._is_strict = True

    # What the loop calls

    def do_handshake(self) -> None:
        """The next step of the handshake. What follows it stays buffered: OpenSSL takes what it needs."""
        incoming, take_step = self._incoming, self._sslobj.do_handshake  # type: ignore[attr-defined]
        if not incoming.pending:
            raise ssl.SSLWantReadError  # the loop's first call comes without data: answering here is cheaper
        if (counter := self._counter) is None:
            take_step()
            return
        data = incoming.read()
        if counter.is_short_flight(data, _HANDSHAKE_PORTION):
            incoming.write(data)
            take_step()
        else:
            counter.feed_flights(data, incoming, take_step, _HANDSHAKE_PORTION)
        counter.handshake_done()

    def read(self, size: int = _RECORD_MAX, buffer: Any = None) -> Any:  # noqa: ARG002, ANN401
        """What the peer sent; `size` is ignored. SSLWantReadError: there is no more, or no more now."""
        if buffer is not None:
            raise ValueError("data is copied here, never read into a buffer of the caller's")
        if self._is_strict:
            return self._read_strictly()
        incoming, budget = self._incoming, self._budget
        arrived = incoming.pending
        if (
            arrived > self._portion
            or arrived > self._cap.portion_max
            # Against sixty connections that grew their portions with data and then send only KeyUpdates: none
            # reads on, even a few bytes, while other devices come first or the budget is used up.
            or (arrived + self._unproductive > PORTION_MIN and budget is not None and budget.must_wait)
        ):
            return self._read_in_portions()
        if not arrived:
            # OpenSSL has nothing left, for a read takes a whole record: asking it would only cost time.
            raise ssl.SSLWantReadError
        try:
            data = self._take(_RECORD_MAX)
        except ssl.SSLWantReadError:
            self._count(arrived, 0, unfinished=False)
            raise
        if incoming.pending:
            return self._read_more(data, arrived)
        unproductive = arrived - len(data) - self._record_overhead
        return (
            self._data_after_counting(data, unproductive) if unproductive > 0 or self._unproductive else data
        )

    # An authenticated peer

    def _read_more(self, data: bytes, arrived: int) -> bytes:
        """The records after the first, which gave `data`: `arrived` bytes in all, a portion at most.

        Sixty connections that send 60 kB each in records of one byte would block all others for a third of a
        second, so a connection reads some of its own, and then awaits its turn.
        """
        incoming, take = self._incoming, self._take
        chunks = [data]
        try:
            while data and incoming.pending and len(chunks) < _MANY_RECORDS:
                data = take(_RECORD_MAX)
                chunks.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            return self._ends_with(chunks, error)
        if not data:
            return self._ends_with(chunks[:-1], b"")
        given = b"".join(chunks)
        waits = incoming.pending
        unproductive = arrived - waits - len(given) - len(chunks) * self._record_overhead
        if waits:
            self._portion = PORTION_MIN
            if self._budget is not None:
                self._budget.spend(effort=len(chunks), in_iteration=len(chunks))  # a record costs one unit
            self._await_turn()
        return (
            self._data_after_counting(given, unproductive)
            if unproductive > 0 or self._unproductive
            else given
        )

    def _data_after_counting(self, data: bytes, unproductive: int) -> bytes:
        """Count the unproductive bytes that came with `data`, and return it."""
        try:
            self._count(unproductive, 0, unfinished=unproductive <= len(data))
        except TooLittleData as error:
            return self._ends_with([data], error)
        return data

    def _count(self, taken: int, given: int, *, unfinished: bool) -> None:
        """Count `taken` bytes, without the records' overhead, that yielded `given` bytes of data.

        Or with `given` 0 the unproductive ones only. `unfinished`: they may be part of a record that is not
        whole, and count only 1/16 for the iteration, but fully for the device's second. Raises TooLittleData.
        """
        before = self._unproductive
        self._unproductive = max(0, before + taken - given - given // _DATA_PER_FORGIVEN)
        if self._budget is not None and self._unproductive != before:
            more = self._unproductive - before
            self._budget.spend(effort=more, in_iteration=more >> (_UNFINISHED_SHIFT if unfinished else 0))
        if self._unproductive > UNPRODUCTIVE_MAX:
            now = time.monotonic()
            forgiven = min(UNPRODUCTIVE_MAX, int((now - self._forgiven_at) * _FORGIVEN_PER_SECOND))
            self._unproductive = max(0, self._unproductive - forgiven)
            self._forgiven_at = now
            if self._unproductive > UNPRODUCTIVE_MAX:
                self._cap.be_careful()
                raise TooLittleData("it sends TLS records that yield nothing")

    def _read_in_portions(self) -> bytes:
        incoming, take, cap, budget = self._incoming, self._take, self._cap, self._budget
        if budget is not None and budget.must_wait:
            self._await_turn()
            raise ssl.SSLWantReadError
        cap.relax()
        data, at = memoryview(incoming.read()), 0
        chunks: list[bytes] = []
        try:
            while at < data.nbytes and len(chunks) < _ITERATION_RECORDS:
                began = time.thread_time()
                end = min(at + self._portion, at + cap.portion_max, data.nbytes)
                incoming.write(data[at:end])
                portion, at, before, given = end - at, end, len(chunks), 0
                try:
                    while incoming.pending:
                        chunk = take(_RECORD_MAX)
                        if not chunk:
                            return self._ends_with(chunks, b"")
                        chunks.append(chunk)
                        given += len(chunk)
                except ssl.SSLWantReadError:
                    pass
                mostly_data = 2 * given >= portion
                records = len(chunks) - before
                taken = portion - records * self._record_overhead
                seconds = time.thread_time() - began
                self._count(taken, given, unfinished=mostly_data or was_quick(portion, seconds))
                if not mostly_data:
                    cap.portion_took(seconds)
                if records > _MANY_RECORDS:
                    self._portion = PORTION_MIN
                elif given:
                    self._portion = min(2 * self._portion, cap.portion_max)
                elif self._unproductive > _RECORD_MAX:  # less may be a long record that is not whole
                    self._portion = PORTION_MIN
                    break
                if budget is not None:
                    budget.spend(effort=records, in_iteration=records)  # a record costs one unit
                    if budget.must_wait:
                        break
        except ssl.SSLError as error:
            return self._ends_with(chunks, error)
        finally:
            incoming.write(data[at:])
        if at < data.nbytes:
            self._await_turn()
        elif self._is_strict:
            self._leave_strict_mode()
        return self._given(chunks)

    # A stranger, or a peer that awaits its turn or is being closed

    def _read_strictly(self) -> bytes:
        if self._last is not None:
            return self._ends_with([], self._last)
        if self._transport is None or self._transport.is_closing():
            self._drop()
        if self._is_awaiting_turn or not self._incoming.pending:
            raise ssl.SSLWantReadError
        if self._counter is None:
            return self._read_in_portions()
        return self._read_records(self._counter)

    def _read_records(self, counter: RecordCounter) -> bytes:
        """What a stranger sent, record by record."""
        incoming = self._incoming
        data, at, chunks = memoryview(incoming.read()), 0, list[bytes]()
        stop_at = counter.records + _STRANGER_RECORDS
        try:
            while at < data.nbytes and counter.records < stop_at:
                end = counter.end_of_record(data, at)
                if end == at:
                    break
                incoming.write(data[at:end])
                at = end
                try:
                    chunk = self._take(_RECORD_MAX)
                except ssl.SSLWantReadError:
                    counter.yielded(b"")
                    continue
                if not chunk:
                    return self._ends_with(chunks, b"")
                chunks.append(chunk)
                counter.yielded(chunk)
        except ssl.SSLError as error:
            return self._ends_with(chunks, error)
        finally:
            incoming.write(data[at:])
        if counter.records >= stop_at and at < data.nbytes:
            self._await_turn()
        return chunks[0] if len(chunks) == 1 else self._given(chunks)

    def _drop(self) -> NoReturn:
        """Drop what came for a connection that is being closed. Raises SSLWantReadError, or TooLittleData."""
        self._dropped += len(self._incoming.read())
        if self._dropped > _DROPPED_MAX:
            raise TooLittleData("it goes on sending while the gateway closes its connection")
        raise ssl.SSLWantReadError

    def unwrap(self) -> None:
        """Send our close_notify and read the peer's. Of what it sends instead, little is decrypted.

        A peer of TLS 1.2 that showed a certificate gets none, and OpenSSL forgets its session: it keeps those
        alone that were closed properly (SSL_set_shutdown(3)). Resumed, it would bring certificates that were
        verified long ago; kept, it has all that the peer sent beside them in memory (docs/adr/0024). Its end
        is waited for all the same: to close at once would take back what it was sent last.
        """
        if self._incoming.pending > _CLOSE_NOTIFY_MAX:
            self._drop()
        if self._sslobj.version() != "TLSv1.2" or not self.getpeercert(True):  # type: ignore[attr-defined] # noqa: FBT003
            super().unwrap()
            return
        if self._dropped:
            self._drop()  # with records missing the next can't be opened
        while self._take(_RECORD_MAX):
            pass

    # How a `read` ends

    @staticmethod
    def _given(chunks: list[bytes]) -> bytes:
        if not chunks:
            raise ssl.SSLWantReadError
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _ends_with(self, chunks: list[bytes], last: ssl.SSLError | bytes) -> bytes:
        """Return these chunks, and at the next `read` what comes after them: the peer's close, or a fault."""
        if chunks:
            self._last = last
            self._is_strict = True
            # A loop calls `read` again only if something is left.
            self._incoming.write(b"\0")
            return b"".join(chunks)
        if isinstance(last, ssl.SSLError):
            try:
                raise last
            finally:
                del last  # its traceback holds this frame
        return last

    def _await_turn(self) -> None:
        """Read what is left when it is the device's turn, and the socket after that."""
        if self._transport is None:
            return
        self._is_awaiting_turn = self._is_strict = True
        self._transport.set_read_buffer_limits(_READ_HIGH_WATER, _READ_LOW_WATER)  # type: ignore[attr-defined]
        later = asyncio.get_running_loop().call_soon if self._budget is None else self._budget.wait
        later(self._go_on)

    def _go_on(self) -> None:
        self._is_awaiting_turn = False
        transport = self._transport
        if transport is not None and transport.is_reading():
            # The only way to make a loop call `read` without new bytes.
            transport.pause_reading()
            transport.resume_reading()

    def _leave_strict_mode(self) -> None:
        """Nothing of an authenticated peer waits: `read` may take the short way again."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._is_strict = False
            transport.set_read_buffer_limits()  # type: ignore[attr-defined]


def tls_of(transport: asyncio.BaseTransport | None) -> BoundedSSLObject | None:
    """The `BoundedSSLObject` below a transport; None if it has none."""
    found = transport.get_extra_info("ssl_object") if transport is not None else None
    return found if isinstance(found, BoundedSSLObject) else None
