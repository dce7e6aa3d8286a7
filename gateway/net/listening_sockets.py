"""Sockets that listen on addresses: one per address, or one for each IP family of a host name.

Must not know what is served on them, nor which setting names them.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from gateway.system.ip_address_blocks import Address


class PeerSocket(socket.socket):
    """A connected socket that says its family and type as plain numbers.

    The standard library makes an enum member of each, five times for a peer that is accepted and given to the
    loop, which only compares numbers: a fifteenth of all the Python work for a connection.
    """

    __slots__ = ()
    family = socket.SocketType.family  # type: ignore[assignment]
    type = socket.SocketType.type  # type: ignore[assignment]


class ListeningSocket(PeerSocket):
    """A socket that listens, and accepts `PeerSocket`s."""

    __slots__ = ()

    def accept(self) -> tuple[PeerSocket, tuple[str, int]]:
        """As the standard library's. Raises OSError."""
        descriptor, address = self._accept()  # type: ignore[attr-defined]
        return PeerSocket(self.family, self.type, self.proto, fileno=descriptor), address


class AddressTaken(OSError):
    """An address can't be listened on. The text says which and why."""


def listen(addresses: Sequence[Address], *, backlog: int) -> list[socket.socket]:
    """Sockets that listen on all of `addresses`, or none. Raises AddressTaken.

    `[::]` accepts IPv4 too, as on Mosquitto, whatever the system's default is; but if 0.0.0.0 is given too
    with the same port, each accepts its own family only.
    """
    opened: list[socket.socket] = []
    try:
        for address in addresses:
            try:
                for family, where in _places(address):
                    apart = Address("0.0.0.0", address.port) in addresses and address.port != 0  # noqa: S104
                    opened.append(_open(family, where, backlog, both=address.host == "::" and not apart))
            except OSError as error:
                raise AddressTaken(f"{address} can't be had: {_why(error)}") from error
    except BaseException:
        for one in opened:
            one.close()
        raise
    return opened


def _why(error: OSError) -> str:
    """Why an address can't be listened on, and what to do. The error's own text ends in a tuple."""
    if isinstance(error, socket.gaierror):
        return "no host of that name is known here: correct the name, or give an IP address"
    if error.errno == errno.EADDRINUSE:
        return "a program listens there already: stop that one, or name another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address: name one of its own, or 0.0.0.0 or [::] for all of them"
    if error.errno == errno.EACCES:
        return "the system keeps that port for programs with more rights: name one above 1023"
    return os.strerror(error.errno) if error.errno else str(error)


def _places(address: Address) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE, proto=socket.IPPROTO_TCP
    )
    places: dict[tuple[str, int], socket.AddressFamily] = {}
    for family, *_, where in found:
        if family in {socket.AF_INET, socket.AF_INET6}:
            places.setdefault((str(where[0]), int(where[1])), family)
    # A name may stand for an address of each family; any free port can't be the same one for two.
    chosen = list(places.items())[: 1 if address.port == 0 else None]
    return [(family, where) for where, family in chosen]


def _open(family: socket.AddressFamily, where: tuple[str, int], backlog: int, *, both: bool) -> socket.socket:
    made = socket.create_server(
        where, family=family, backlog=backlog, dualstack_ipv6=both and socket.has_dualstack_ipv6()
    )
    listening = ListeningSocket(made.family, made.type, made.proto, fileno=made.detach())
    listening.settimeout(0)
    return listening
