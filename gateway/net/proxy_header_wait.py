"""Proxies (GATEWAY_PROXY_FROM) that have connected, until their PROXY header says for whom.

Owns which peers have to send a PROXY header, how long it may take, and that not a byte after it is read: the
ClientHello comes in the same segment. Must not know what is done with a peer then: `gateway.net.acceptor`.

From all other peers no header is accepted: there it is an attack, or a proxy missing from the setting, and
fails as bytes that are not TLS.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.net.proxy_header import HEADER_MAX, BadHeader, read_header
from gateway.observe.logs import get_logger
from gateway.system.ip_address_blocks import Address, IPNetwork, is_within

_WAITING_MAX = 1_024
"""Connections whose header has not come, at most: then the oldest is refused. Proxies send it at once."""
_LOOK = 0.2
"""Seconds between two checks of the deadlines, while any peer waits."""
_LOG_AGAIN = 60.0
"""Seconds for which the same refusal of the same proxy is not logged again."""
_REMEMBERED_MAX = 1_000
"""Pairs of proxy and reason that are remembered for that."""
_HINT = "GATEWAY_PROXY_FROM names this peer, so each of its connections has to begin with a PROXY header"

_log = get_logger()

OnHeader = Callable[[socket.socket, Address, float], None]
"""Called with a peer, the address that counts (its header's, or its own if that names none), and when it
connected, by the loop's clock."""


class _Waiting:
    __slots__ = ("address", "on_header", "read", "since")

    def __init__(self, address: Address, since: float, on_header: OnHeader) -> None:
        self.address = address
        """Of the proxy."""
        self.since = since
        self.on_header = on_header
        self.read = b""
        """As much of its header as was read."""


class ProxiedPeers:
    """The proxies of one port whose header has not come.

    `now` is the loop's clock, `patience` the seconds a header may take.
    """

    def __init__(self, proxies: Sequence[IPNetwork], *, now: Callable[[], float], patience: float) -> None:
        self._proxies = proxies
        self._now = now
        self._patience = patience
        self._waiting: OrderedDict[socket.socket, _Waiting] = OrderedDict()
        self._look: asyncio.TimerHandle | None = None
        self._logged: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def demands_of(self, host: str) -> bool:
        """Whether a TCP peer with this address is a proxy, which has to send a header."""
        return bool(self._proxies) and is_within(host, self._proxies)

    def add(self, peer: socket.socket, address: Address, on_header: OnHeader) -> None:
        """Call `on_header` when its header is there; close the peer if it is not valid or does not come."""
        if len(self._waiting) >= _WAITING_MAX:
            self._refuse(next(iter(self._waiting)), "others wait, and its PROXY header is not there")
        self._waiting[peer] = _Waiting(address, self._now(), on_header)
        asyncio.get_running_loop().add_reader(peer.fileno(), self._readable, peer)
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK, self.look)

    def _readable(self, peer: socket.socket) -> None:
        waiting = self._waiting[peer]
        try:
            header = self._read(peer, waiting)
        except (BlockingIOError, InterruptedError):
            return
        except BadHeader as error:
            self._refuse(peer, str(error))
            return
        except OSError:
            self._drop(peer).close()  # it left, as checks of a port do
            return
        if header is None:
            return
        self._drop(peer)
        try:
            waiting.on_header(peer, header, waiting.since)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not stop the loop for others
            peer.close()
            _log.error("internal error", address=waiting.address.host, exc_info=error)

    def _read(self, peer: socket.socket, waiting: _Waiting) -> Address | None:
        """Read what has come of the header, and nothing else. Returns whose connection it is, once known."""
        ahead = peer.recv(HEADER_MAX - len(waiting.read), socket.MSG_PEEK)
        if not ahead:
            raise ConnectionAbortedError
        header = read_header(waiting.read + ahead)
        # While the header is incomplete, all that was peeked at belongs to it, and is read: left unread, it
        # would wake the loop again and again.
        of_header = len(ahead) if header is None else header.length - len(waiting.read)
        waiting.read += peer.recv(of_header)
        if header is None:
            return None
        return header.source or waiting.address

    def look(self) -> None:
        """Refuse the peers that have not sent their header by the deadline."""
        self._look = None
        while self._waiting:
            peer, waiting = next(iter(self._waiting.items()))
            if self._now() <= waiting.since + self._patience:
                self._look = asyncio.get_running_loop().call_later(_LOOK, self.look)
                break
            self._refuse(peer, "no PROXY header within the deadline")

    def _refuse(self, peer: socket.socket, why: str) -> None:
        address = self._waiting[peer].address
        self._drop(peer).close()
        if self._is_worth_a_line(address.host, why):
            _log.warning("turned away", address=str(address), reason=f"{why}; {_HINT}")

    def _is_worth_a_line(self, host: str, why: str) -> bool:
        now = self._now()
        if now - self._logged.get((host, why), -_LOG_AGAIN) < _LOG_AGAIN:
            return False
        if len(self._logged) >= _REMEMBERED_MAX:
            self._logged.clear()
        self._logged[host, why] = now
        return True

    def _drop(self, peer: socket.socket) -> socket.socket:
        del self._waiting[peer]
        asyncio.get_running_loop().remove_reader(peer.fileno())
        return peer

    def stop(self) -> None:
        """End them all."""
        while self._waiting:
            self._drop(next(iter(self._waiting))).close()
        if self._look is not None:
            self._look.cancel()
            self._look = None
