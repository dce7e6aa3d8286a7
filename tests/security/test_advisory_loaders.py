"""CVE-2026-95848 (Moquette): open to all when what decides can't be loaded.

Everything that is read at the start is broken, one thing at a time: the gateway refuses to start, and says
why. `tests/promises` does some of it with the command itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from harness.gateway import ROOT

from bench.ports import free_port
from gateway.app.gateway_process import run
from gateway.app.startup_preparation import check, prepare
from gateway.config import ConfigError, load_settings
from gateway.store import open_store


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """The logs and the threads of this process: a start configures them."""
    handlers, switching = logging.getLogger().handlers[:], sys.getswitchinterval()
    yield
    sys.setswitchinterval(switching)
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.getLogger().handlers[:] = handlers


class Place:
    """A gateway's folder: it has run, its keys were used, and it stands still."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.given = {
            "mqtt_broker": "127.0.0.1",
            "mqtt_port": str(free_port()),
            "gateway_data_dir": str(folder / "data"),
            "tls_cert_path": str(folder / "certs" / "server.crt"),
            "tls_key_path": str(folder / "certs" / "server.key"),
            "tls_client_ca_path": str(folder / "certs" / "ca.crt"),
            "acl_path": str(folder / "acl"),
            "gateway_mqtt_bind": "127.0.0.1:0",
            "gateway_health_bind": "127.0.0.1:0",
            "gateway_http_bind": "127.0.0.1:0",
        }

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def start(self, capsys: pytest.CaptureFixture[str]) -> str:
        """Try to; what it says when it does not."""
        try:
            settings = load_settings(**self.given)
        except ConfigError as error:
            return str(error)
        assert run(settings) == 1
        return capsys.readouterr().err


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    shutil.copytree(ROOT / "acl", folder / "acl")
    place = Place(folder)
    given = {name: value for name, value in place.given.items() if name != "tls_client_ca_path"}

    async def make() -> None:
        settings = load_settings(**given)
        await prepare(settings, [])
        store = await open_store(settings.database_url)
        await store.key_uses.add("k1", 7)
        await store.close()

    asyncio.run(make())
    return folder


@pytest.fixture
def place(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    shutil.copytree(sound, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return Place(tmp_path / "place")


def test_the_place_is_sound_when_nothing_is_broken(place: Place) -> None:
    """Else the tests below would prove nothing."""
    assert "sensor" in check(load_settings(**place.given)).roles


NOT_THERE = b"(not there)"
JUNK = {"gone": NOT_THERE, "empty": b"", "junk": b"\x00\xff junk {", "cut short": b"(cut short)"}
# A file, and what of it the refusal names.
FILES = {
    "data/keys/encryption.key": "encryption.key",
    "data/keys/signing.key": "signing.key",
    "data/gateway.db": "gateway.db",
    "certs/server.crt": "TLS_CERT_PATH",
    "certs/server.key": "TLS_KEY_PATH",
    "certs/ca.crt": "TLS_CLIENT_CA_PATH",
    "acl/encryption.toml": "encryption.toml",
    "acl/limits.toml": "limits.toml",
    "acl/roles/sensor.toml": "sensor.toml",
    "acl/cases.toml": "cases.toml",
}
# What a first start makes, what may be left out, and what may have nothing in it.
HARMLESS = {
    ("data/keys/signing.key", "gone"),  # no token was issued
    ("data/gateway.db", "gone"),
    ("data/gateway.db", "empty"),
    ("acl/limits.toml", "empty"),
    ("acl/cases.toml", "empty"),
    ("acl/cases.toml", "gone"),
    ("acl/roles/sensor.toml", "gone"),
}


@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name in FILES for damage in JUNK if (name, damage) not in HARMLESS],
)
def test_a_file_that_decides_and_can_not_be_loaded(
    place: Place, capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    path = place.folder / name
    content = JUNK[damage]
    if damage == "cut short":
        content = path.read_bytes()[: path.stat().st_size // 2]
        if name.endswith(".toml"):
            content += b"\n[["  # cut at a line's end it would be sound
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content)
    assert FILES[name] in place.start(capsys)


def of_a_later_version(place: Place) -> None:
    with contextlib.closing(sqlite3.connect(place.folder / "data" / "gateway.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


def without_a_table(place: Place) -> None:
    with contextlib.closing(sqlite3.connect(place.folder / "data" / "gateway.db")) as connection:
        connection.execute("DROP TABLE devices")
        connection.commit()


def another_pair(place: Place) -> None:
    shutil.copy(place.folder / "certs" / "ca.key", place.folder / "certs" / "server.key")


OTHERS: dict[str, tuple[Callable[[Place], object], str]] = {
    "a store of a later version": (of_a_later_version, "gateway.db"),
    "a store without a table": (without_a_table, "devices"),
    "a private key of another certificate": (another_pair, "TLS_KEY_PATH"),
    "gateway.toml that is none": (lambda place: place.write("gateway.toml", b"[[x"), "gateway.toml"),
    "gateway.toml with an unknown key": (lambda place: place.write("gateway.toml", b"allow = 1\n"), "allow"),
    ".env with an unknown name": (lambda place: place.write(".env", b"GATEWAY_ALLOW=all\n"), "GATEWAY_ALLOW"),
    "a policy folder that is not there": (lambda place: place.given.update(acl_path="/nowhere"), "/nowhere"),
    "a CA of the bus that is none": (
        lambda place: place.given.update(mqtt_ca_path="/etc/passwd"),
        "MQTT_CA_PATH",
    ),
    "a short JWT_SECRET": (lambda place: place.given.update(jwt_secret="x" * 31), "jwt_secret"),
    "a public key as JWT_SECRET": (
        lambda place: place.given.update(jwt_secret=(place.folder / "certs" / "server.crt").read_text()),
        "JWT_SECRET",
    ),
    "a file for JWT_SECRET that is not there": (
        lambda place: place.given.update(jwt_secret_file="/nowhere"),
        "/nowhere",
    ),
    "another ENCRYPTION_KEY": (lambda place: place.given.update(encryption_key="00" * 32), "encryption.key"),
    "a choice that is none": (lambda place: place.given.update(gateway_on_deny="allow"), "gateway_on_deny"),
    "invariants that do not hold": (
        lambda place: place.write(
            "acl/invariants.toml", b'[[never]]\nactions = ["publish"]\ntopics = ["#"]\nreason = "x"\n'
        ),
        "invariants.toml",
    ),
    "lists of topics that are none": (
        lambda place: place.write("acl/topics.toml", b"x = 1\n"),
        "topics.toml",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_decides_is_there_and_makes_no_sense(
    place: Place, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    damage, told = OTHERS[name]
    damage(place)
    assert told.lower() in place.start(capsys).lower()
