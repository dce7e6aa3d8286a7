"""A client certificate is good until its notAfter: for a login, a resumed session and a connection."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import raw
from harness.client_certificates import ClientCa
from harness.device import join
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, ClientCa]]:
    folder = tmp_path_factory.mktemp("house")
    authority = ClientCa(folder)
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port, LOG_LEVEL="info", TLS_CLIENT_CA_PATH=str(authority.path))
    try:
        gateway.start()
        gateway.add_device("lamp-1", "sensor")
        gateway.add_device("reader")
        yield gateway, authority
    finally:
        gateway.kill()
        bus.kill()


def client(gateway: Gateway, certificate: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = gateway.tls()
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(certificate)
    return context


def connected(
    gateway: Gateway, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost", session=session)


def code_of_connack(one: ssl.SSLSocket) -> int:
    one.sendall(raw.connect("c", v5=True))
    answer = one.recv(4_096)
    assert answer[0] == 0x20
    return answer[3]


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_a_connection_ends_with_its_certificate(
    house: tuple[Gateway, ClientCa], tmp_path: Path, version: ssl.TLSVersion
) -> None:
    gateway, authority = house
    certificate = authority.certificate(tmp_path, "lamp-1", ends=4)
    with connected(gateway, client(gateway, certificate, version)) as one:
        assert code_of_connack(one) == 0
        goodbye = one.recv(4_096)
    assert goodbye[:3:2] == b"\xe0\x87"  # DISCONNECT, not authorized
    assert b"The client certificate has ended." in goodbye


def test_a_session_that_is_resumed_after_the_end_of_its_certificate_logs_nobody_in(
    house: tuple[Gateway, ClientCa], tmp_path: Path
) -> None:
    gateway, authority = house
    certificate = authority.certificate(tmp_path, "lamp-1", ends=3)
    ends = time.time() + 3
    context = client(gateway, certificate, TLS_1_2)
    with connected(gateway, context) as first:  # it never says who it is: the gateway waits for ten seconds
        time.sleep(max(0.0, ends + 1 - time.time()))
        with connected(gateway, context, first.session) as late:
            assert late.session_reused
            assert code_of_connack(late) == 0x87
    assert '"reason":"the client certificate has ended"' in gateway.log_text()


def test_a_session_is_resumed_only_while_its_connection_lasts(
    house: tuple[Gateway, ClientCa], tmp_path: Path
) -> None:
    gateway, authority = house
    context = client(gateway, authority.certificate(tmp_path, "lamp-1"), TLS_1_2)
    with connected(gateway, context) as one:
        assert code_of_connack(one) == 0
        session = one.session
        one.sendall(raw.packet(0xE0))
        assert one.recv(4_096) == b""
    with connected(gateway, context, session) as again:
        assert not again.session_reused
        assert code_of_connack(again) == 0


def test_what_was_sent_last_arrives_though_there_is_no_close_notify(
    house: tuple[Gateway, ClientCa], tmp_path: Path
) -> None:
    """A socket that is closed with something unread takes back what the peer has not had."""
    gateway, authority = house
    with join(gateway, "reader") as writer:
        for number in range(10):
            assert writer.publish(f"big/{number}", bytes(200_000), retain=True) == 0
    context = client(gateway, authority.certificate(tmp_path, "reader"), TLS_1_2)
    with connected(gateway, context) as one:
        assert code_of_connack(one) == 0
        one.sendall(raw.subscribe(1, ("big/#", 0), v5=True))
        time.sleep(0.5)
        gateway.admin("device", "kick", "reader")
        got = b""
        for _ in range(3):
            one.sendall(raw.PINGREQ)
            time.sleep(0.1)
        with contextlib.suppress(ssl.SSLEOFError):
            while chunk := one.recv(65_536):
                got += chunk
    assert len(got) > 2_000_000
    assert b"An administrator ended the connection." in got[-80:]
