"""Alerts end to end: a real bus that is lost, and what a webhook, Slack and a mail server are told of it."""

from __future__ import annotations

import base64
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto
from harness.receivers import HttpReceiver, MailReceiver, authority, wait_until
from standardwebhooks.webhooks import Webhook as Receiver

pytestmark = pytest.mark.filterwarnings("ignore:Session.login_data is deprecated")

KEY = base64.b64encode(bytes(range(32))).decode()
FILE = """
allow_private_addresses = true

[[alert]]
name = "bus_down"
duration = "1s"

[[channel]]
name = "ops"
kind = "webhook"
url = "{hook}"
secret_file = "hook"
ca_file = "{ca}"

[[channel]]
name = "chat"
kind = "slack"
secret_file = "slack"

[[channel]]
name = "mail"
kind = "email"
host = "127.0.0.1"
port = {mail}
from = "gateway@example.org"
to = ["ops@example.org"]
username = "gateway"
secret_file = "password"
ca_file = "{ca}"
"""


@dataclass
class Receivers:
    hook: HttpReceiver
    slack: HttpReceiver
    mail: MailReceiver

    def told(self) -> list[dict]:
        return [Receiver(KEY).verify(one.body, one.headers) for one in self.hook.posted]


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[Receivers]:
    tls, ca = authority(tmp_path)
    found = Receivers(HttpReceiver(tls), HttpReceiver(), MailReceiver(tls))
    for name, text in (
        ("hook", f"whsec_{KEY}"),
        ("slack", found.slack.url.replace("/x", "/services/PLANTED")),
        ("password", found.mail.password),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    text = FILE.format(hook=found.hook.url, ca=ca, mail=found.mail.port)
    (tmp_path / "monitoring.toml").write_text(text)
    yield found
    found.hook.stop()
    found.slack.stop()
    found.mail.stop()


def watched(start: Callable[..., Gateway], bus: Mosquitto, folder: Path) -> Gateway:
    path = str(folder / "monitoring.toml")
    return start(bus.port, MONITORING_PATH=path, HEALTH_CHECK_INTERVAL="1")


def kept(gateway: Gateway) -> list[tuple[str]]:
    """The channels that the store has a message for."""
    with contextlib.closing(sqlite3.connect(gateway.folder / "data" / "gateway.db")) as store:
        return store.execute("SELECT channel FROM alert_messages").fetchall()


def test_a_lost_bus_is_told_once_through_every_channel_though_the_gateway_is_killed(
    receivers: Receivers, mosquitto: Mosquitto, start_gateway, tmp_path: Path
):
    gateway = watched(start_gateway, mosquitto, tmp_path)
    mosquitto.stop()
    wait_until(lambda: bool(receivers.hook.posted and receivers.slack.posted and receivers.mail.mails))
    (told,) = receivers.told()
    assert (told["alert"], told["state"], told["severity"]) == ("bus_down", "firing", "critical")
    assert told["labels"] == {"service": "bus"}
    assert "bus_down" in receivers.slack.posted[0].json["text"]
    assert receivers.mail.mails[0]["subject"].startswith("[CRITICAL] bus_down (service bus)")
    assert "firing\tcritical\tbus_down\tservice bus" in gateway.admin("alerts", "list").stdout
    # One that is killed before it has noted what arrived sends that again, under the same id.
    wait_until(lambda: kept(gateway) == [])
    gateway.kill()
    gateway.start(wait_ready=False)
    wait_until(lambda: any(line["event"] == "bus unavailable" for line in gateway.log_lines()[-30:]))
    gateway.admin("alerts", "silence", "--all", "--for", "1m", "--comment", "we know")
    wait_until(lambda: any("silenced until" in str(line.get("reason")) for line in gateway.log_lines()))
    assert [len(receivers.hook.posted), len(receivers.slack.posted), len(receivers.mail.mails)] == [1, 1, 1]
    (event,) = [line for line in gateway.log_lines() if line.get("action") == "bus_down"]
    assert (event["kind"], event["outcome"], event["level"]) == ("alert", "failed", "warning")
    text = gateway.log_text()
    assert not [secret for secret in ("PLANTED", receivers.mail.password, KEY) if secret in text]


def test_what_fires_is_listed_though_the_store_can_not_be_written(
    receivers: Receivers, mosquitto: Mosquitto, start_gateway, tmp_path: Path
):
    gateway = watched(start_gateway, mosquitto, tmp_path)
    path = gateway.folder / "data" / "gateway.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as store:
        store.execute("BEGIN IMMEDIATE")
        mosquitto.stop()
        wait_until(lambda: "firing\tcritical\tbus_down" in gateway.admin("alerts", "list").stdout)
        assert store.execute("SELECT COUNT(*) FROM alert_states WHERE phase = 'firing'").fetchone() == (0,)
        store.execute("ROLLBACK")


def test_the_channels_are_tried_from_the_command_line(
    receivers: Receivers, mosquitto: Mosquitto, start_gateway, tmp_path: Path
):
    gateway = watched(start_gateway, mosquitto, tmp_path)
    assert gateway.admin("alerts", "test").stdout == "ops took it.\nchat took it.\nmail took it.\n"
    assert receivers.told()[0]["alert"] == "test"
    receivers.slack.answers, receivers.slack.said = [404], b"no_service"
    failed = gateway.admin("alerts", "test", check=False)
    assert failed.returncode == 1
    assert "chat: it answers 404 (no_service)" in failed.stderr
    assert "PLANTED" not in failed.stderr
    assert gateway.admin("alerts", "test", "--channel", "mail").stdout == "mail took it.\n"
