"""The port devices connect to: accepts, bounds what is not yet known, and gives every link its ticks.

Owns the sockets, and the time a TLS handshake may take; how many there are is `gateway.net.handshakes`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence

from gateway.connection.events import ShuttingDown
from gateway.net.connection_registry import ConnectionRegistry
from gateway.net.device_side import DeviceSide
from gateway.net.handshakes import Handshakes, Newcomer
from gateway.net.listening_sockets import listen
from gateway.net.tls_handshake_errors import in_words
from gateway.observe.logs import get_logger
from gateway.policy.engine.limits import CONNECT_DEADLINE
from gateway.system.addresses import Address, is_loopback, plain, shown
from gateway.system.malloc import map_large_blocks

_BACKLOG = 1024
_ACCEPTS_AT_ONCE = 32
"""In one turn of the loop: each is some twenty microseconds."""
_HANDSHAKE_LEAST = 0.5
"""For a handshake that could not begin for long, in seconds."""
_SLICES = 5
"""Links get their tick in so many turns a second, to spread the work."""
_TICKED_TOGETHER = 64
"""Links that get their tick in one turn of the event loop: about a millisecond."""
_SETTLE = 0.1
"""After a newcomer, for its handshake and CONNECT, in seconds."""
_STOP_PATIENCE = 3.0
"""For the last bytes to leave when the gateway stops, in seconds."""

_log = get_logger()


class Acceptor:
    """Listens on its addresses. With `tls` None for peers on this machine alone, however it was bound."""

    def __init__(self, registry: ConnectionRegistry, tls: ssl.SSLContext | None) -> None:
        self._registry = registry
        self.tls = tls
        """Replace it to let new connections see other certificates."""
        self._sockets: list[socket.socket] = []
        self._arrivals = Handshakes(self._begin, self._now)
        self._turn = 0
        self._next_turn = 0
        self._newest = 0.0
        """When the last newcomer began, by the loop's clock."""
        self._is_settling = False

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
        """Whether devices can connect."""
        return bool(self._sockets)

    def open(self, addresses: Sequence[Address]) -> None:
        """Bind and listen on all of them. Raises OSError."""
        self._sockets = listen(addresses, backlog=_BACKLOG)
        for server in self._sockets:
            self._go_on(server)

    def _accept(self, server: socket.socket) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            if server not in self._sockets:
                return
            try:
                connection, address = server.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._rest(server, error)
                return
            if self.tls is None and not is_loopback(address[0]):
                connection.close()
                continue
            connection.settimeout(0)
            arrival = Newcomer(connection, self._device_side(shown(plain(address[0]), address[1])))
            if self.tls is None:
                self._begin(arrival)
            else:
                self._arrivals.add(arrival)

    def _device_side(self, address: str) -> DeviceSide:
        link = DeviceSide(
            self._registry, address, os.urandom(6).hex(), self._registry.now() + CONNECT_DEADLINE
        )
        self._next_turn = link.turn = (self._next_turn + 1) % _SLICES
        return link

    def _rest(self, server: socket.socket, error: OSError) -> None:
        # Out of file descriptors, most likely: asking again at once would be a busy loop.
        _log.error("can't accept connections", reason=str(error))
        loop = asyncio.get_running_loop()
        loop.remove_reader(server.fileno())
        loop.call_later(1.0, self._go_on, server)

    def _go_on(self, server: socket.socket) -> None:
        if server in self._sockets:
            asyncio.get_running_loop().add_reader(server.fileno(), self._accept, server)

    def _now(self) -> float:
        return self._registry.now()

    def _begin(self, arrival: Newcomer) -> asyncio.Task[None]:
        return self._registry.tasks.start(self._shake_hands(arrival.peer, arrival.link))

    async def _shake_hands(self, connection: socket.socket, link: DeviceSide) -> None:
        left = link.deadline - self._registry.now()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._with_mapped_buffer(link),
                connection,
                ssl=self.tls,
                ssl_handshake_timeout=max(left, _HANDSHAKE_LEAST) if self.tls else None,
                ssl_shutdown_timeout=2.0 if self.tls else None,
            )
        except (Exception, asyncio.CancelledError) as error:
            connection.close()
            why = in_words(error) if isinstance(error, OSError) else None
            if why is not None:
                self._registry.turn_away(link, why)
            _log.debug("handshake failed", address=link.address, reason=str(error) or type(error).__name__)
            if not isinstance(error, OSError):
                raise  # a fault of ours is told by `Tasks`

    def _with_mapped_buffer(self, link: DeviceSide) -> DeviceSide:
        # Called right before the TLS buffer is made. Dialled back soon after the last newcomer.
        self._newest = self._registry.now()
        if not self._is_settling:
            self._is_settling = True
            map_large_blocks(wanted=True)
            asyncio.get_running_loop().call_later(_SETTLE, self._settle)
        return link

    def _settle(self) -> None:
        left = self._newest + _SETTLE - self._registry.now()
        if left > 0:
            asyncio.get_running_loop().call_later(left, self._settle)
        else:
            self._is_settling = False
            map_large_blocks(wanted=False)

    async def tick(self) -> None:
        """Give every link a tick a second, for ever; some at a time, so that messages come in between."""
        second = 0
        while True:
            await asyncio.sleep(1 / _SLICES)
            self._turn = (self._turn + 1) % _SLICES
            second += self._turn == 0
            self._arrivals.tick()
            due = [link for link in self._registry.links if link.turn == self._turn]
            for number, link in enumerate(due, 1):
                link.tick(self._registry.now(), second)
                if number % _TICKED_TOGETHER == 0:
                    await asyncio.sleep(0)

    def stop_accepting(self) -> None:
        """Let nobody in any more."""
        for server in self._sockets:
            asyncio.get_running_loop().remove_reader(server.fileno())
            server.close()
        self._sockets = []
        self._arrivals.stop()

    async def stop(self) -> None:
        """End all connections, politely for a few seconds."""
        self.stop_accepting()
        leaving = list(self._registry.links)
        for number, link in enumerate(leaving, 1):
            link.receive(ShuttingDown())
            if number % _TICKED_TOGETHER == 0:
                await asyncio.sleep(0)
        deadline = self._registry.now() + _STOP_PATIENCE
        while self._registry.now() < deadline:
            await asyncio.sleep(0.02)
            if not self._registry.links and not any(link.unwritten() for link in leaving):
                break
        for link in list(self._registry.links):
            link.abort("the gateway stops")
        await asyncio.sleep(0)
