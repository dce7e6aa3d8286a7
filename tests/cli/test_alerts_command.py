"""`gateway-admin alerts`: what it lists, refuses, and writes into the audit."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.gateway import Gateway

from gateway.store import open_store
from gateway.store.alerts import AlertRow


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


@pytest.fixture
def broken(gateway: Gateway) -> Iterator[Gateway]:
    """It has saved that an alert fires, and its file has problems."""
    at = time.time_ns() // 1_000_000
    row = AlertRow("old_rule", '[["service", "bus"]]', "firing", "critical", "No bus.", at, at, 0.0, 1, True)

    async def save(changed: list[AlertRow], gone: list[tuple[str, str]]) -> None:
        store = await open_store(f"sqlite:///{gateway.folder}/data/gateway.db")
        await store.alerts.save(changed, gone, [], [])
        await store.close()

    asyncio.run(save([row], []))
    path = Path(gateway.folder / "monitoring.toml")
    path.write_text("x = 1\ny = 2\n")
    yield gateway
    path.unlink()
    asyncio.run(save([], [(row.rule, row.labels)]))


def test_a_file_with_problems_hides_nothing_that_fires(broken: Gateway):
    done = broken.admin("alerts", "list")
    assert "firing\tcritical\told_rule\tservice bus" in done.stdout
    assert "no channel" not in done.stdout, "which channels the running gateway has the file does not say"
    assert "monitoring.toml:1: unknown key" in done.stderr
    assert "monitoring.toml:2: unknown key" in done.stderr
    listed = json.loads(broken.admin("alerts", "list", "--json").stdout)
    assert [one["alert"] for one in listed["alerts"]] == ["old_rule"]
    assert len(listed["problems"]) == 2


def test_a_file_with_problems_keeps_nobody_from_silencing(broken: Gateway):
    for name in ("old_rule", "disk_low"):
        done = broken.admin("alerts", "silence", name, "--for", "1m", "--json")
        made = json.loads(done.stdout)
        assert (made["alert"], len(made["problems"])) == (name, 2)
        assert "monitoring.toml:1: unknown key" in done.stderr
        broken.admin("alerts", "unsilence", made["id"])
    for name in ("", "disk_lwo"):
        assert broken.admin("alerts", "silence", name, check=False).returncode == 2


def test_a_file_with_problems_has_no_channel_to_be_tried(broken: Gateway):
    done = broken.admin("alerts", "test", check=False)
    assert done.returncode == 1
    assert "monitoring.toml:1: unknown key" in done.stderr
