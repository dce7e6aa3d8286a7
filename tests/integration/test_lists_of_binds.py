"""Where the gateway listens: both families by one address, several addresses, and how they are written."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest
from harness import raw
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto

from bench.ports import free_port

REFUSED = b"\x20\x02\x00\x05"


def wrong_login(gateway: Gateway, host: str, port: int) -> str:
    """Log in with a wrong secret; the answer is our own address as the log is to write it."""
    context = ssl.create_default_context(cafile=str(gateway.ca))
    plain = socket.create_connection((host, port), timeout=10)
    with plain, context.wrap_socket(plain, server_hostname=host) as peer:
        peer.sendall(raw.connect(client_id="c", username="nobody", password="x"))
        assert peer.recv(4) == REFUSED
        own = peer.getsockname()
    return f"[{own[0]}]:{own[1]}" if ":" in own[0] else f"{own[0]}:{own[1]}"


def addresses_in_the_log(gateway: Gateway) -> list[object]:
    return [line["address"] for line in gateway.log_lines() if line["event"] == "audit" and "address" in line]


@pytest.mark.parametrize("bind", ["[::]:{0}", "0.0.0.0:{0}, [::]:{0}", "[::1]:{0},127.0.0.1:{0}"])
def test_both_families(mosquitto: Mosquitto, start_gateway: Callable[..., Gateway], bind: str) -> None:
    port = free_port()
    gateway = start_gateway(mosquitto.port, GATEWAY_MQTT_BIND=bind.format(port))
    told = [wrong_login(gateway, host, port) for host in ("127.0.0.1", "::1")]
    assert addresses_in_the_log(gateway) == told
    shown = [line.split()[1] for line in gateway.log_text().splitlines() if line.startswith("devices ")]
    assert shown == [f"mqtts://{one.strip()}" for one in bind.format(port).split(",")]


def test_the_api_listens_on_several_addresses_too(
    mosquitto: Mosquitto, start_gateway: Callable[..., Gateway]
) -> None:
    api = free_port()
    running = start_gateway(mosquitto.port, GATEWAY_HTTP_BIND=f"127.0.0.1:{api},[::1]:{api}")
    for host in ("127.0.0.1", "::1"):
        plain = socket.create_connection((host, api), timeout=10)
        with plain, running.tls().wrap_socket(plain, server_hostname=host) as peer:
            peer.sendall(b"GET /.well-known/jwks.json HTTP/1.1\r\nhost: x\r\n\r\n")
            assert peer.recv(15).startswith(b"HTTP/1.1 200")
    text = running.log_text()
    assert f"https://127.0.0.1:{api}/api" in text
    assert f"https://[::1]:{api}/api" in text
