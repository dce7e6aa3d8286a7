"""A port that peers connect to, for devices and for HTTP alike: listens, accepts, and bounds TLS handshakes.

    accept ──PROXY header, from a proxy──► handle_peer ──its turn──► TLS handshake ──► a connection

Owns the listening sockets, and which certificates new connections get. Must not know what is served:
`gateway.net.device_port` and `gateway.http.server` give it a `PeerHandler`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.net.handshakes import Handshakes, PendingHandshake
from gateway.net.listening_sockets import listen
from gateway.net.proxy_header_wait import ProxiedPeers
from gateway.observe.logs import get_logger
from gateway.system.ip_address_blocks import Address, IPNetwork, is_loopback

ACCEPTS_AT_ONCE = 32
"""Connections accepted in one iteration of the loop: each takes some twenty microseconds."""
_NO_SOCKET = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""The system is out of file descriptors or memory, whichever peer it is."""
_PAUSE_SECONDS = 1.0
"""Without accepting, after the system gave no socket."""
_SHUTDOWN_DEADLINE = 2.0
"""Seconds for a TLS peer to answer our close_notify."""

_log = get_logger()


class PeerHandler(Protocol):
    """Says what is to be done with a peer."""

    def __call__(self, peer: socket.socket, address: Address, since: float, /) -> PendingHandshake | None:
        """Return what begins its handshake; None when there is no room, and the peer is closed then.

        `since` is when it connected, by the loop's clock: its deadlines count from there.
        """


class Acceptor:
    """Listens on its addresses. With `loopback_only` it accepts peers of this machine alone."""

    def __init__(
        self,
        handle_peer: PeerHandler,
        tls: ssl.SSLContext | None,
        *,
        backlog: int,
        loopback_only: bool,
        now: Callable[[], float],
        patience: float,
        proxies: Sequence[IPNetwork] = (),
        accepts_at_once: int = ACCEPTS_AT_ONCE,
    ) -> None:
        """`now` is the loop's clock. At most `accepts_at_once` are accepted in one iteration of the loop.

        From peers in `proxies` a PROXY header is demanded, within `patience` seconds, and the address that it
        names is the peer's from then on. `loopback_only` goes by the address of the TCP connection.
        """
        self._handle_peer = handle_peer
        self.tls = tls
        """May be replaced: new connections then get its certificates."""
        self.before_peer: Sequence[Callable[[], None]] = ()
        """Called before each handshake, which draws random numbers and takes time of the loop."""
        self._backlog = backlog
        self._accepts_at_once = accepts_at_once
        self._loopback_only = loopback_only
        self._now = now
        self._proxied = ProxiedPeers(proxies, now=now, patience=patience)
        self.handshakes = Handshakes(now)
        self._sockets: Sequence[socket.socket] = []

    @property
    def port(self) -> int:
        """The port in use; 0 when not listening."""
        return self.bound[0].port if self._sockets else 0

    @property
    def bound(self) -> list[Address]:
        """The addresses in use."""
        return [Address(*one.getsockname()[:2]) for one in self._sockets]

    @property
    def is_open(self) -> bool:
        """Whether peers can connect."""
        return bool(self._sockets)

    def open(self, addresses: Sequence[Address]) -> None:
        """Bind and listen on all of them. Raises OSError."""
        self._sockets = listen(addresses, backlog=self._backlog)
        for server in self._sockets:
            self._go_on(server)

    def _go_on(self, server: socket.socket) -> None:
        if server in self._sockets:
            asyncio.get_running_loop().add_reader(server.fileno(), self._accept, server)

    def _accept(self, server: socket.socket) -> None:
        for _ in range(self._accepts_at_once):
            if server not in self._sockets:
                return
            try:
                peer, address = server.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _NO_SOCKET:
                    continue  # it concerns that peer alone (accept(2), "Error handling")
                self._pause_accepting(server, error)
                return
            try:
                self._take_in(peer, Address(*address[:2]))
            except Exception as error:  # noqa: BLE001 - a fault of ours must not close the port for others
                peer.close()
                _log.error("internal error", port=self.port, address=address[0], exc_info=error)

    def _pause_accepting(self, server: socket.socket, error: OSError) -> None:
        # Out of file descriptors, most likely: asking again at once would be a busy loop.
        _log.error("can't accept connections", port=self.port, reason=str(error))
        loop = asyncio.get_running_loop()
        loop.remove_reader(server.fileno())
        loop.call_later(_PAUSE_SECONDS, self._go_on, server)

    def _take_in(self, peer: socket.socket, address: Address) -> None:
        peer.settimeout(0)
        if self._loopback_only and not is_loopback(address.host):
            peer.close()
        elif self._proxied.demands_of(address.host):
            self._proxied.add(peer, address, self._start_peer)
        else:
            self._start_peer(peer, address, self._now())

    def _start_peer(self, peer: socket.socket, address: Address, since: float) -> None:
        pending = self._handle_peer(peer, address, since)
        if pending is None:
            peer.close()
        elif self.tls is None:
            pending.start()
        else:
            self.handshakes.add(pending)

    async def do_handshake(
        self, peer: socket.socket, protocol: Callable[[], asyncio.Protocol], seconds: float
    ) -> None:
        """Do the TLS handshake, if there is TLS, and give the peer to `protocol`.

        Raises OSError, or whatever ends it; the peer is closed then.
        """
        try:
            for call in self.before_peer:
                call()
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                peer,
                ssl=self.tls,
                ssl_handshake_timeout=seconds if self.tls else None,
                ssl_shutdown_timeout=_SHUTDOWN_DEADLINE if self.tls else None,
            )
        except BaseException:
            peer.close()
            raise

    def close(self) -> None:
        """Stop listening, and end all that is pending."""
        for server in self._sockets:
            asyncio.get_running_loop().remove_reader(server.fileno())
            server.close()
        self._sockets = []
        self._proxied.stop()
        self.handshakes.stop()
