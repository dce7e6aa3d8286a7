"""What another user's files say to whoever calls a command: who may do what, and never a bare errno."""

import inspect
import os
import pwd
import shutil
from pathlib import Path

import pytest

from gateway.cli import gateway_admin, run

ME = pwd.getpwuid(os.geteuid()).pw_name
# Root may do everything; without these capabilities it is a user like others.
BARE = "setpriv --bounding-set=-dac_override,-dac_read_search " if os.geteuid() == 0 else ""
COMMANDS = [
    "gateway run",
    "gateway-admin init",
    "gateway-admin device list",
    "gateway-admin keys list",
    "gateway-admin token list",
    "gateway-admin status",
]


@pytest.fixture
def closed(place):
    """A gateway's folder whose data somebody else closed."""
    place.environment |= {
        "GATEWAY_MQTT_BIND": "127.0.0.1:0",
        "GATEWAY_HTTP_BIND": "127.0.0.1:0",
        "GATEWAY_HEALTH_BIND": "127.0.0.1:0",
        "MQTT_BROKER": "127.0.0.1",
    }
    code, _, _ = place.shell("gateway-admin init")
    assert code == 0
    yield place
    (place.folder / "data").chmod(0o700)


def told(place, command):
    code, out, err = place.shell(f"{BARE}{command}")
    assert code == 1
    assert "Errno" not in out + err
    return out + err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_folder(closed, command):
    (closed.folder / "data").chmod(0)
    text = told(closed, command)
    assert f"user {ME} may not" in text
    assert f"belongs to user {ME}, mode 0000" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_store(closed, command):
    if command == "gateway-admin keys list":
        (closed.folder / "data" / "keys" / "encryption.key").chmod(0)
    (closed.folder / "data" / "gateway.db").chmod(0)
    assert f"user {ME} may not: it belongs to user {ME}, mode 0000" in told(closed, command)


@pytest.mark.parametrize("command", [one for one in COMMANDS if "status" not in one and "run" not in one])
def test_a_folder_where_nothing_can_be_written(closed, command):
    """There is no file of a lock that could be removed."""
    (closed.folder / "data").chmod(0o500)
    text = told(closed, command)
    assert (
        f"nothing can be written in {closed.folder}/data: user {ME} may not: it belongs to user {ME}" in text
    )
    assert "remove that file" not in text


def test_no_key_leaves_while_the_store_is_closed(closed):
    """No event of it could be kept."""
    (closed.folder / "data" / "gateway.db").chmod(0)
    command = "gateway-admin keys export backup.json --passphrase-stdin"
    code, _, err = closed.shell(f"{BARE}{command}", stdin=b"planted horse battery staple")
    assert code == 1
    assert f"user {ME} may not" in err
    assert not (closed.folder / "backup.json").exists()


def test_check_lists_all_that_can_not_be_read(closed):
    paths = [
        "certs/server.key",
        "data/gateway.db",
        "data/keys/encryption.key",
        "data/keys/signing.key",
        "acl/roles/sensor.toml",
        "acl/limits.toml",
        ".env",
    ]
    (closed.folder / ".env").write_text("LOG_LEVEL=info\n")
    for path in paths:
        (closed.folder / path).chmod(0)
    text = told(closed, "gateway check")
    assert [path for path in paths if path not in text] == []
    assert text.count(f"user {ME} may not") == len(paths)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("gateway check --config FILE", "some.toml"),
        ("gateway-admin device list --config FILE --json", "some.toml"),
        ("gateway-admin device add --file FILE", "some.csv"),
        ("gateway-admin acl import mosquitto --acl FILE", "acl_file"),
        ("gateway-admin acl diff acl FILE", "acl.new/"),
    ],
)
def test_a_file_that_is_named_and_closed(closed, command, name):
    """Who may do what is told by whoever opens it, and that is no wrong usage."""
    if name.endswith("/"):
        (closed.folder / name).mkdir(mode=0)
    else:
        (closed.folder / name).touch(mode=0)
    assert f"user {ME} may not: it belongs to user {ME}, mode 0000" in told(
        closed, command.replace("FILE", name)
    )


def commands(app):
    for one in app.registered_commands:
        yield one.callback
    for group in app.registered_groups:
        yield from commands(group.typer_instance)


def test_no_command_has_rights_judged_before_it_opens_a_file():
    named = [
        (function.__name__, name, option.readable)
        for app in (run.app, gateway_admin.app())
        for function in commands(app)
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if Path in (kinds := getattr(parameter.annotation, "__args__", ()))
        or any(Path in getattr(kind, "__args__", ()) for kind in kinds)
        for option in parameter.annotation.__metadata__
    ]
    assert len(named) > 25
    assert [one for one in named if one[2]] == []


def test_a_start_that_can_not_make_its_certificate_says_so_and_fills_no_store(closed):
    """A service starts again every three seconds: each start announced a certificate that it can't make."""
    certs = closed.folder / "certs"
    shutil.rmtree(certs)
    certs.mkdir(mode=0o500)
    before = closed.noted()
    assert "TLS_CERT_PATH: nothing can be written in certs: user" in told(closed, "gateway run")
    assert not closed.noted()
    certs.chmod(0o700)
    assert before
