"""HTTP inside the gateway's own loop: uvicorn's protocol on connections that are accepted and bounded here.

Owns how many connections a port has, in all and from one address, how long each may take and how it ends.
Must not know what is served; `gateway.http.health` and `gateway.http.token_api` give the application.

uvicorn's own server is not used: it handles signals, which the gateway does, wakes the process ten times a
second, keeps a silent TLS peer for a minute, and accepts as many connections as there are file descriptors.

A connection carries one request. So nothing can hide after a first request (pipelining, smuggling), and one
deadline covers all that a slow peer can do.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

import h11
import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from gateway.http.lingering_answers import LingeringAnswers
from gateway.net.acceptor import ACCEPTS_AT_ONCE, Acceptor
from gateway.net.bounded_tls import tls_of
from gateway.net.eviction_by_place import PeersByPlace
from gateway.net.fault_containment import contained
from gateway.net.handshakes import PendingHandshake
from gateway.observe.logs import get_logger
from gateway.system.ip_address_blocks import Address, IPNetwork, place_of

HANDSHAKE_DEADLINE = 5.0
"""Seconds from accepting a peer until its TLS handshake is done."""
REQUEST_DEADLINE = 10.0
"""Seconds from the handshake until the whole request is there (slow loris)."""
ANSWER_DEADLINE = 30.0
"""Seconds from the whole request until the peer has the whole answer."""
HEAD_MAX = 16_384
"""Bytes of the request line and headers."""

_EVENTS_MAX = 2_048
"""Parts in which a request may come: each read of the socket makes one, and each chunk (RFC 9112, 7.1)."""
_EVENTS_AT_ONCE = 128
"""Parts in one read of the socket. A chunk of one byte costs as much as a long one, six microseconds, and
a stranger can send 40,000 at once."""
_HEAD_LINES = 128
"""Lines of a head: each costs two microseconds and more, and strangers can send theirs all at once."""
_CHUNKED_LINES = 1_024
"""Line feeds in a request whose body comes in chunks, anywhere in it: also those in the body itself."""
_HEAD_END = re.compile(rb"\n\r?\n")
_ITERATIONS_TO_BE_READ = 8
"""Accepting is slowed so that to use up all connections takes at least this many iterations of the loop. A
peer that sends its request at once is read within them, before it could be the oldest and be ended for a
newer one."""
_STOP_PATIENCE = 1.0
"""Seconds for the last answers to be sent when the gateway stops."""
_BACKLOG = 256
"""Peers that wait in the kernel until they are accepted."""

_HEADERS = [
    (b"connection", b"close"),
    (b"content-security-policy", b"default-src 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
"""The headers of every answer. What is served is data: a browser must neither guess its type nor run it."""

Start: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task and keeps a reference to it: `gateway.net.tasks.Tasks.start`."""

_log = get_logger()


async def serve(
    application: ASGIApp,
    addresses: Sequence[Address],
    *,
    start: Start,
    tls: ssl.SSLContext | None = None,
    connections: int,
    connections_per_address: int,
    loopback_only: bool = False,
    proxies: Sequence[IPNetwork] = (),
) -> WebServer:
    """Listen on all of `addresses` (port 0: any). Raises OSError if that fails for one.

    `loopback_only`: serve only peers on this machine, whatever the address. `proxies`: peers that have to
    send a PROXY header, which says for whom they connect (`gateway.net.proxy_header_wait`).
    """
    server = WebServer(
        application,
        start=start,
        tls=tls,
        connections=connections,
        connections_per_address=connections_per_address,
        loopback_only=loopback_only,
        proxies=proxies,
    )
    server.acceptor.open(addresses)
    return server


class WebServer:
    """A port, on one address or several. Close it before the loop ends."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        start: Start,
        tls: ssl.SSLContext | None,
        connections: int,
        connections_per_address: int,
        loopback_only: bool,
        proxies: Sequence[IPNetwork],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.acceptor = Acceptor(
            self._handle_peer,
            tls,
            backlog=_BACKLOG,
            loopback_only=loopback_only,
            now=self._loop.time,
            patience=HANDSHAKE_DEADLINE,
            proxies=proxies,
            accepts_at_once=max(1, min(ACCEPTS_AT_ONCE, connections // _ITERATIONS_TO_BE_READ)),
        )
        self._start = start
        self._connections_max = connections
        self._connections_per_address = connections_per_address
        self._open: PeersByPlace[_Connection] = PeersByPlace()
        self._config = _uvicorn(application)
        self._state = ServerState()
        self._state.default_headers = _HEADERS

    async def close(self) -> None:
        """Stop listening, and end within a second what is open."""
        self.acceptor.close()
        for connection in list(self._open):
            connection.leave()
        deadline = self._loop.time() + _STOP_PATIENCE
        while self._open and self._loop.time() < deadline:  # noqa: ASYNC110 - a few times, at the end
            await asyncio.sleep(0.02)
        for connection in list(self._open):
            connection.end()
        await asyncio.sleep(0)
        answering = list(self._state.tasks)
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)

    def _handle_peer(self, peer: socket.socket, address: Address, since: float) -> PendingHandshake | None:
        place = place_of(address.host)
        if not self._make_room(place):
            return None
        connection = _Connection(self._config, self._state, address, place, self._open)
        connection.pending_handshake = PendingHandshake(
            peer,
            place,
            since + HANDSHAKE_DEADLINE,
            begin=lambda: self._start(self._do_handshake(connection, peer)),
            turn_away=lambda _: connection.forget(),
        )
        connection.drop = self.acceptor.handshakes.drop
        return connection.pending_handshake

    def _make_room(self, place: str) -> bool:
        """Whether there is room for one more from this place.

        For it one may be ended that waits for no answer.
        """
        if self._open.count(place) >= self._connections_per_address:
            candidates = [self._open.of(place)]  # room is made among the peers of the same place
        elif len(self._open) >= self._connections_max:
            candidates = [self._open.largest(), self._open]  # first among those of the place that has most
        else:
            return True
        oldest = next((one for some in candidates for one in some if not one.is_owed_an_answer), None)
        if oldest is not None:
            oldest.end()
            oldest.forget()
        return oldest is not None

    async def _do_handshake(self, connection: _Connection, peer: socket.socket) -> None:
        try:
            await self.acceptor.do_handshake(peer, lambda: connection, HANDSHAKE_DEADLINE)
        except (Exception, asyncio.CancelledError) as error:
            connection.forget()
            if not isinstance(error, OSError):
                raise


class _Parser(h11.Connection):
    """Parses a request with a bounded number of parts and lines: one with more is refused before parsing."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEAD_MAX)
        self._events_left = _EVENTS_MAX
        self._events_left_at_once = _EVENTS_AT_ONCE
        self._head: bytearray | None = bytearray()
        """What has come of the head; None once the head is whole."""
        self._lines = 0
        self._is_chunked = False

    def receive_data(self, data: bytes) -> None:
        self._events_left_at_once = _EVENTS_AT_ONCE
        self._lines += data.count(b"\n")
        if self._head is not None:
            self._head += data
        super().receive_data(data)

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        self._events_left -= 1
        self._events_left_at_once -= 1
        if self._events_left < 0 or self._events_left_at_once < 0:
            raise h11.RemoteProtocolError("too many parts")
        if self._head is not None:
            self._demand_short_head(self._head)
        if self._is_chunked and self._lines > _CHUNKED_LINES:
            raise h11.RemoteProtocolError("too many lines")
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            # h11 raises it again from a method of the error itself: its traceback would hold a frame that
            # holds it, a cycle that keeps this connection until the garbage collector comes.
            raise error.with_traceback(None)  # noqa: B904 - it is the same
        if isinstance(event, h11.Request):
            self._is_chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
        return event

    def _demand_short_head(self, head: bytearray) -> None:
        """Raise RemoteProtocolError when the head, whole or not, is longer than it may be."""
        end = _HEAD_END.search(head, 0, HEAD_MAX)
        if end is None and len(head) > HEAD_MAX:
            raise h11.RemoteProtocolError("too long a head", error_status_hint=431)
        if head.count(b"\n", 0, HEAD_MAX if end is None else end.start()) >= _HEAD_LINES:
            raise h11.RemoteProtocolError("too many lines", error_status_hint=431)
        if end is not None:
            self._head = None


class _Connection(H11Protocol):
    """One connection, from before its handshake on. It ends when its time is over, whatever the peer does."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        address: Address,
        place: str,
        register: PeersByPlace[_Connection],
    ) -> None:
        super().__init__(config, state, {})
        self.conn = _Parser()
        self._address = address
        self.place = place
        self.pending_handshake: PendingHandshake | None = None
        """Its handshake, until that is done or given up; None after that."""
        self.drop: Callable[[PendingHandshake], None] | None = None
        """Ends `pending_handshake`; None after the handshake."""
        self._answer_is_due = False
        self._deadline: asyncio.TimerHandle | None = None
        self._register = register
        register.add(self, place)

    @property
    def is_owed_an_answer(self) -> bool:
        """Whether the whole request is there, and not yet answered."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    @contained
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport  # first: `fault` ends it
        self.pending_handshake = self.drop = None
        super().connection_made(transport)
        self.client = self._address.host, self._address.port  # with a proxy it is not the socket's peer
        if (tls := tls_of(transport)) is not None:
            tls.handshake_done(transport)
        self._deadline = self.loop.call_later(REQUEST_DEADLINE, transport.abort)

    @contained
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is not None and not self._answer_is_due and self.is_owed_an_answer:
            self._answer_is_due = True
            self._deadline.cancel()
            self._deadline = self.loop.call_later(ANSWER_DEADLINE, self.transport.abort)

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.forget()
        if (tls := tls_of(self.transport)) is not None:
            tls.detach()
        super().connection_lost(exc)

    def fault(self, error: Exception) -> None:
        """A fault of ours: it ends this connection and no other."""
        _log.error("internal error", network=self.place, exc_info=error)
        self.end()

    def leave(self) -> None:
        """End it once it has its answer; at once if it has sent no request."""
        if self.transport is None:
            self.end()
        else:
            self.shutdown()

    def end(self) -> None:
        """End it now."""
        if self.transport is not None:
            self.transport.abort()
        elif (pending := self.pending_handshake) is not None and (drop := self.drop) is not None:
            self.forget()
            drop(pending)

    def forget(self) -> None:
        """Count it no more among the port's connections, and let go of its handshake, which refers to it."""
        self._register.remove(self)
        self.pending_handshake = self.drop = None

    def send_400_response(self, msg: str) -> None:
        """Say that this is not HTTP, unless an answer is already on its way. uvicorn would fail on that."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.abort()
            return
        body = msgspec.json.encode({"success": False, "error": "invalid_request", "message": msg})
        headers = [
            *_HEADERS,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def _uvicorn(application: ASGIApp) -> uvicorn.Config:
    config = uvicorn.Config(
        LingeringAnswers(application),
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        workers=1,
    )
    # uvicorn logs a warning for each request that is not HTTP: strangers could fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config.load()
    return config
