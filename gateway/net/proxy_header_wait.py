"""Proxies that have connected, until they have said whose connection they bring (GATEWAY_PROXY_FROM).

Owns from whom a PROXY header is demanded, how long it may take, and that not a byte after it is read: the
ClientHello comes in the same segment. Must not know what becomes of a peer then: `gateway.net.acceptor`.

From everybody else no header is taken: theirs is an attack, or a proxy that was not named, and fails as what
it is, no TLS.
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
"""Proxies whose header is not there. They send it at once: the oldest of too many goes."""
_LOOK = 0.2
"""Seconds between two looks at the deadlines, while somebody waits."""
_LOG_AGAIN = 60.0
"""Seconds for which the same of the same proxy is not logged again."""
_COUNTED_APART = 1_000
_HINT = "GATEWAY_PROXY_FROM names this peer, so each of its connections has to begin with a PROXY header"

_log = get_logger()

OnHeader = Callable[[socket.socket, Address, float], None]
"""What becomes of a peer: with the address that counts, and since when it is here, by the loop's clock."""


class _Waiting:
    __slots__ = ("address", "on_header", "read", "since")

    def __init__(self, address: Address, since: float, on_header: OnHeader) -> None:
        self.address = address
        """Of the proxy."""
        self.since = since
        self.on_header = on_header
        self.read = b""
        """Of its header."""


class ProxiedPeers:
    """Those of one port. `now` is the loop's clock, `patience` the seconds a header may take."""

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
        """Whether the TCP peer with this address is a proxy, which has to say whose connection it brings."""
        return bool(self._proxies) and is_within(host, self._proxies)

    def add(self, peer: socket.socket, address: Address, on_header: OnHeader) -> None:
        """OnHeader it when its header is there; close it when that is none, or does not come."""
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
        """Take what has come of the header, and nothing else; the answer is whose connection it is."""
        ahead = peer.recv(HEADER_MAX - len(waiting.read), socket.MSG_PEEK)
        if not ahead:
            raise ConnectionAbortedError
        header = read_header(waiting.read + ahead)
        # All of what was looked at is the header's while that is not whole: a reader that left it there would
        # be called again and again.
        mine = len(ahead) if header is None else header.length - len(waiting.read)
        waiting.read += peer.recv(mine)
        if header is None:
            return None
        return header.source or waiting.address

    def look(self) -> None:
        """Some time went by: whoever has not sent its header by its deadline goes."""
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
        if len(self._logged) >= _COUNTED_APART:
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
