"""Behind a real nginx and a real HAProxy: logged and throttled is who is behind them, on both ports."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import raw
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto, wait_for_port

from bench.ports import free_port

REFUSED = b"\x20\x02\x00\x05"
BUSY = b"\x20\x02\x00\x03"
MODULES = Path("/usr/lib/nginx/modules")


def v2(source: str, port: int = 50_000) -> bytes:
    body = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", port, 8883)
    return bytes.fromhex("0d0a0d0a000d0a515549540a") + struct.pack(">BBH", 0x21, 0x11, len(body)) + body


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("behind")
    bus = Mosquitto(folder / "bus").start()
    running = Gateway(
        folder / "gateway",
        bus.port,
        GATEWAY_PROXY_FROM="127.0.0.1",
        GATEWAY_HTTP_BIND=f"127.0.0.1:{free_port()}",
    )
    limits = running.acl / "limits.toml"
    limits.write_text(re.sub(r"(?m)^(login_failures_per_minute_address *=) .*", r"\1 2", limits.read_text()))
    try:
        yield running.start()
    finally:
        running.kill()
        bus.kill()


def nginx(folder: Path, listen: int, to: int) -> subprocess.Popen[bytes]:
    """As deploy/nginx/nginx.conf has it: stock nginx sends version 1 alone."""
    module = MODULES / "ngx_stream_module.so"
    (folder / "nginx.conf").write_text(
        f"""{f"load_module {module};" if module.exists() else ""}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
stream {{
    server {{ listen 127.0.0.1:{listen}; proxy_pass 127.0.0.1:{to}; proxy_protocol on; }}
}}
"""
    )
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    return subprocess.Popen([binary, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")])


def haproxy(folder: Path, listen: int, to: int) -> subprocess.Popen[bytes]:
    (folder / "haproxy.cfg").write_text(
        f"""defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen mqtt
  bind 127.0.0.1:{listen}
  server gateway 127.0.0.1:{to} send-proxy-v2-ssl-cn check-send-proxy check inter 200ms
"""
    )
    binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
    return subprocess.Popen([binary, "-db", "-f", str(folder / "haproxy.cfg")], stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def running(start, folder: Path, to: int) -> Iterator[int]:
    port = free_port()
    process = start(folder, port, to)
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def dial(gateway: Gateway, port: int, own: str, header: bytes = b"") -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(own, 0))
    plain.sendall(header)
    return ssl.create_default_context(cafile=str(gateway.ca)).wrap_socket(plain, server_hostname="127.0.0.1")


def login(gateway: Gateway, port: int, own: str, header: bytes = b"", **words: str) -> tuple[bytes, str]:
    """The CONNACK, and the address that we came from."""
    with dial(gateway, port, own, header) as peer:
        peer.sendall(raw.connect(client_id="c", **words))
        return peer.recv(4), "{}:{}".format(*peer.getsockname())


def told(gateway: Gateway, **wanted: object) -> list[dict[str, object]]:
    """The lines of the log that say so, as soon as there is one."""
    deadline = time.monotonic() + 5
    while True:
        lines = [line for line in gateway.log_lines() if wanted.items() <= line.items()]
        if lines or time.monotonic() > deadline:
            return lines
        time.sleep(0.02)


@pytest.mark.parametrize("proxy", [nginx, haproxy])
def test_devices_and_the_api_behind_a_real_proxy(behind, tmp_path, proxy):
    name = f"lamp-{proxy.__name__}"
    secret = behind.add_device(name)
    with running(proxy, tmp_path, behind.port) as port:
        answer, address = login(behind, port, "127.0.0.9", username=name, password=secret)
        assert answer == b"\x20\x02\x00\x00"
        assert told(behind, event="connected", device=name, address=address)
    own = "127.0.1.1" if proxy is nginx else "127.0.1.2"
    with running(proxy, tmp_path, behind.http_port) as port, dial(behind, port, own) as peer:
        body = json.dumps({"device_id": name, "secret": "wrong"})
        peer.sendall(
            f"POST /api/v1/token HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert peer.recv(12) == b"HTTP/1.1 401"
        address = "{}:{}".format(*peer.getsockname())
    assert told(behind, event="audit", device=name, address=address)


def test_strangers_behind_a_proxy_are_throttled_each_by_its_own_address(behind):
    wrong = {"username": "nobody", "password": "x"}
    answers = [login(behind, behind.port, "127.0.0.1", v2("192.0.2.7"), **wrong)[0] for _ in range(4)]
    assert answers[:2] == [REFUSED] * 2
    assert answers[3] == BUSY
    assert login(behind, behind.port, "127.0.0.1", v2("192.0.2.8"), **wrong)[0] == REFUSED


def test_one_that_is_no_proxy_is_not_believed(behind):
    with pytest.raises(OSError):
        login(behind, behind.port, "127.0.0.77", v2("192.0.2.66"), username="nobody", password="x")
    assert login(behind, behind.port, "127.0.0.77", username="nobody", password="x")[0] == REFUSED
    assert not [line for line in behind.log_lines() if "192.0.2.66" in str(line.get("address"))]


def test_a_proxy_without_a_header_is_refused_and_the_log_says_what_to_do(behind):
    for _ in range(3):
        with pytest.raises(OSError):
            login(behind, behind.port, "127.0.0.1", username="nobody", password="x")
    lines = [
        line for line in told(behind, event="turned away") if "GATEWAY_PROXY_FROM" in str(line["reason"])
    ]
    assert len(lines) == 1
    assert str(lines[0]["address"]).startswith("127.0.0.1:")
