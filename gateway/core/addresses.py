"""How peers are counted by their IP address, wherever there is a bound on one of them."""

from __future__ import annotations

import ipaddress


def network_of(address: str) -> str:
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
