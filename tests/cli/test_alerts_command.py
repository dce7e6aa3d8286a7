"""`gateway-admin alerts`: what it lists, refuses, and writes into the audit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness.gateway import Gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    """One that does not run."""
    one = Gateway(tmp_path_factory.mktemp("gateway"), None)
    one.admin("init")
    return one


def test_all_rules_are_listed_and_nobody_is_told_without_a_channel(gateway: Gateway):
    said = gateway.admin("alerts", "list").stdout
    assert "ok\tcritical\tbus_down" in said
    assert "no channel: nobody is told" in said
    listed = json.loads(gateway.admin("alerts", "list", "--json").stdout)
    assert listed["alerts"] == listed["silences"] == listed["channels"] == []
    (rule,) = [one for one in listed["rules"] if one["name"] == "cpu_high"]
    assert rule == {
        "name": "cpu_high",
        "condition": "cpu_percent > 80",
        "duration": 300,
        "severity": "warning",
        "summary": "The gateway's machine is busy.",
    }


def test_a_silence_is_made_shown_and_ended(gateway: Gateway):
    made = json.loads(
        gateway.admin(
            "alerts", "silence", "disk_low", "--label", "disk=a", "--for", "2h", "--comment", "soon", "--json"
        ).stdout
    )
    assert (made["alert"], made["labels"], made["comment"]) == ("disk_low", {"disk": "a"}, "soon")
    assert made["until"] - made["since"] == 7_200_000
    assert made["actor"].startswith("gateway-admin:")
    assert f"silence {made['id']} until" in gateway.admin("alerts", "list").stdout
    assert "is over" in gateway.admin("alerts", "unsilence", made["id"]).stdout
    assert json.loads(gateway.admin("alerts", "list", "--json").stdout)["silences"] == []
    again = gateway.admin("alerts", "unsilence", made["id"], check=False)
    assert (again.returncode, "there is no silence" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["silence"], 2, "give the name of an alert, or --all"),
        (["silence", "disk_low", "--all"], 2, "give the name of an alert, or --all"),
        (["silence", "disk"], 2, "no rule is called 'disk'; in force are: audit_not_written"),
        (["silence", "--all", "--for", "5"], 2, "--for '5' is not a time"),
        (["silence", "--all", "--for", "8d"], 2, "longer than 7d"),
        (["silence", "--all", "--label", "x"], 2, "is not NAME=VALUE"),
        (["silence", "--all", "--comment", "a\nb"], 2, "a comment is one line"),
        (["test"], 1, "there is no channel in monitoring.toml"),
        (["test", "--channel", "ops"], 1, "there is no channel ops"),
    ],
)
def test_what_can_not_be_done_is_told_in_words(gateway: Gateway, words: list[str], code: int, said: str):
    done = gateway.admin("alerts", *words, check=False)
    assert done.returncode == code
    assert said in done.stderr


def test_a_file_with_problems_is_told_with_all_of_them(gateway: Gateway):
    path = Path(gateway.folder / "monitoring.toml")
    path.write_text("x = 1\ny = 2\n")
    try:
        done = gateway.admin("alerts", "list", check=False)
        assert done.returncode == 1
        assert "monitoring.toml:1: unknown key" in done.stderr
        assert "monitoring.toml:2: unknown key" in done.stderr
    finally:
        path.unlink()
