"""A client that leaves Nagle's algorithm on does not wait 40 ms for its CONNACK."""

from __future__ import annotations

import socket
import statistics
import time

from harness import raw
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

DELAYED = 0.040
"""How long Linux delays an acknowledgement at least, in seconds."""


def waited(gateway: Gateway) -> float:
    """From the end of the handshake to the CONNACK."""
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain,
        gateway.tls().wrap_socket(plain, server_hostname="localhost") as link,
    ):
        assert link.version() == "TLSv1.3"
        assert not link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        begun = time.perf_counter()
        link.sendall(raw.connect("c", username="lamp-1", password=gateway.secrets["lamp-1"]))
        assert link.recv(4) == b"\x20\x02\0\0"
        return time.perf_counter() - begun


def test_a_connect_is_not_held_back_by_nagles_algorithm(world: tuple[Mosquitto, Gateway]) -> None:
    _, gateway = world
    gateway.add_device("lamp-1")
    waited(gateway)  # the secret is hashed once
    # Of many, for a busy machine makes some of them longer, and the kernel some of them shorter.
    assert statistics.median(waited(gateway) for _ in range(21)) < DELAYED
