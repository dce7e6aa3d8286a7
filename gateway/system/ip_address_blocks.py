"""What a peer's IP address says: how it is counted, whether it is this machine. And how one is written."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_REMEMBERED = 4_096
"""Addresses of which the answer is kept: peers come again, and parsing an address takes as long as a whole
login with a secret that was verified before."""


@lru_cache(_REMEMBERED)
def place_of(address: str) -> str:
    """The address as it is counted: an IPv6 peer has a whole /64 to change its address in.

    What is no IP address is counted by itself.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((parsed, 64), strict=False))


def shown(host: str, port: int) -> str:
    """Host and port as they are printed and logged: IPv6 in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(text: str) -> str:
    """The host of `shown`."""
    return text.rpartition(":")[0].removeprefix("[").removesuffix("]")


@lru_cache(_REMEMBERED)
def plain(host: str) -> str:
    """A peer's IPv4 address without the ::ffff: that a socket for both families puts before it."""
    try:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return str(mapped) if mapped is not None else host


@lru_cache(_REMEMBERED)
def network_of(address: str) -> str:
    """The block around it that may well belong to one owner: an IPv4 /24, an IPv6 /48 (65,536 of /64).

    What is no IP address is a block by itself.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((parsed, 48), strict=False))
    four = parsed if parsed.version == 4 else parsed.ipv4_mapped
    return str(ipaddress.IPv4Network((str(four), 24), strict=False))


def is_loopback(address: str) -> bool:
    """Whether a peer with this address is on this machine. What is no IP address is not."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


def is_within(address: str, networks: Iterable[IPNetwork]) -> bool:
    """Whether a peer's address is in one of them. What is no IP address is in none."""
    try:
        parsed = ipaddress.ip_address(plain(address).partition("%")[0])
    except ValueError:
        return False
    return any(parsed in network for network in networks)  # of the other family: it is not


class Address(NamedTuple):
    """Where to listen or to connect. IPv6 hosts stand without brackets; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return shown(self.host, self.port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def overlaps(self, other: Address) -> bool:
        """Whether one socket can't have this address while a different one has the other."""
        if self.port != other.port or self.port == 0:
            return False
        mine, others = _as_number(self.host), _as_number(other.host)
        if mine == others:
            return True
        # `::` takes IPv4 too, but for what stands beside it on the same port as 0.0.0.0: see `listen`.
        return any(
            one.is_unspecified and one.version in {6, another.version}
            for one, another in ((mine, others), (others, mine))
            if not isinstance(one, str) and not isinstance(another, str)
        )


def _as_number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | str:
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return host.lower()
