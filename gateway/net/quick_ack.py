"""TCP's acknowledgement of what ends a TLS handshake, sent at once.

With TLS 1.3 and no session ticket nothing is sent after the client's Finished, so that TCP would
acknowledge it 40 ms later. A client that does not set TCP_NODELAY holds back its CONNECT that long (RFC 896).
From all others the CONNECT comes right after the handshake, and our answer acknowledges both: whoever calls
this waits a moment for that first.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

CONNECT_EXPECTED_S = 0.002
"""Seconds within which a CONNECT that is not held back has come."""
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Linux has it; on other systems nothing is done."""
_ONCE = 2
"""Any even number but 0: what is due is acknowledged now, what comes later with our answers (Linux,
net/ipv4/tcp.c). With 1 each of the next packets is acknowledged by itself, which costs both sides CPU."""


def send_tcp_ack(transport: asyncio.BaseTransport) -> None:
    """Have TCP send the acknowledgement that is due, without a change for later packets."""
    connection = transport.get_extra_info("socket")
    if _QUICKACK is None or connection is None:
        return
    with suppress(OSError, ValueError):  # the peer has left, which shows soon enough
        connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, _ONCE)
