"""What a start makes, what it never makes again, and that it refuses with every problem at once."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

import pytest
import structlog

from gateway.app.gateway_process import run
from gateway.app.startup_preparation import KEYS_GONE, StartError, prepare
from gateway.config import Settings
from gateway.store import open_store

ACL = Path(__file__).resolve().parents[3] / "acl"


@pytest.fixture(autouse=True)
def _as_it_was():
    """The logs and the threads of this process: a start configures them."""
    handlers, switching = logging.getLogger().handlers[:], sys.getswitchinterval()
    yield
    sys.setswitchinterval(switching)
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def settings(tmp_path):
    def given(**more):
        return Settings(
            **{
                "gateway_data_dir": tmp_path / "data",
                "tls_cert_path": tmp_path / "certs" / "server.crt",
                "tls_key_path": tmp_path / "certs" / "server.key",
                "acl_path": ACL,
                "gateway_mqtt_bind": "127.0.0.1:0",
                "gateway_health_bind": "127.0.0.1:0",
                "gateway_http_bind": "127.0.0.1:0",
            }
            | more
        )

    return given


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in {".db-wal", ".db-shm"}
    }


async def test_everything_is_made_once(settings, tmp_path):
    made = await prepare(settings(), ["lab.example"])
    assert {Path(path).name for path in made} >= {
        "server.crt",
        "server.key",
        "ca.crt",
        "gateway.db",
        "encryption.key",
    }
    before = contents(tmp_path)
    assert set(map(Path, made)) <= {tmp_path / path for path in before}
    assert await prepare(settings(), []) == []
    assert contents(tmp_path) == before


async def test_without_tls_no_certificate_is_made(settings, tmp_path):
    await prepare(settings(tls_enabled=False), [])
    assert not (tmp_path / "certs").exists()


async def test_lost_keys_are_not_made_anew_once_they_were_used(settings):
    given = settings()
    await prepare(given, [])
    key_file = given.encryption_key_path
    key_file.unlink()
    # Nothing was sealed: a new key harms nobody.
    assert await prepare(given, []) == [str(key_file)]
    store = await open_store(given.database_url)
    await store.key_uses.add("k1", 1)
    await store.close()
    before = key_file.read_bytes()
    assert await prepare(given, []) == []
    key_file.unlink()
    with pytest.raises(StartError) as caught:
        await prepare(given, [])
    assert caught.value.problems == (f"{key_file}: {KEYS_GONE}",)
    assert not key_file.exists()
    key_file.write_bytes(before)
    key_file.chmod(0o600)
    assert await prepare(given, []) == []


async def test_a_damaged_store_is_left_for_whoever_can_mend_it(settings):
    given = settings()
    await prepare(given, [])
    given.database_path.write_bytes(b"damaged")
    with pytest.raises(StartError) as caught:
        await prepare(given, [])
    assert str(given.database_path) in str(caught.value)
    assert given.database_path.read_bytes() == b"damaged"


def test_every_problem_is_told_and_nothing_is_made(settings, tmp_path, capsys):
    acl = tmp_path / "acl"
    shutil.copytree(ACL, acl)
    (acl / "roles" / "sensor.toml").write_text("[[allow]]\nactions = 5\n")
    (acl / "limits.toml").write_text("packet_size = 0\n")
    data = tmp_path / "data"
    (data / "keys").mkdir(parents=True)
    key_file = data / "keys" / "encryption.key"
    key_file.write_text("damaged")
    key_file.chmod(0o600)
    given = settings(acl_path=acl, tls_client_ca_path=tmp_path / "no.pem")
    assert run(given) == 1
    told = capsys.readouterr().err
    for part in ("sensor.toml", "limits.toml", "encryption.key", "TLS_CLIENT_CA_PATH"):
        assert part in told
    assert all(line.startswith("gateway: ") for line in told.splitlines())
    assert not (tmp_path / "certs").exists()
    assert not given.database_path.exists()


def test_a_port_that_is_taken_is_a_problem_and_no_crash(settings, capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bus = {"mqtt_broker": "127.0.0.1", "mqtt_port": 1}
        assert run(settings(gateway_mqtt_bind=f"127.0.0.1:{port}", **bus)) == 1
        assert "GATEWAY_MQTT_BIND" in capsys.readouterr().err
        assert run(settings(gateway_health_bind=f"127.0.0.1:{port}", **bus)) == 1
        assert "GATEWAY_HEALTH_BIND" in capsys.readouterr().err
