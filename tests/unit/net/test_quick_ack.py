"""The end of a TLS handshake is acknowledged at once: a client with Nagle's algorithm waits for that."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from gateway.net import quick_ack
from gateway.net.quick_ack import send_tcp_ack


class Connection:
    def __init__(self, *, gone=False):
        self.set, self.gone = [], gone

    def setsockopt(self, *option):
        if self.gone:
            raise OSError("gone")
        self.set.append(option)


def transport(connection):
    return SimpleNamespace(get_extra_info={"socket": connection}.get)


def test_what_is_due_is_acknowledged_and_what_comes_later_is_not():
    connection = Connection()
    send_tcp_ack(transport(connection))
    assert connection.set == [
        (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 2)
    ]  # 1 would hold for the next ones too


@pytest.mark.parametrize("connection", [Connection(gone=True), None])
def test_a_peer_that_has_left_is_no_fault(connection):
    send_tcp_ack(transport(connection))


def test_a_system_without_it_does_nothing(monkeypatch):
    monkeypatch.setattr(quick_ack, "_QUICKACK", None)
    connection = Connection()
    send_tcp_ack(transport(connection))
    assert connection.set == []
