"""Options of all commands stand before the noun or the verb, too."""

import json

import pytest

from gateway.cli.leading_options import after_the_verb
from gateway.cli.typer_app import Group

PROGRAM = Group(
    "",
    {
        "status": print,
        "device": Group("", {"list": print, "add": print}),
        "acl": Group("", {"import": Group("", {"mosquitto": print}), "why": print}),
    },
)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", ""),
        ("status --json", "status --json"),
        ("--json status --history", "status --json --history"),
        ("--config f --json status", "status --config f --json"),
        ("--config=f status", "status --config=f"),
        ("device --json list", "device list --json"),
        (
            "--json acl --config f import mosquitto o -- -x",
            "acl import mosquitto --json --config f o -- -x",
        ),
        ("device add --comment --json x", "device add --comment --json x"),
        ("status status --json", "status status --json"),
        ("--json nothing at all", "nothing --json at all"),
        ("--json device nothing", "device nothing --json"),
        ("--json device", "device --json"),
        ("--json --help", "--help --json"),
        ("--json", "--json"),
        ("--config", "--config"),
        ("--config status", "--config status"),
    ],
)
def test_they_are_moved_behind_the_command(words, found):
    assert after_the_verb(words.split(), PROGRAM) == found.split()


@pytest.mark.parametrize(
    "words", ["--json device list", "device --json list", "--config new.toml device list --json"]
)
def test_a_command_with_its_options_first(place, words):
    place.shell("gateway-admin device add lamp-1 --role sensor")
    (place.folder / "new.toml").touch()
    code, out, err = place.shell(f"gateway-admin {words}")
    assert (code, err) == (0, "")
    assert [one["device_id"] for one in json.loads(out)["devices"]] == ["lamp-1"]


def test_a_file_that_is_not_there_is_that_of_the_option(place):
    code, _, err = place.shell("gateway-admin --config gone.toml device list")
    assert (code, "gone.toml" in err) == (1, True)


def test_status_is_what_it_is_with_its_option_behind_it(place):
    behind, before = (place.shell(f"gateway-admin {words}") for words in ("status --json", "--json status"))
    assert before == behind
    assert json.loads(before[1])["running"] is False


def test_the_gateway_itself(bare):
    after, before = (bare.shell(f"gateway {words}") for words in ("check --json", "--json check"))
    assert before == after
    assert json.loads(before[1])["problems"] == []
    code, _, err = bare.shell("gateway --config gone.toml run")
    assert (code, "gone.toml" in err) == (1, True)


@pytest.mark.parametrize("words", ["--json nothing", "--json device nothing", "--json"])
def test_wrong_usage_with_an_option_first_is_one_object(place, words):
    code, out, err = place.shell(f"gateway-admin {words}")
    assert (code, bool(err)) == (2, True)
    assert list(json.loads(out)) == ["error", "problems"]
