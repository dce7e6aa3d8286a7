"""monitoring.toml: what it may say, and all that is wrong with it at once, with file and line."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pytest
from harness.readings import NOW, Measured

from gateway.alerts.channels.settings import EmailSettings, SlackSettings, WebhookSettings
from gateway.alerts.rules import Severity
from gateway.alerts.shipped_rules import SHIPPED
from gateway.config.monitoring import MonitoringError, load_monitoring
from gateway.keys.secret_values import Secret
from gateway.observe.external_service_check_definitions import DeviceCheck, HttpCheck, TcpCheck
from gateway.system.ip_address_blocks import Address

KEY = bytes(range(32))
HOOK = "whsec_" + base64.b64encode(KEY).decode()
PLANTED = "hunter2-hunter2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, text in (
        ("hook", HOOK),
        ("hook.new", HOOK),
        ("slack", f"https://hooks.slack.example/services/{PLANTED}"),
        ("mail", PLANTED),
    ):
        (secrets / name).write_text(text + "\n")
        (secrets / name).chmod(0o600)
    return tmp_path


def load(folder: Path, text: str):
    (folder / "monitoring.toml").write_text(text)
    return load_monitoring(folder / "monitoring.toml")


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(MonitoringError) as caught:
        load(folder, text)
    prefix = f"{folder}/monitoring.toml:"
    assert all(one.startswith(prefix) for one in caught.value.problems)
    assert PLANTED not in str(caught.value)
    return [one.removeprefix(prefix) for one in caught.value.problems]


def test_the_devices_of_the_metrics(folder):
    assert load(folder, "").metrics_of_devices == ()
    assert load(folder, 'metrics_of_devices = ["lamp-1", "pump"]').metrics_of_devices == ("lamp-1", "pump")
    assert problems(folder, 'metrics_of_devices = "lamp"') == [
        '1: "metrics_of_devices" has to be a list of one or more strings: metrics_of_devices = ["…"]'
    ]
    assert problems(folder, 'metrics_of_devices = [\n  "lamp",\n  "a/b",\n  "lamp",\n]') == [
        '3: "a/b" is no device id',
        '4: "lamp" is there twice',
    ]
    many = ", ".join(f'"d{number}"' for number in range(51))
    assert problems(folder, f"metrics_of_devices = [{many}]") == ["1: there are 51 devices; 50 is the most"]


def test_without_a_file_the_shipped_rules_hold_and_nobody_is_told(tmp_path):
    found = load_monitoring(tmp_path / "monitoring.toml")
    assert [rule.name for rule in found.rules] == [one.name for one in SHIPPED if one.on]
    assert found.channels == () == found.checks
    assert found.files == (tmp_path / "monitoring.toml",)


def test_an_empty_file_says_the_same(folder):
    assert load(folder, "").rules == load_monitoring(folder / "none.toml").rules


def test_the_rules_of_the_contract_hold_without_a_file(tmp_path):
    said = {rule.name: rule for rule in load_monitoring(tmp_path / "none.toml").rules}
    for name, duration, severity in (
        ("cpu_high", 300, Severity.WARNING),
        ("memory_high", 120, Severity.ERROR),
        ("service_down", 60, Severity.CRITICAL),
        ("bus_down", 30, Severity.CRITICAL),
        ("disk_low", 120, Severity.ERROR),
        ("loop_lag", 60, Severity.WARNING),
    ):
        assert (said[name].duration, said[name].severity) == (duration, severity)
    assert {"certificate_ending", "wrong_logins", "denials", "unopenable_seals", "audit_not_written"} <= set(
        said
    )


FULL = """
allow_private_addresses = true

[[check]]
name = "ai_service"
kind = "http"
target = "http://127.0.0.1:9000/health"
interval = "20s"
timeout = "2s"

[[check]]
name = "database"
kind = "tcp"
target = "[::1]:5432"

[[check]]
name = "door"
kind = "device"
target = "door-1"
topic = "devices/door-1/#"
within = "10m"

[[check]]
name = "lamp"
kind = "device"
target = "lamp-1"

[[alert]]
name = "high_connections"
condition = "connections > 5000"
duration = "5m"
severity = "warning"
summary = "Many devices."

[[alert]]
name = "disk_low"
condition = "disk_free_percent < 5"

[[alert]]
name = "cpu_high"
enabled = false

[[alert]]
name = "device_silent"

[[channel]]
name = "ops"
kind = "webhook"
url = "https://hooks.example.org/x"
min_severity = "warning"
secret_file = ["secrets/hook", "secrets/hook.new"]

[[channel]]
name = "chat"
kind = "slack"
secret_file = "secrets/slack"

[[channel]]
name = "mail"
kind = "email"
host = "mail.example.org"
from = "gateway@example.org"
to = ["ops@example.org", "boss@example.org"]
username = "gateway"
secret_file = "secrets/mail"
"""


def test_all_that_a_file_may_say(folder):
    found = load(folder, FULL)
    assert found.allow_private_addresses
    assert found.checks == (
        HttpCheck("ai_service", 20, 2, "http://127.0.0.1:9000/health"),
        TcpCheck("database", 30, 5, Address("::1", 5432)),
        DeviceCheck("door", 30, 5, "door-1", "devices/door-1/#", 600),
        DeviceCheck("lamp", 30, 5, "lamp-1", None, None),
    )
    rules = {rule.name: rule for rule in found.rules}
    assert rules["high_connections"].duration == 300
    assert rules["high_connections"].severity is Severity.WARNING
    assert rules["disk_low"].condition.text == "disk_free_percent < 5"
    assert (rules["disk_low"].duration, rules["disk_low"].severity) == (120, Severity.ERROR)
    assert "cpu_high" not in rules
    assert rules["device_silent"].severity is Severity.WARNING
    ops, chat, mail = found.channels
    assert ops == WebhookSettings(
        "ops", Severity.WARNING, "https://hooks.example.org/x", (Secret(KEY), Secret(KEY)), None
    )
    slack = Secret(f"https://hooks.slack.example/services/{PLANTED}".encode())
    assert chat == SlackSettings("chat", Severity.INFO, slack)
    assert mail == EmailSettings(
        "mail",
        Severity.INFO,
        host="mail.example.org",
        port=587,
        starttls=True,
        sender="gateway@example.org",
        recipients=("ops@example.org", "boss@example.org"),
        username="gateway",
        password=Secret(PLANTED.encode()),
        ca_file=None,
    )
    assert found.files == (
        folder / "monitoring.toml",
        folder / "secrets/hook",
        folder / "secrets/hook.new",
        folder / "secrets/slack",
        folder / "secrets/mail",
    )
    assert PLANTED not in repr(found)


BROKEN = """
allow_private_adresses = true
labelled_devices = ["lamp-1"]

[[check]]
name = "ai service"
kind = "htttp"
target = 9000
interval = 30
timeout = "1m"

[[check]]
name = "db"
kind = "tcp"
target = "db"

[[check]]
name = "db"
kind = "device"
target = "a/b"
topic = "a/#/b"

[[alert]]
name = "busy"
condition = "cpu_percentage > 80"
duration = 300
severity = "bad"

[[alert]]
name = "logins"
condition = "rate(logins_refused_total, 5) > 1"
duration = "5 minutes"
severity = "info"
summary = "Logins."
colour = "red"

[[channel]]
name = "ops"
kind = "webhook"
url = "http://hooks.example.org/x"

[[channel]]
name = "mail"
kind = "email"
host = "mail example"
from = "gateway"
to = []
security = "none"
port = 0
username = "gateway"

[[channel]]
name = "pager"
kind = "pager"
"""


def test_all_problems_are_told_at_once_each_with_its_line(folder):
    found = problems(folder, BROKEN)
    expected = [
        '2: unknown key "allow_private_adresses"; known here: allow_private_addresses, metrics_of_devices, ',
        '3: unknown key "labelled_devices"',
        '6: the name "ai service" has to begin with a letter',
        '7: "kind" is one of http, tcp, device, not "htttp"',
        '8: "target" has to be a string',
        '9: "interval" is a number and s, m, h or d in quotes, 1s to 1d, such as "5m", not 30',
        "10: the timeout is longer than the interval",
        "15: the target of a check of tcp: 'db' is not host:port",
        '17: "topic" and "within" go together',
        '18: the check "db" stands at line 12 already',
        '20: the target of a check of device: "a/b" is no device id',
        '21: the topic "a/#/b" has a # that is not its whole last level',
        '23: "summary" is missing',
        "25: the condition cpu_percentage > 80: there is no metric cpu_percentage; did you mean cpu_percent?",
        '26: "duration" is a number and s, m, h or d in quotes, 0s to 1d, such as "5m", not 300',
        '27: "severity" is one of info, warning, error, critical, not "bad"',
        "31: the condition rate(logins_refused_total, 5) > 1: rate() needs a time with its unit",
        '32: "duration" is a number and s, m, h or d in quotes, 0s to 1d, such as "5m", not "5 minutes"',
        '35: unknown key "colour"',
        '37: "secret_file" is missing: a webhook is signed',
        "40: url: http:// is for the local network alone",
        '42: "secret_file" is missing: name the file of the password',
        '45: "mail example" is no host name or address',
        '46: "gateway" is no mail address',
        '47: "to" has to be a list of one or more strings',
        '48: "security" is one of starttls, tls, not "none"',
        '49: "port" has to be a whole number, 1 to 65535',
        '54: "kind" is one of email, slack, webhook, apprise, not "pager"',
    ]
    assert [one[: len(part)] for one, part in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[[alert]\nname = 1", "1: it is not valid TOML"),
        ("alert = 3", '1: "alert" is written as a block of its own: [[alert]]'),
        (
            '[[alert]]\ncondition = "cpu_percent > 1"\nseverity = "info"\nsummary = "x"',
            '1: "name" is missing',
        ),
        (
            (
                '[[alert]]\nname = "x"\nseverity = "info"\nsummary = "a\\nb"\nduration = "1m"\n'
                'condition = "cpu_percent > 1"'
            ),
            "4: the summary is one line",
        ),
        ('allow_private_addresses = "yes"', '1: "allow_private_addresses" has to be true or false'),
        ('[[alert]]\nname = "cpu_high"\nenabled = 1', '3: "enabled" has to be true or false'),
        ('[[alert]]\nname = "cpu_high"\nduration = "2d"', '3: "duration" is a number'),
        (
            '[[channel]]\nname = "a"\nkind = "slack"\nurl = "https://x"\nsecret_file = "secrets/slack"',
            "4: the URL of a Slack channel is its secret",
        ),
        (
            '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://u:p@x"\nsecret_file = "secrets/hook"',
            "4: url: it has a user name in it",
        ),
        (
            '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "ftp://x.org"\nsecret_file = "secrets/hook"',
            "4: url: it is no URL that begins with https://",
        ),
        (
            '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://x"\nsecret_file = "secrets/mail"',
            "secrets/mail: it holds no secret of a webhook",
        ),
        (
            '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://x"\nsecret_file = "secrets/none"',
            "secrets/none: it can't be read (No such file or directory)",
        ),
        (
            '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://x"\nsecret_file = "secrets"',
            "secrets: it is no ordinary file",
        ),
        (
            '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://x"\nsecret_file = ["a", "b", "c"]',
            '5: "secret_file" names 3 files; 2 at most',
        ),
        (
            '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://x"\nsecret_file = 3',
            '5: "secret_file" has to be the path of a file',
        ),
        (
            '[[channel]]\nname = "a"\nkind = "email"\nhost = "h"\nfrom = "a@b"\nto = ["a@b\\nBcc: x@y"]',
            '6: "a@b\\u000aBcc: x@y" is no mail address',
        ),
        (
            (
                '[[channel]]\nname = "a"\nkind = "email"\nhost = "h"\nfrom = "a@b"\nto = ["a@b"]\n'
                'secret_file = "secrets/mail"'
            ),
            "7: there is a password and no username",
        ),
        (
            '[[channel]]\nname = "a"\nkind = "email"\nhost = "h"\nfrom = "a@b"\nto = ["a@b"]\nca_file = "no"',
            "no can't be used (No such file or directory)",
        ),
    ],
)
def test_what_is_wrong_is_told_in_words(folder, text, part):
    found = problems(folder, text)
    assert any(part in one for one in found), found


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o601])
def test_a_secret_that_others_may_use_is_refused(folder, mode):
    (folder / "secrets/hook").chmod(mode)
    (found,) = problems(
        folder, '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://x"\nsecret_file = "secrets/hook"'
    )
    path = folder / "secrets/hook"
    assert found == f"5: {path}: others may use it; keep it to yourself: chmod 600 {path}"


def test_a_secret_that_only_its_group_may_read_is_taken(folder):
    """As orchestrators hand them out."""
    (folder / "secrets/hook").chmod(0o440)
    assert load(
        folder, '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://x"\nsecret_file = "secrets/hook"'
    ).channels


@pytest.mark.parametrize("content", ["", "\n", "whsec_AAAA", HOOK[:-16], "x" + HOOK, HOOK + "\n" + HOOK])
def test_what_is_no_secret_of_a_webhook_is_refused_and_never_shown(folder, content):
    (folder / "secrets/hook").write_text(content)
    (found,) = problems(
        folder, '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://x"\nsecret_file = "secrets/hook"'
    )
    assert "it holds no secret" in found
    assert not content.strip() or content.strip() not in found


def test_a_pipe_does_not_hold_up_who_reads(folder):
    os.mkfifo(folder / "secrets/pipe", 0o600)
    (found,) = problems(
        folder, '[[channel]]\nname = "a"\nkind = "webhook"\nurl = "https://x"\nsecret_file = "secrets/pipe"'
    )
    assert "it is no ordinary file" in found


def test_a_file_that_is_no_file_is_a_problem_and_no_absence(tmp_path):
    (tmp_path / "monitoring.toml").mkdir()
    with pytest.raises(MonitoringError, match=r"monitoring\.toml"):
        load_monitoring(tmp_path / "monitoring.toml")
    (tmp_path / "link.toml").symlink_to(tmp_path / "gone")
    with pytest.raises(MonitoringError, match="restore it, or remove the link"):
        load_monitoring(tmp_path / "link.toml")


@pytest.mark.parametrize(
    ("name", "counter", "shipped", "other"),
    [("wrong_logins", "logins_refused_total", 50, 500), ("denials", "publishes_denied_total", 100, 3)],
)
def test_the_threshold_of_a_surge_is_what_the_file_says(folder, name, counter, shipped, other):
    def fires(text: str, count: int) -> bool:
        (rule,) = [one for one in load(folder, text).rules if one.name == name]
        assert (rule.severity, rule.duration) == (Severity.WARNING, 0)
        measured = Measured().counted(counter, (300, 0), (0, count))
        return bool(rule.condition.holds(measured, now=NOW, began=NOW - 10**9))

    own = f'[[alert]]\nname = "{name}"\ncondition = "increase({counter}, 5m) > {other}"\n'
    for text, threshold in (("", shipped), (own, other)):
        assert (fires(text, threshold), fires(text, threshold + 1)) == (False, True)


def test_every_shipped_rule_can_be_switched_on_by_its_name_alone(folder):
    text = "".join(f'[[alert]]\nname = "{one.name}"\n' for one in SHIPPED)
    assert [rule.name for rule in load(folder, text).rules] == [one.name for one in SHIPPED]


def test_where_apprise_connects_to_has_to_be_known_or_allowed(folder):
    """It connects by itself, so that the address can't be judged."""
    text = '[[channel]]\nname = "a"\nkind = "apprise"\nsecret_file = "secrets/pager"'
    path = folder / "secrets/pager"
    path.write_text(f"json://10.0.0.1/{PLANTED}")
    path.chmod(0o600)
    (found,) = problems(folder, text)
    assert "can't be judged: it needs allow_private_addresses = true" in found
    assert load(folder, "allow_private_addresses = true\n" + text).channels
    path.write_text(f"tgram://{PLANTED}/1")
    assert load(folder, text).channels


def test_the_example_is_sound_and_shows_every_kind(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "monitoring.example.toml").read_text("utf-8")
    (tmp_path / "secrets").mkdir()
    for name, secret in (("hook", HOOK), ("slack", "https://hooks.slack.com/services/x"), ("mail", "x")):
        (tmp_path / "secrets" / name).write_text(secret)
        (tmp_path / "secrets" / name).chmod(0o600)
    found = load(tmp_path, text)
    assert [type(one).__name__ for one in found.checks] == ["HttpCheck", "TcpCheck", "DeviceCheck"]
    assert [one.kind for one in found.channels] == ["webhook", "slack", "email"]
    assert "device_silent" in {rule.name for rule in found.rules}


def test_the_alert_that_the_readme_shows_is_sound(tmp_path):
    readme = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
    (text,) = re.findall(r"```toml\n(\[\[channel\]\].*?)```", readme, re.DOTALL)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hook").write_text(HOOK)
    (tmp_path / "secrets" / "hook").chmod(0o600)
    assert len(load(tmp_path, text).channels) == 1


def test_no_check_has_the_name_of_one_of_ours(folder: Path) -> None:
    text = '[[check]]\nname = "bus"\nkind = "tcp"\ntarget = "db:5432"\n'
    (problem,) = problems(folder, text)
    assert '2: "bus" is a check of the gateway itself' in problem
