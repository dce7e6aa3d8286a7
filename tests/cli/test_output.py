"""However a command ends, it is a message and an exit code."""

import json
import os
import pwd
import subprocess
import sys
from dataclasses import replace

import pytest
import typer

from gateway.cli.output import Failure, answering, wrong_usage
from gateway.config import ConfigError
from gateway.keys.key_files import empty_file, read_sealing_file, write
from gateway.keys.key_ring import KeyState

ME = pwd.getpwuid(os.geteuid()).pw_name


def end(error, capsys, *, as_json):
    with pytest.raises(typer.Exit) as ended, answering(as_json=as_json):
        raise error
    out, err = capsys.readouterr()
    return ended.value.exit_code, out, err


@pytest.mark.parametrize(
    ("error", "code", "text", "problems"),
    [
        (Failure("no such thing"), 1, "no such thing", []),
        (wrong_usage("no such id"), 2, "no such id", []),
        (ConfigError(["first", "second"]), 1, "2 problems found", ["first", "second"]),
        (PermissionError(13, "Permission denied", "data"), 1, f"data can't be used: user {ME} may not", []),
        (ZeroDivisionError("division by zero"), 1, "unexpected ZeroDivisionError: division by zero", []),
    ],
)
def test_an_error_is_text_on_stderr_and_one_object_on_stdout(error, code, text, problems, capsys):
    assert end(error, capsys, as_json=False) == (
        code,
        "",
        "".join([f"error: {text}\n", *(f"  - {problem}\n" for problem in problems)]),
    )
    ended, out, err = end(error, capsys, as_json=True)
    assert ended == code
    assert json.loads(out) == {"error": text, "problems": problems}
    assert err.startswith(f"error: {text}\n")


def test_an_error_stays_on_its_lines(capsys):
    _, _, err = end(Failure("a\nforged\x1b[2J", ["b\nforged"]), capsys, as_json=False)
    assert err.splitlines() == ["error: a\\u000aforged\\u001b[2J", "  - b\\u000aforged"]


def test_an_exit_code_passes(capsys):
    with pytest.raises(typer.Exit) as ended, answering(as_json=True):
        raise typer.Exit(7)
    assert ended.value.exit_code == 7
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_went_away_is_no_unexpected_error(place):
    _, _, err = place.shell("gateway-admin --help | true; gateway-admin device list --json | true")
    assert "unexpected" not in err
    assert "Traceback" not in err


def test_help_does_not_wait_for_the_database():
    code = (
        "import sys\n"
        "from gateway.cli import gateway_admin, run\n"
        "gateway_admin.app()\n"
        "heavy = {'sqlalchemy', 'alembic', 'argon2', 'uvicorn', 'cryptography'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_command_takes_a_secret_as_an_argument(place):
    for verb in ("add", "rotate"):
        code, _, err = place.shell(f"gateway-admin device {verb} lamp-1 --role sensor --secret hunter2")
        assert code == 2
        assert "hunter2" not in err


def test_a_full_disk_is_told_with_its_place_and_what_to_do(place):
    """`keys export` to a disk that takes no more: here no file may be as long as one of that many keys."""
    assert place.shell("gateway-admin init")[0] == 0
    path = place.folder / "data/keys/encryption.key"
    active = read_sealing_file(path, None)[0]
    retired = [
        replace(active, key_id=f"k{number}", material=os.urandom(32), state=KeyState.DECRYPT_ONLY)
        for number in range(2, 5_000)
    ]
    write(path, [active, *retired], empty_file(None))
    code, _, err = place.shell(
        "ulimit -f 1024; gateway-admin keys export here.keys --passphrase-stdin",
        stdin=b"a passphrase of length\n",
    )
    assert (code, "here.keys can't be written (File too large): raise the limit" in err) == (1, True), err


def test_no_key_leaves_to_a_disk_where_no_event_of_it_can_be_kept(place):
    assert place.shell("gateway-admin init")[0] == 0
    code, _, err = place.shell(
        "ulimit -f 0; gateway-admin keys export here.keys --passphrase-stdin",
        stdin=b"a passphrase of length\n",
    )
    assert (code, "data/gateway.db failed" in err) == (1, True), err
    assert not (place.folder / "here.keys").exists()


def plainly(place, command):
    """As `Place.shell`, with the program itself: its standard streams are what is tried."""
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=place.folder, env=place.environment, capture_output=True, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("unbuffered", ["", "PYTHONUNBUFFERED=1 "])
@pytest.mark.parametrize(
    "command", ["gateway-admin device list --json", "gateway-admin --version", "gateway check"]
)
def test_an_answer_that_can_not_be_written_is_a_line_and_an_exit_code(place, command, unbuffered):
    code, _, err = plainly(place, f"{unbuffered}{command} > /dev/full")
    assert (code, err) == (1, "error: the answer can't be written: No space left on device\n")


def test_wrong_usage_that_can_not_be_written_either(place):
    code, _, err = plainly(place, "gateway-admin device list --no --json > /dev/full")
    assert code == 1
    assert "Traceback" not in err
    assert err.endswith("error: the answer can't be written: No space left on device\n")


def test_standard_streams_may_be_closed(place):
    assert plainly(place, "gateway-admin device list --json >&-") == (0, "", "")
    assert plainly(place, "gateway-admin device show none 2>&-") == (1, "", "")
    place.shell("gateway-admin device add lamp-1 --role sensor")
    code, _, err = plainly(place, "gateway-admin device remove lamp-1 <&-")
    assert (code, "--yes" in err) == (2, True)


def test_an_id_is_never_cut_on_a_narrow_terminal(place):
    name = "a-lamp-with-a-long-name"
    place.shell(f"gateway-admin device add {name} --role sensor")
    shown, code = place.on_a_terminal("COLUMNS=30 gateway-admin device list")
    assert code == 0
    assert name in shown
