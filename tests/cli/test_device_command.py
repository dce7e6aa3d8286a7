"""What a transcript can't show: that the secret is the right one, and what happens on a terminal."""

import asyncio
import json
import os
import pwd
import re
import time

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from gateway.store import open_store


def stored(place, device_id):
    async def read():
        store = await open_store(f"sqlite:///{place.folder}/data/gateway.db")
        try:
            return await store.devices.find(device_id)
        finally:
            await store.close()

    return asyncio.run(read())


def verifies(place, device_id, secret):
    try:
        return PasswordHasher().verify(stored(place, device_id).credential, secret)
    except VerifyMismatchError:
        return False


def test_the_printed_secret_is_the_stored_one_and_rotate_replaces_it(place):
    code, out, err = place.shell("gateway-admin device add lamp-1 --role sensor --json")
    assert (code, err) == (0, "")
    first = json.loads(out)["secret"]
    assert len(first) == 43
    assert verifies(place, "lamp-1", first)
    before = stored(place, "lamp-1").version
    _, out, _ = place.shell("gateway-admin device rotate lamp-1 --json")
    second = json.loads(out)["secret"]
    assert verifies(place, "lamp-1", second)
    assert not verifies(place, "lamp-1", first)
    assert stored(place, "lamp-1").version > before


@pytest.mark.parametrize(
    ("given", "secret", "shown"),
    [
        (b"hunter2-long\n", b"hunter2-long", "hunter2-long"),
        (b"hunter2-long\r\n", b"hunter2-long", "hunter2-long"),
        (b"\xef\xbb\xbfhunter2-long\r\n", b"hunter2-long", "hunter2-long"),
        (b" two lines\nof it", b" two lines\nof it", " two lines\nof it"),
        ("gr\u00fcn" * 3, "gr\u00fcn" * 3, "gr\u00fcn" * 3),
        (b"\xff\x00binary-long", b"\xff\x00binary-long", None),
    ],
)
def test_a_secret_from_stdin_is_taken_as_bytes(place, given, secret, shown):
    command = "gateway-admin device add lamp-1 --role sensor --secret-stdin --json"
    given, secret = (one.encode() if isinstance(one, str) else one for one in (given, secret))
    code, out, err = place.shell(command, stdin=given)
    assert (code, err) == (0, "")
    assert json.loads(out) == {"device_id": "lamp-1", "secret": shown, "roles": ["sensor"], "labels": {}}
    assert verifies(place, "lamp-1", secret)


def test_a_secret_that_was_given_is_not_repeated_to_people(place):
    code, out, err = place.shell(
        "gateway-admin device add lamp-1 --role sensor --secret-stdin", stdin=b"hunter2-planted"
    )
    assert code == 0
    assert "hunter2" not in out + err


@pytest.mark.parametrize(("given", "why"), [(b"\n", "empty"), (b"a" * 65_536, "longer than")])
def test_a_secret_that_can_not_be_one_is_wrong_usage(place, given, why):
    code, _, err = place.shell("gateway-admin device add d --role sensor --secret-stdin", stdin=given)
    assert code == 2
    assert why in err
    assert stored(place, "d") is None


def test_no_command_shows_a_hash(place):
    place.shell("gateway-admin device add lamp-1 --role sensor")
    for command in ("show lamp-1", "show lamp-1 --json", "list", "list --json", "disable lamp-1 --json"):
        code, out, err = place.shell(f"gateway-admin device {command}")
        assert code == 0
        assert "argon2" not in out + err
        assert stored(place, "lamp-1").credential not in out


def test_on_a_terminal_the_list_is_a_coloured_table_and_brackets_in_a_label_are_text(place):
    place.shell(
        "gateway-admin device add lamp-1 --role sensor --label 'room=[red]x[/red]'".replace("[/red]", "[b]")
    )
    shown, code = place.on_a_terminal("gateway-admin device list")
    assert code == 0
    assert "\x1b[32menabled" in shown
    assert "room=[red]x[b]" in shown
    plain, _ = place.on_a_terminal("NO_COLOR=1 gateway-admin device list")
    assert "\x1b[3" not in plain


def test_on_a_terminal_remove_asks_and_no_keeps_the_device(place):
    place.shell("gateway-admin device add lamp-1 --role sensor")
    shown, code = place.on_a_terminal("gateway-admin device remove lamp-1", ("lost.", "n\n"))
    assert "Remove device lamp-1?" in shown
    assert "was not removed" in shown
    assert code == 1
    assert stored(place, "lamp-1") is not None
    _, code = place.on_a_terminal("gateway-admin device remove lamp-1", ("lost.", "y\n"))
    assert code == 0
    assert stored(place, "lamp-1") is None


def test_on_a_terminal_remove_does_not_ask_with_yes(place):
    place.shell("gateway-admin device add lamp-1 --role sensor")
    shown, code = place.on_a_terminal("gateway-admin device remove lamp-1 --yes")
    assert (re.sub(r"\x1b\S*?m", "", shown).strip(), code) == ("Device lamp-1 removed.", 0)


def test_a_secret_typed_on_a_terminal_is_not_echoed(place):
    shown, code = place.on_a_terminal(
        # The prompt opens the terminal itself; it must be the controlling one.
        "setsid -c -w gateway-admin device add lamp-1 --role sensor --secret-stdin",
        ("Secret: ", "hunter2-planted\n"),
    )
    assert "hunter2" not in shown
    assert code == 0, shown
    assert verifies(place, "lamp-1", b"hunter2-planted")


def test_what_was_done_is_noted_for_the_gateway_to_tell(place):
    commands = (
        "add lamp-1 --role sensor",
        "disable lamp-1",
        "enable lamp-1",
        "rotate lamp-1",
        "remove lamp-1 --yes",
    )
    secrets = []
    for command in commands:
        code, out, _ = place.shell(f"gateway-admin device {command} --json")
        assert code == 0
        secrets.append(json.loads(out).get("secret", "no secret"))
    place.shell("gateway-admin device disable ghost")
    place.shell("gateway-admin device list")
    events = place.noted()
    assert [event["reason"] for event in events] == [
        "added with the roles sensor",
        "disabled",
        "enabled",
        "given a new secret",
        "removed",
    ]
    for event in events:
        assert (event["kind"], event["outcome"], event["device"]) == ("device", "done", "lamp-1")
        assert event["actor"] == f"gateway-admin:{pwd.getpwuid(os.getuid()).pw_name}"
        assert abs(event["time"] / 1000 - time.time()) < 300
    assert not any(secret in json.dumps(events) for secret in secrets)


@pytest.mark.parametrize("command", ["add lamp-2 --role sensor", "rotate lamp-1"])
def test_a_secret_that_would_be_taken_for_a_token_is_refused(place, command):
    place.shell("gateway-admin device add lamp-1 --role sensor")
    before = stored(place, "lamp-1")
    code, _, err = place.shell(
        f"gateway-admin device {command} --secret-stdin", stdin=b"eyJhbGciOiJub25lIn0.e30.planted"
    )
    assert code == 2
    assert "form of a token" in err
    assert "planted" not in err
    assert stored(place, "lamp-1") == before
    assert stored(place, "lamp-2") is None


def test_an_interruption_at_a_question_ends_at_once_without_a_traceback(place):
    place.shell("gateway-admin device add lamp-1 --role sensor")
    for command, asks in (("remove lamp-1", "lost."), ("rotate lamp-1 --secret-stdin", "Secret:")):
        shown, code = place.on_a_terminal(f"setsid -c -w gateway-admin device {command}", (asks, "\x03"))
        assert code != 0
        assert "Traceback" not in shown
        assert shown.count("\n") < 4, shown
    assert place.shell("gateway-admin device show lamp-1")[0] == 0


def test_ctrl_d_where_a_secret_is_asked_for_ends_the_command_as_ctrl_c_does(place):
    for command, prompt in (
        ("device add lamp-1 --role sensor --secret-stdin", "Secret: "),
        ("backup copy", "Passphrase: "),
    ):
        # The prompt opens the terminal itself; it must be the controlling one.
        shown, code = place.on_a_terminal(f"setsid -c -w gateway-admin {command}", (prompt, "\x04"))
        assert (code, "interrupted" in shown, "error" in shown) == (130, True, False)
    assert stored(place, "lamp-1") is None
