"""Addresses that can't be had: the error says which, why, and what to do."""

from __future__ import annotations

import socket

import pytest

from gateway.net.listening_sockets import AddressTaken, listen
from gateway.system.ip_address_blocks import Address


def refused(host: str, port: int) -> str:
    with pytest.raises(AddressTaken) as caught:
        listen([Address(host, port)], backlog=1)
    return str(caught.value)


def test_an_address_that_is_none_of_this_machine_s() -> None:
    said = refused("192.0.2.1", 8883)
    assert said.startswith(
        "192.0.2.1:8883 can't be had: this machine has no such address: name one of its own"
    )
    assert "(" not in said, "the words of the standard library"


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(
        socket, "getaddrinfo", unknown
    )  # else a server of names is asked, which takes its time
    assert refused("256.0.0.1", 8883).startswith("256.0.0.1:8883 can't be had: no host of that name is known")


def test_one_that_another_program_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert refused("127.0.0.1", port).startswith(
            f"127.0.0.1:{port} can't be had: a program listens there"
        )
