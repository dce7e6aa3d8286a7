"""Whether a peer has left whose socket is not being read: the event loop notices that only while it reads.

Owns the check of a TCP connection's state. Must not know what the answer is for.
"""

from __future__ import annotations

import asyncio
import socket

_CLOSED = 7
"""TCP_CLOSE: it was reset. The numbers are those of Linux (include/net/tcp_states.h)."""
_CLOSE_WAIT = 8
"""TCP_CLOSE_WAIT: the peer has said that it sends no more. With TLS that is the end."""


def has_left(transport: asyncio.BaseTransport | None) -> bool:
    """Whether the peer has ended the connection, even if bytes of it are unread. Costs one system call."""
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return True
    try:
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except (OSError, ValueError):  # uvloop raises the latter for a socket that is closed
        return True
    return state in {_CLOSED, _CLOSE_WAIT}
