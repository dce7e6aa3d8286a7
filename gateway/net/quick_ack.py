"""Acknowledges at once what ends a TLS handshake.

With TLS 1.3 and no session ticket nothing is sent after the client's Finished, so that its acknowledgement
would be delayed by 40 ms. A client that does not set TCP_NODELAY holds back its CONNECT that long (RFC 896).
From any other the CONNECT comes right after the handshake, and our answer acknowledges both: whoever calls
this waits a moment for that first.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

CONNECT_EXPECTED = 0.002
"""For a CONNECT right after the handshake, in seconds: nothing is to be acknowledged early then."""
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Linux has it; elsewhere nothing is done."""
_ONCE = 2
"""Any even number but 0: what is due is acknowledged now, what comes later with our answers (Linux,
net/ipv4/tcp.c). With 1 each of the next packets is acknowledged by itself, which costs both sides CPU."""


def acknowledge_at_once(transport: asyncio.BaseTransport) -> None:
    """Send the acknowledgement that is due. Nothing is dearer later."""
    connection = transport.get_extra_info("socket")
    if _QUICKACK is None or connection is None:
        return
    with suppress(OSError, ValueError):  # the peer has left, which shows soon enough
        connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, _ONCE)
