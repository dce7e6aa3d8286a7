"""How long a client waits for its CONNACK, with and without TCP_NODELAY.

With TLS 1.3 and no session ticket a server has nothing to say after the client's Finished. While that is not
acknowledged, a client that leaves Nagle's algorithm on holds its CONNECT back.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from dataclasses import dataclass, field

from bench import accounts, resource_usage
from bench.load import Target
from bench.packets import connect
from bench.workloads import Round, Row, Session

_CONNECTS = 40


@dataclass(frozen=True)
class FirstAnswer(Row):
    """From the end of the TLS handshake to the CONNACK, one client after the other: the median."""

    unit: str = "ms"
    rate: bool = field(default=False, kw_only=True)
    nodelay: bool = field(default=False, kw_only=True)

    async def prepare(self, session: Session, seconds: float) -> None:
        """The server has seen the secret once."""
        del seconds
        await asyncio.to_thread(connack_after, session.target, nodelay=True)

    async def measure(self, session: Session, seconds: float) -> Round:
        count = _CONNECTS if seconds >= 1 else _CONNECTS // 4
        took = [
            await asyncio.to_thread(connack_after, session.target, nodelay=self.nodelay) for _ in range(count)
        ]
        p50, p99 = resource_usage.percentile(took, 0.50), resource_usage.percentile(took, 0.99)
        return Round(value=statistics.median(took) * 1e3, p50=p50, p99=p99)


def connack_after(target: Target, *, nodelay: bool) -> float:
    """Seconds from the end of the handshake to the CONNACK. Raises OSError."""
    name = accounts.AGAIN[0]
    with socket.create_connection(("127.0.0.1", target.port), timeout=10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(nodelay))
        if target.context is None:
            raise OSError("this row is about TLS")
        with target.context.wrap_socket(plain, server_hostname="localhost") as link:
            begun = time.perf_counter()
            link.sendall(connect(f"{name}-nagle", name, accounts.SECRET))
            answer = link.recv(4)
            if answer != b"\x20\x02\0\0":
                raise OSError(f"the CONNACK is {answer.hex(' ')}")
            return time.perf_counter() - begun
