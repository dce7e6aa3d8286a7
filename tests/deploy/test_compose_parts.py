"""What compose.yaml puts together, each part run by hand: no engine can be had where the tests run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from harness import mosquitto as bus
from harness import raw
from harness.gateway import Gateway

from bench.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """As the first start makes them; run again it changes nothing."""
    folder = tmp_path / "secrets"
    for name in ("bus", "gateway", "grafana"):
        (folder / name).mkdir(parents=True)
    seen = []
    for _ in range(2):
        program = [sys.executable, "-I", ROOT / "deploy/compose/make_secrets.py", folder]
        subprocess.run(program, check=True, capture_output=True)
        seen.append({path: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4
    return folder


def test_each_secret_is_its_readers_alone(secrets):
    owners = {"bus": 1883, "gateway": 10001, "grafana": 472}
    for path in secrets.rglob("*"):
        if path.is_file():
            status = path.stat()
            assert status.st_mode & 0o377 == 0
            if os.geteuid() == 0:
                assert status.st_uid == owners[path.parent.name]
    password = (secrets / "gateway/password").read_text()
    assert len(password) == 43
    assert password not in (secrets / "bus/password_file").read_text()


def test_half_of_the_bus_secrets_are_made_anew_together(secrets):
    (secrets / "gateway/password").unlink()
    before = (secrets / "bus/password_file").read_bytes()
    subprocess.run([sys.executable, ROOT / "deploy/compose/make_secrets.py", secrets], check=True)
    assert (secrets / "bus/password_file").read_bytes() != before


@pytest.fixture
def stack(secrets, tmp_path):
    """Its Mosquitto, configured as there, and a gateway with what the other container mounts."""
    port = free_port()
    data = tmp_path / "bus-data"
    data.mkdir()
    text = (ROOT / "deploy/compose/mosquitto.conf").read_text()
    for there, here in (
        ("listener 1883", f"listener {port} 127.0.0.1"),
        ("/run/bus/", f"{secrets}/bus/"),
        ("/mosquitto/data/", f"{data}/"),
    ):
        assert there in text
        text = text.replace(there, here)
    config = tmp_path / "mosquitto.conf"
    config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
    process = subprocess.Popen(
        [bus.BINARY, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        bus.wait_for_port(port, process)
        yield port, secrets
    finally:
        process.terminate()
        process.wait(10)


def test_the_bus_is_healthy_for_its_own_check_and_for_nobody_without_a_password(stack):
    port, secrets = stack
    words = ["mosquitto_sub", "-p", str(port), "-t", "$SYS/broker/uptime", "-C", "1", "-W", "3"]
    environment = {"PATH": os.environ["PATH"]}
    refused = subprocess.run(words, env=environment, capture_output=True, check=False)
    assert refused.returncode != 0
    environment["XDG_CONFIG_HOME"] = str(secrets / "bus")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "seconds" in done.stdout


def health_check(gateway: Gateway, **environment: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-I", ROOT / "deploy/healthcheck.py"]
    return subprocess.run(
        program,
        cwd=gateway.folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def nginx_as_deployed(folder: Path, devices: int, api: int, look: int, to: tuple[int, int]):
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    for there, here in (
        ("listen 8883", f"listen 127.0.0.1:{devices}"),
        ("listen 8443", f"listen 127.0.0.1:{api}"),
        ("127.0.0.1:8080", f"127.0.0.1:{look}"),
        ("gateway:8883", f"127.0.0.1:{to[0]}"),
        ("gateway:8443", f"127.0.0.1:{to[1]}"),
        ("/tmp/nginx.pid", f"{folder}/nginx.pid"),
        ("worker_rlimit_nofile 40000;", ""),
        ("worker_connections 18000", "worker_connections 64"),
        ("worker_processes 2", "worker_processes 1"),
        ("worker_shutdown_timeout 25s", "worker_shutdown_timeout 1s"),
    ):
        assert there in text, there
        text = text.replace(there, here)
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    config = folder / "nginx.conf"
    config.write_text((f"load_module {module};\n" if module.exists() else "") + text)
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    words = [binary, "-e", "stderr", "-c", config, "-g", "daemon off;"]
    return subprocess.Popen(words, stderr=subprocess.DEVNULL)


def test_the_gateway_of_the_stack_behind_its_nginx(stack, tmp_path):
    port, secrets = stack
    http = free_port()
    gateway = Gateway(
        tmp_path / "gateway",
        port,
        MQTT_USERNAME="gateway",
        MQTT_PASSWORD_FILE=str(secrets / "gateway/password"),
        GATEWAY_PROXY_FROM="127.0.0.1",
        GATEWAY_HTTP_BIND=f"127.0.0.1:{http}",
    )
    front, api, look = free_port(), free_port(), free_port()
    proxy = nginx_as_deployed(tmp_path, front, api, look, (gateway.port, http))
    try:
        gateway.start()
        bind = f"127.0.0.1:{gateway.health_port}"
        assert health_check(gateway, gateway_health_bind=f"{bind},[::1]:9").returncode == 0
        assert health_check(gateway, GATEWAY_HEALTH_BIND=bind.replace("127.0.0.1", "0.0.0.0")).returncode == 0
        (gateway.folder / ".env").write_text(f"GATEWAY_HEALTH_BIND={bind}\n")
        assert health_check(gateway).returncode == 0
        assert health_check(gateway, GATEWAY_HEALTH_BIND="127.0.0.1:9").returncode == 1
        (gateway.folder / ".env").unlink()
        secret = gateway.add_device("lamp-1", "sensor")
        context = ssl.create_default_context(cafile=str(gateway.ca))
        bus.wait_for_port(front, proxy)
        plain = socket.create_connection(("127.0.0.1", front), timeout=10)
        with plain, context.wrap_socket(plain, server_hostname="localhost") as peer:
            peer.sendall(raw.connect(username="lamp-1", password=secret))
            assert peer.recv(4) == b"\x20\x02\x00\x00"
        plain = socket.create_connection(("127.0.0.1", api), timeout=10)
        with plain, context.wrap_socket(plain, server_hostname="localhost") as peer:
            peer.sendall(b"GET /.well-known/jwks.json HTTP/1.1\r\nhost: x\r\n\r\n")
            assert peer.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection(("127.0.0.1", look), timeout=10) as peer:
            assert peer.recv(10) == b"ok"
    finally:
        gateway.kill()
        proxy.terminate()
        proxy.wait(10)


def test_an_nginx_that_is_told_to_stop_ends_sessions_that_never_end(tmp_path):
    """`docker compose restart proxy`: as long as it waits nobody new comes in."""
    front, api, look = free_port(), free_port(), free_port()
    with socket.create_server(("127.0.0.1", 0)) as gateway:
        gateway.settimeout(20)
        port = gateway.getsockname()[1]
        proxy = nginx_as_deployed(tmp_path, front, api, look, (port, port))
        try:
            bus.wait_for_port(front, proxy)
            gateway.accept()[0].close()
            with socket.create_connection(("127.0.0.1", front), timeout=20), gateway.accept()[0] as session:
                assert session.recv(5) == b"PROXY"
                proxy.send_signal(signal.SIGQUIT)
                assert proxy.wait(20) == 0
        finally:
            proxy.kill()
            proxy.wait(10)
