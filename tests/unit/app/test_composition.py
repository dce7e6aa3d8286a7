"""What a start makes, what it never makes again, and that it refuses with every problem at once."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from pathlib import Path

import pytest
import structlog
from harness.failing_store import taken

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


async def told(given):
    """What waits in the store for a gateway to report."""
    store = await open_store(given.database_url)
    events = await taken(store)
    await store.close()
    return [(one["kind"], one["outcome"], one["reason"]) for one in events]


def of_a_first_key(name):
    return [
        ("key", "begun", f"the first {name} key to be made"),
        ("key", "done", f"the first {name} key made"),
    ]


async def test_what_a_first_start_makes_is_told_before_and_after(settings, tmp_path):
    given, certs = settings(), tmp_path / "certs"
    await prepare(given, [])
    assert await told(given) == [
        (
            "certificate",
            "begun",
            f"{certs}/server.crt, {certs}/server.key to be made, and a CA if there is none",
        ),
        ("certificate", "done", f"{certs}/ca.crt made"),
        ("certificate", "done", f"{certs}/server.crt made"),
        *of_a_first_key("sealing"),
        *of_a_first_key("signing"),
        *of_a_first_key("audit"),
    ]
    await prepare(given, [])
    assert await told(given) == []


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_first_start_that_is_killed_is_told_and_the_next_tells_what_it_makes(
    settings, tmp_path, moment
):
    """Kind: keys that are in use, of which no event tells who made them, or when."""
    given = settings(tls_enabled=False)
    script = (
        "import asyncio, os, signal, sys\n"
        "from gateway.app.startup_preparation import prepare\n"
        "from gateway.config import Settings\n"
        "from gateway.keys import key_files\n"
        "write = key_files.write\n"
        "def killed(*given):\n"
        "    if sys.argv[1] == 'after':\n"
        "        write(*given)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "key_files.write = killed\n"
        "asyncio.run(prepare(Settings(gateway_data_dir=sys.argv[2], tls_enabled=False), []))\n"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", script, moment, tmp_path / "data")
    assert await child.wait() == -9
    assert given.encryption_key_path.exists() is (moment == "after")
    assert await told(given) == of_a_first_key("sealing")[:1]
    await prepare(given, [])
    assert await told(given) == [
        *([] if moment == "after" else of_a_first_key("sealing")),
        *of_a_first_key("signing"),
        *of_a_first_key("audit"),
    ]


async def test_what_no_event_can_tell_is_not_made(settings, tmp_path):
    given = settings()
    store = await open_store(given.database_url)
    await store.audit_trails.set_fault("node-1", "the disk is full")
    await store.close()
    with pytest.raises(StartError, match=r"nothing was changed, .*: the disk is full"):
        await prepare(given, [])
    assert not list((tmp_path / "certs").glob("*"))
    assert not given.encryption_key_path.exists()
    assert await told(given) == []


async def test_what_can_not_be_made_is_told_as_that(settings):
    given = settings()
    given.tls_cert_path.parent.mkdir()
    given.tls_cert_path.touch()
    with pytest.raises(StartError, match="half there"):
        await prepare(given, [])
    (_, begun, _), (kind, failed, why) = await told(given)
    assert (kind, begun, failed) == ("certificate", "begun", "failed")
    assert "half there" in why


async def test_a_new_store_tells_which_keys_it_finds(settings):
    """They were imported before there was a store, or the one before it was taken away."""
    given = settings(tls_enabled=False)
    await prepare(given, [])
    given.database_path.unlink()
    await prepare(given, [])
    assert await told(given) == [("key", "done", "a new store was made beside keys: sealing, signing, audit")]


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
