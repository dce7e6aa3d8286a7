"""Whoever is turned away before the login leaves a line at `info` that says why; repeats are counted."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import raw
from harness.client_certificates import DAY, ClientCa
from harness.device import Device
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, ClientCa]]:
    folder = tmp_path_factory.mktemp("house")
    authority = ClientCa(folder)
    bus = Mosquitto(folder / "bus").start()
    gateway = Gateway(folder / "gateway", bus.port, LOG_LEVEL="info", TLS_CLIENT_CA_PATH=str(authority.path))
    try:
        gateway.start()
        yield gateway, authority
    finally:
        gateway.kill()
        bus.kill()


def told(gateway: Gateway, source: str) -> list[str]:
    """Why this address was refused, when a line has come; no other test comes from there."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        lines = [one for one in gateway.log_lines() if str(one.get("address", "")).startswith(f"{source}:")]
        found = [one for one in lines if one["event"] == "audit"]
        if found:
            assert {(one["kind"], one["outcome"]) for one in found} == {("login", "refused")}
            return [str(one["reason"]) for one in found]
        time.sleep(0.05)
    raise AssertionError(f"no line for {source}")


def level(number: int, name: str = "MQTT", client_id: str = "c") -> bytes:
    return raw.packet(0x10, raw.text(name) + bytes([number, 2, 0, 60]) + raw.text(client_id))


FIRST_PACKETS = {
    "MQTT of a level that nobody speaks": (level(9), "the protocol level 9 is none of MQTT"),
    "a name that is not MQTT": (
        raw.packet(0x10, raw.text("MQTX") + b"\x04\x02\0\x3c\0\1c"),
        "name is not MQTT",
    ),
    "HTTP inside TLS": (b"GET / HTTP/1.1\r\n\r\n", "perhaps it is HTTP"),
    "garbage": (b"\xff\xfe\xfd", "the first packet is not a CONNECT"),
    "an empty id that is to be kept": (raw.connect("", clean=False), "empty client id needs a clean session"),
    "an empty id of MQTT 3.1": (level(3, "MQIsdp", ""), "MQTT 3.1 knows no empty client id"),
    "NUL in the id": (raw.connect("a\0b"), "the client id holds U+0000"),
    "bad UTF-8 in the id": (raw.connect(b"\xff"), "the client id is not well-formed UTF-8"),
    "bad UTF-8 in the id, v5": (raw.connect(b"\xff", v5=True), "the client id is not well-formed UTF-8"),
    "bad UTF-8 in the user name": (raw.connect("c", username=b"\xff", password="p"), "the user name is not"),
    "a CONNECT over 64 KiB": (b"\x10\x80\x80\x08", "longer than the 65,536 bytes that may come"),
    "too many properties": (raw.connect("c", v5=True, props=b"\x26\0\0\0\0" * 257), "more properties than"),
    "a method that nobody has": (
        raw.connect("c", v5=True, props=b"\x15\0\1X"),
        "no such authentication method",
    ),
}


@pytest.mark.parametrize("case", FIRST_PACKETS)
def test_a_first_packet_that_is_refused(house: tuple[Gateway, ClientCa], case: str) -> None:
    gateway, _ = house
    packet, why = FIRST_PACKETS[case]
    source = f"127.0.1.{list(FIRST_PACKETS).index(case) + 1}"
    with Device(gateway, source=source) as one:
        one.send(packet)
        one.ended()
    (reason,) = told(gateway, source)
    assert why in reason


def plain(gateway: Gateway, source: str, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), source_address=(source, 0)) as one:
        one.sendall(data)
        one.settimeout(10)
        with contextlib.suppress(ConnectionError):
            while one.recv(4096):
                pass


def tls(gateway: Gateway, source: str, context: ssl.SSLContext) -> None:
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", gateway.port), source_address=(source, 0)) as one,
        context.wrap_socket(one, server_hostname="localhost") as wrapped,
    ):
        wrapped.settimeout(10)
        wrapped.recv(4096)


def old(gateway: Gateway) -> ssl.SSLContext:
    context = gateway.tls()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options &= ~ssl.OP_NO_TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def few(gateway: Gateway) -> ssl.SSLContext:
    context = gateway.tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    return context


def in_crumbs(gateway: Gateway) -> bytes:
    """A ClientHello in records of one byte each."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        gateway.tls().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    return b"".join(hello[:3] + b"\0\1" + bytes([byte]) for byte in hello[5:])


HANDSHAKES: dict[str, tuple[Callable[[Gateway, str], None], str]] = {
    "MQTT without TLS": (lambda g, s: plain(g, s, raw.connect("c")), "a plain-text client on the TLS port"),
    "MQTT 5 without TLS": (
        lambda g, s: plain(g, s, raw.connect("c", v5=True, username="u", password="p")),
        "a plain-text client on the TLS port",
    ),
    "HTTP without TLS": (lambda g, s: plain(g, s, b"GET / HTTP/1.1\r\n\r\n"), "plain-text HTTP client"),
    "a client that does not know the CA": (
        lambda g, s: tls(g, s, ssl.create_default_context()),
        "the client does not trust the gateway's certificate",
    ),
    "TLS 1.1": (lambda g, s: tls(g, s, old(g)), "it needs TLS 1.2 or 1.3"),
    "no cipher suite in common": (lambda g, s: tls(g, s, few(g)), "no cipher suite in common"),
    "too many records": (lambda g, s: plain(g, s, in_crumbs(g)), "a handshake in too many records"),
}


@pytest.mark.parametrize("case", HANDSHAKES)
def test_a_handshake_that_fails(house: tuple[Gateway, ClientCa], case: str) -> None:
    gateway, _ = house
    attempt, why = HANDSHAKES[case]
    source = f"127.0.2.{list(HANDSHAKES).index(case) + 1}"
    attempt(gateway, source)
    (reason,) = told(gateway, source)
    assert reason.startswith("TLS: ")
    assert why in reason


CERTIFICATES = {
    "expired": ({"begins": -9 * DAY, "ends": -DAY}, "it has expired"),
    "not valid yet": ({"begins": DAY, "ends": 9 * DAY}, "it is not valid yet"),
    "of its own": ({"own": True}, "it is signed by itself"),
    "of another CA": ({}, "it is of a CA that is not that of TLS_CLIENT_CA_PATH"),
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("case", CERTIFICATES)
def test_the_fault_of_a_client_certificate(
    house: tuple[Gateway, ClientCa], tmp_path: Path, case: str, version: ssl.TLSVersion
) -> None:
    gateway, authority = house
    made, why = CERTIFICATES[case]
    source = f"127.0.3.{list(CERTIFICATES).index(case) + 1 + 10 * (version - ssl.TLSVersion.TLSv1_2)}"
    context = gateway.tls()
    context.minimum_version = context.maximum_version = version
    signer = ClientCa(tmp_path) if case == "of another CA" else authority
    context.load_cert_chain(signer.certificate(tmp_path, "lamp-1", **made))
    tls(gateway, source, context)
    (reason,) = told(gateway, source)
    assert f"the client certificate is refused: {why}" in reason


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_is_shown_beside_a_good_certificate_is_bounded(
    house: tuple[Gateway, ClientCa], tmp_path: Path, version: ssl.TLSVersion
) -> None:
    gateway, authority = house
    source = f"127.0.3.{31 + version - ssl.TLSVersion.TLSv1_2}"
    context = gateway.tls()
    context.minimum_version = context.maximum_version = version
    good = authority.certificate(tmp_path, "lamp-1")
    stray = ClientCa(tmp_path).path.read_bytes()
    good.write_bytes(good.read_bytes() + stray * (40_000 // len(stray) * 2))
    context.load_cert_chain(good)
    tls(gateway, source, context)
    (reason,) = told(gateway, source)
    assert reason == "TLS: its handshake is too long: it has to send its own certificates alone"


def test_the_same_again_from_one_address_is_a_number(house: tuple[Gateway, ClientCa]) -> None:
    gateway, _ = house
    for _ in range(20):
        with Device(gateway, source="127.0.4.1") as one:
            one.send(level(9))
            one.ended()
    with Device(gateway, source="127.0.4.1") as one:
        one.send(level(8))
        one.ended()
    with Device(gateway, source="127.0.4.2") as one:
        one.send(level(9))
        one.ended()
    assert len(told(gateway, "127.0.4.2")) == 1
    assert ["level 9" in one for one in told(gateway, "127.0.4.1")] == [True, False]
