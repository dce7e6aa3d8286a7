"""TLS whose work a peer pays for with data: bounds how much it can have decrypted without sending any.

Owns how much of what came from the socket OpenSSL sees at a time, the count of bytes that it took
against those that it gave, and the end of a peer for whom these differ by too much. Must not know what
the data means.

OpenSSL takes all that it can get until a record yields data. A quarter of a megabyte of KeyUpdates is one
call to it and a third of a second of work, and neither `data_received` nor any limit of MQTT sees them. So
the gateway's contexts make TLS objects that give OpenSSL what came in portions:

- to a stranger, who has not shown who it is, record by record: after so many empty ones, or so much
  overhead, it is out;
- to a known peer in portions that grow while they yield, and shrink to the least when they do not; once one
  was slow and yielded little, nobody's grow large for some seconds: sixty peers at once cost a little each;
- to no connection that is being closed: what still comes is dropped as it came.

Too much for one turn waits in the buffer it came in, unread until the next, and the socket with it, so that
a peer's end is never seen before its last bytes.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, NoReturn

from gateway.net.tls_decryption_cost import PeerBudget
from gateway.net.tls_portions import PORTION_LEAST, Caution
from gateway.net.tls_record_counter import OVERHEAD, OVERHEAD_OLDER, RecordCounter, TooLittleData

_RECORD_MAX = 16_640
"""Data of one record, with room."""
_HANDSHAKE_PORTION = 4_096
"""A step of the handshake gets records up to this, in bytes: a flight of a client, most often."""
_STRANGER_RECORDS = 64
"""Decrypted in one turn."""

IDLE_MAX = 24_576
"""Bytes that yielded nothing from a known peer. More than one unfinished record, which looks like it."""
_IDLE_PER_SECOND = 4_096
"""Of those, forgiven: padded records, a KeyUpdate now and then."""
_IDLE_SHARE = 4_096
"""And one for so many bytes of data."""
_CUT_SHARE = 4
"""Bits: of what seems to be a record that is cut, a sixteenth counts for the turn. If all were KeyUpdates,
four connections would hold it for 80 ms, and the device's second bounds them."""
_KNOWN_RECORDS = 1_536
"""Decrypted in one turn, when more than a portion waits."""
_MANY_RECORDS = 256
"""So many in one portion cost as much as a slice of messages, whatever they yield: after them others come
first, and the next portions are small."""

_GOODBYE_MAX = 1_024
"""Bytes in which a peer's own goodbye is looked for."""
_DROPPED_MAX = 262_144
"""What may come after our goodbye, in bytes."""
_WAITING, _WAITING_LOW = 64, 16
"""With so many bytes left over the socket is not read. Fewer can be a record's header, not whole."""


class BoundedSSLObject(ssl.SSLObject):
    """The TLS of one peer. What a loop reads through it is bounded."""

    def attach(self, incoming: ssl.MemoryBIO, caution: Caution) -> None:
        """Before the handshake: what arrives comes in here."""
        self._incoming = incoming
        self._caution = caution
        self._budget: PeerBudget | None = None
        self._transport: asyncio.Transport | None = None
        self._take: Callable[[int], bytes] = self._sslobj.read  # type: ignore[attr-defined]
        """OpenSSL's own. A bound method of ours would be a cycle, and each connection garbage for a while."""
        # What the loop calls and nothing here stands before: `SSLObject` has a function in Python for each.
        self.write, self.pending = self._sslobj.write, self._sslobj.pending  # type: ignore[attr-defined, method-assign]
        self.getpeercert = self._sslobj.getpeercert  # type: ignore[attr-defined, method-assign]
        self._is_strict = True
        """Whether `read` looks twice: the peer is not known, waits for its turn, or is being closed."""
        self._is_resting = False
        self._counter: RecordCounter | None = RecordCounter()
        """Until it is known who the peer is."""
        self._dropped = self._idle = 0
        self._since = 0.0
        self._allowance = OVERHEAD_OLDER
        self._portion = PORTION_LEAST
        self._last: ssl.SSLError | bytes | None = None
        """What comes when the data in front of it was read: b"" for the peer's end, or its fault."""

    def handshake_done(self, transport: asyncio.Transport) -> None:
        """The handshake is done. From now on there may be more than one turn takes."""
        self._transport = transport
        transport.set_read_buffer_limits(_WAITING, _WAITING_LOW)  # type: ignore[attr-defined]

    def peer_is_known(self, budget: PeerBudget | None = None) -> None:
        """It is known who the peer is, and what its TLS costs is set against its budget."""
        self._counter = None
        self._budget = budget
        self._allowance = OVERHEAD.get(self.version() or "", OVERHEAD_OLDER)
        self._since = time.monotonic()
        # What waits is read before the socket is, lest the peer's end overtake it.
        if not self._is_resting and not self._incoming.pending:
            self._relax()

    def stop_decrypting(self) -> None:
        """It is being closed: nothing more is decrypted."""
        self._is_strict = True

    def detach(self) -> None:
        """The connection is gone."""
        self._transport = None
        self._last = None  # its traceback holds this object
        self._is_strict = True

    # What the loop calls

    def do_handshake(self) -> None:
        """The next step of the handshake. What comes after it stays: OpenSSL takes no more than it needs."""
        incoming, take_step = self._incoming, self._sslobj.do_handshake  # type: ignore[attr-defined]
        if not incoming.pending:
            raise ssl.SSLWantReadError  # as the loop begins: OpenSSL takes a while to say so
        if (counter := self._counter) is None:
            take_step()
            return
        data, at = memoryview(incoming.read()), 0
        try:
            while True:
                begun, at = at, counter.end_of_flight(data, at, _HANDSHAKE_PORTION)
                incoming.write(data[begun:at])
                try:
                    take_step()
                except ssl.SSLWantReadError:
                    if at in (begun, data.nbytes):
                        raise
                else:
                    counter.handshake_done()
                    break
        finally:
            if at < data.nbytes:
                incoming.write(data[at:])

    def read(self, size: int = _RECORD_MAX, buffer: Any = None) -> Any:  # noqa: ARG002, ANN401
        """What the peer sent, `size` left aside. SSLWantReadError: there is no more, or not in this turn."""
        if buffer is not None:
            raise ValueError("data is copied here, never read into a buffer of the caller's")
        if self._is_strict:
            return self._read_strictly()
        incoming, budget = self._incoming, self._budget
        arrived = incoming.pending
        if (
            arrived > self._portion
            or arrived > self._caution.most
            # Sixty connections may have grown their portions, and send nothing but KeyUpdates then.
            # Nor may they go on with a few bytes each once their device's second is spent.
            or (arrived + self._idle > PORTION_LEAST and budget is not None and budget.is_spent)
        ):
            return self._read_in_portions()
        if not arrived:
            # OpenSSL has nothing left, for a read takes a whole record: it could only say no, at a price.
            raise ssl.SSLWantReadError
        try:
            data = self._take(_RECORD_MAX)
        except ssl.SSLWantReadError:
            self._count(arrived, 0, mostly_data=False)
            raise
        if incoming.pending:
            return self._read_more(data, arrived)
        spent = arrived - len(data) - self._allowance
        return self._paid(data, spent) if spent > 0 or self._idle else data

    # A known peer

    def _read_more(self, data: bytes, arrived: int) -> bytes:
        """The records after the first, which gave `data`: `arrived` bytes in all, a portion at most.

        Sixty connections that send 60 kB each in records of one byte would hold all others up for a third of
        a second, so a connection takes some, and then awaits its turn.
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
        spent = arrived - waits - len(given) - len(chunks) * self._allowance
        if waits:
            self._portion = PORTION_LEAST
            if self._budget is not None:
                self._budget.spend(len(chunks), len(chunks))
            self._rest()
        return self._paid(given, spent) if spent > 0 or self._idle else given

    def _paid(self, data: bytes, spent: int) -> bytes:
        """The data, once it is counted what came with it and yielded nothing."""
        try:
            self._count(spent, 0, mostly_data=spent <= len(data))
        except TooLittleData as error:
            return self._ends_with([data], error)
        return data

    def _count(self, taken: int, given: int, *, mostly_data: bool) -> None:
        """So many bytes were taken, overhead left out, and so many of data came of them.

        `mostly_data`: what came yielded more than it did not. The rest may be a record that is not whole, as
        most that is read of a stream ends with, so that it fills the device's second and not yet the turn.
        """
        before = self._idle
        self._idle = max(0, before + taken - given - given // _IDLE_SHARE)
        if self._budget is not None and self._idle != before:
            more = self._idle - before
            self._budget.spend(more, more >> _CUT_SHARE if mostly_data else more)
        if self._idle > IDLE_MAX:
            now = time.monotonic()
            forgiven = min(IDLE_MAX, int((now - self._since) * _IDLE_PER_SECOND))
            self._idle = max(0, self._idle - forgiven)
            self._since = now
            if self._idle > IDLE_MAX:
                self._caution.be_careful()
                raise TooLittleData("it sends TLS records that yield nothing")

    def _read_in_portions(self) -> bytes:
        incoming, take, caution, budget = self._incoming, self._take, self._caution, self._budget
        if budget is not None and budget.is_spent:
            self._rest()
            raise ssl.SSLWantReadError
        caution.relax()
        data, at = memoryview(incoming.read()), 0
        chunks: list[bytes] = []
        try:
            while at < data.nbytes and len(chunks) < _KNOWN_RECORDS:
                began = time.thread_time()
                end = min(at + self._portion, at + caution.most, data.nbytes)
                incoming.write(data[at:end])
                portion, at, records, given = end - at, end, len(chunks), 0
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
                taken = portion - (len(chunks) - records) * self._allowance
                self._count(taken, given, mostly_data=mostly_data)
                if not mostly_data:
                    caution.look(time.thread_time() - began)
                if len(chunks) - records > _MANY_RECORDS:
                    self._portion = PORTION_LEAST
                elif given:
                    self._portion = min(2 * self._portion, caution.most)
                elif self._idle > _RECORD_MAX:  # less may be a long record that is not whole
                    self._portion = PORTION_LEAST
                    break
                if budget is not None:
                    budget.spend(len(chunks) - records, len(chunks) - records)
                    if budget.is_spent:
                        break
        except ssl.SSLError as error:
            return self._ends_with(chunks, error)
        finally:
            incoming.write(data[at:])
        if at < data.nbytes:
            self._rest()
        elif self._is_strict:
            self._relax()
        return self._given(chunks)

    # A stranger, or one who waits, or goes

    def _read_strictly(self) -> bytes:
        if self._last is not None:
            return self._ends_with([], self._last)
        if self._transport is None or self._transport.is_closing():
            self._drop()
        if self._is_resting or not self._incoming.pending:
            raise ssl.SSLWantReadError
        if self._counter is None:
            return self._read_in_portions()
        return self._read_records(self._counter)

    def _read_records(self, counter: RecordCounter) -> bytes:
        """What a stranger sent, record by record."""
        incoming = self._incoming
        data, at, chunks = memoryview(incoming.read()), 0, list[bytes]()
        turn = counter.records + _STRANGER_RECORDS
        try:
            while at < data.nbytes and counter.records < turn:
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
        if counter.records >= turn and at < data.nbytes:
            self._rest()
        return chunks[0] if len(chunks) == 1 else self._given(chunks)

    def _drop(self) -> NoReturn:
        """What comes after our goodbye."""
        self._dropped += len(self._incoming.read())
        if self._dropped > _DROPPED_MAX:
            raise TooLittleData("it goes on sending after the gateway's goodbye")
        raise ssl.SSLWantReadError

    def unwrap(self) -> None:
        """Say goodbye, and take the peer's, but nothing that it sends instead."""
        if self._incoming.pending > _GOODBYE_MAX:
            self._drop()
        super().unwrap()

    # The end of a turn

    @staticmethod
    def _given(chunks: list[bytes]) -> bytes:
        if not chunks:
            raise ssl.SSLWantReadError
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _ends_with(self, chunks: list[bytes], last: ssl.SSLError | bytes) -> bytes:
        """After these nothing comes but the end, or a fault."""
        if chunks:
            self._last = last
            self._is_strict = True
            # A loop asks again only if something is left.
            self._incoming.write(b"\0")
            return b"".join(chunks)
        if isinstance(last, ssl.SSLError):
            try:
                raise last
            finally:
                del last  # its traceback holds this frame
        return last

    def _rest(self) -> None:
        """The others first: what is left is read in the next turn, and the socket when that is done."""
        if self._transport is None:
            return
        self._is_resting = self._is_strict = True
        self._transport.set_read_buffer_limits(_WAITING, _WAITING_LOW)  # type: ignore[attr-defined]
        later = asyncio.get_running_loop().call_soon if self._budget is None else self._budget.wait
        later(self._go_on)

    def _go_on(self) -> None:
        self._is_resting = False
        transport = self._transport
        if transport is not None and transport.is_reading():
            # The only way to have a loop call `read` without new bytes.
            transport.pause_reading()
            transport.resume_reading()

    def _relax(self) -> None:
        """Nothing waits of what a known peer sent."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            self._is_strict = False
            transport.set_read_buffer_limits()  # type: ignore[attr-defined]


class BoundedSSLContext(ssl.SSLContext):
    """Its server-side connections are bounded. Each has to be given its transport, by `handshake_done`."""

    sslobject_class = BoundedSSLObject
    _caution: Caution | None = None

    def wrap_bio(self, incoming: ssl.MemoryBIO, *args: Any, **kwargs: Any) -> BoundedSSLObject:  # noqa: ANN401
        """What a loop calls for each connection."""
        made = super().wrap_bio(incoming, *args, **kwargs)
        assert isinstance(made, BoundedSSLObject)  # noqa: S101 - for the type checker
        if self._caution is None:
            self._caution = Caution()
        made.attach(incoming, self._caution)
        return made


def tls_of(transport: asyncio.BaseTransport | None) -> BoundedSSLObject | None:
    """The bounded TLS below a transport, if that is what it is."""
    found = transport.get_extra_info("ssl_object") if transport is not None else None
    return found if isinstance(found, BoundedSSLObject) else None
