"""Which addresses a channel may connect to. The address itself is checked, and not a name for it.

A name is looked up once, and the address found is checked and then connected to, so that nothing is gained by
a name that means two addresses in turn (DNS rebinding). Channels have to follow no redirects.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from gateway.system.connect_errors import why_unreachable
from gateway.system.name_lookup import AddressInfo, addresses_of
from gateway.system.tls_floor import raise_to_floor

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class NotAllowed(OSError):
    """This address is not one to connect to."""


def fault_of(address: str, *, private: bool, plain: bool = False) -> str:
    """Why nothing may be sent to this address; empty if it may.

    `private`: addresses of the local network are allowed. `plain`: the connection has no TLS, which is
    allowed to such addresses alone.
    """
    one = _meant(ipaddress.ip_address(address.partition("%")[0]))
    if one.is_multicast or one.is_unspecified or one.is_link_local:
        return f"{address} is no address of a service"
    if not one.is_global and not private:
        return f"{address} is an address of the local network: set allow_private_addresses = true for it"
    if one.is_global and plain:
        return f"{address} is not of the local network: write https:// for it"
    return ""


def _meant(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 address stands for (NAT64, mapped, 6to4); else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def allowed_sockets(*, private: bool, plain: bool = False) -> Callable[[AddressInfo], socket.socket]:
    """A factory that makes a socket for an address, or raises NotAllowed as `fault_of` says."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        if fault := fault_of(str(address[0]), private=private, plain=plain):
            raise NotAllowed(fault)
        return socket.socket(family, kind, protocol)

    return make


async def connected(host: str, port: int, *, private: bool) -> socket.socket:
    """A socket that is connected to this host. Raises OSError: why the last of its addresses failed."""
    loop = asyncio.get_running_loop()
    make = allowed_sockets(private=private)
    last: OSError = OSError(f"{host} has no address")
    for info in await addresses_of(host, port):
        try:
            one = make(info)
        except OSError as error:
            last = error
            continue
        try:
            one.settimeout(0)
            await loop.sock_connect(one, info[4])
        except OSError as error:
            one.close()
            last = error
        except BaseException:
            one.close()
            raise
        else:
            return one
    try:
        raise last
    finally:
        del last  # its traceback holds this frame


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that trusts the public CAs, and that in `ca_file`. Reads files. Raises OSError, SSLError."""
    context = raise_to_floor(ssl.create_default_context())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def reason_of(error: Exception) -> str:
    """The error in words for people: what the system says, without host or URL."""
    if isinstance(error, NotAllowed):
        return str(error)
    if isinstance(error, OSError):
        return why_unreachable(error)
    return type(error).__name__
