"""monitoring.toml is followed, with the secrets it names; what is not sound changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.app.followers import monitoring
from gateway.app.followers.monitoring import MonitoringFollower
from gateway.app.startup_preparation import StartError
from gateway.config import Settings
from gateway.system import file_notices

GOOD = '[[alert]]\nname = "cpu_high"\ncondition = "cpu_percent > {}"\n'
HOOK = '[[channel]]\nname = "ops"\nkind = "webhook"\nurl = "https://x.example"\nsecret_file = "hook"\n'
SECRET = "whsec_" + "A" * 32


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MonitoringFollower, "seconds", 0.01)
    monkeypatch.setattr(monitoring, "_SETTLE_SECONDS", 0.005)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "monitoring.toml"


def follower(path: Path) -> MonitoringFollower:
    return MonitoringFollower(Settings(monitoring_path=path))


def condition(one: MonitoringFollower) -> str:
    return next(rule.condition.text for rule in one.in_force.rules if rule.name == "cpu_high")


def test_a_file_that_is_not_sound_refuses_the_start(path):
    path.write_text("x = 1\ny = 2")
    with pytest.raises(StartError) as caught:
        follower(path)
    assert len(caught.value.problems) == 2


async def test_a_change_is_in_force_and_told_to_those_who_asked(path):
    one = follower(path)
    told = []
    one.on_change(told.append)
    path.write_text(GOOD.format(70))
    assert "alerts, 0 channels" in await one.reload()
    assert condition(one) == "cpu_percent > 70"
    assert told == [one.in_force]


async def test_what_is_not_sound_changes_nothing_and_is_told_with_all_its_problems(path):
    path.write_text(GOOD.format(70))
    one = follower(path)
    told = []
    one.on_change(told.append)
    path.write_text(GOOD.format('"') + "x = 1\n")
    with capture_logs() as lines:
        assert "what was before is in force" in await one.reload()
    assert one.check()[0] is False
    assert condition(one) == "cpu_percent > 70"
    assert told == []
    (line,) = [line for line in lines if line["event"] == "monitoring refused"]
    assert line["problems"][0].startswith(f"{path}:")
    path.write_text(GOOD.format(60))
    await one.reload()
    assert one.check()[0] is True
    assert condition(one) == "cpu_percent > 60"


async def until(task_of, what):
    task = asyncio.ensure_future(task_of.run())
    try:
        async with asyncio.timeout(10):
            while not what():  # noqa: ASYNC110 - the follower looks at files, and so do we
                await asyncio.sleep(0.005)
    finally:
        task.cancel()


async def test_it_is_followed_while_the_gateway_runs(path):
    one = follower(path)
    path.write_text(GOOD.format(70))
    await until(one, lambda: condition(one) == "cpu_percent > 70")
    path.unlink()
    await until(one, lambda: condition(one) == "cpu_percent > 80")


async def test_a_secret_that_changes_is_taken_up(path):
    hook = path.with_name("hook")
    hook.write_text(SECRET)
    hook.chmod(0o600)
    path.write_text(HOOK)
    one = follower(path)
    before = one.in_force.channels
    hook.write_text("whsec_" + "B" * 32)
    await until(one, lambda: one.in_force.channels != before)


async def test_what_was_mended_in_a_file_that_it_names_is_seen(path):
    one = follower(path)
    hook = path.with_name("hook")
    hook.write_text(SECRET)
    hook.chmod(0o644)
    path.write_text(HOOK)
    await until(one, lambda: not one.check()[0])
    hook.chmod(0o600)
    await until(one, lambda: bool(one.in_force.channels))
    assert one.check()[0]


async def test_files_that_stay_the_same_are_not_read_again(path, monkeypatch):
    path.write_text(GOOD.format(70))
    one = follower(path)
    path.write_text(GOOD.format(60))
    await until(one, lambda: condition(one) == "cpu_percent > 60")
    reads = []
    monkeypatch.setattr(monitoring, "load_monitoring", reads.append)
    looks = []
    look = one._look
    monkeypatch.setattr(one, "_look", lambda: looks.append(1) or look())
    await until(one, lambda: len(looks) > 5)
    assert reads == []


@pytest.mark.parametrize("ask", ["look", "reload"])
async def test_what_could_not_be_put_in_force_is_by_the_next_look(path, ask):
    path.write_text(GOOD.format(70))
    one = follower(path)
    told, fails = [], [True]

    def tell(now):
        if fails:
            raise RuntimeError("a fault")
        told.append(now)

    one.on_change(tell)
    path.write_text(GOOD.format(60))
    with pytest.raises(RuntimeError):
        await getattr(one, ask)()
    fails.clear()
    for _ in range(3):
        await one.look()
    assert told == [one.in_force]


async def test_a_file_that_is_not_sound_is_logged_once(path):
    one = follower(path)
    path.write_text("x = 1")
    with capture_logs() as lines:
        for _ in range(3):
            await one.look()
    assert [line["event"] for line in lines] == ["monitoring refused"]


async def test_it_sleeps_until_a_notice_comes_of_a_file_that_is_named_from_now_on_too(path, monkeypatch):
    monkeypatch.setattr(file_notices, "_SECONDS_WITH_NOTICES", 3_600.0)
    path.write_text(GOOD.format(70))
    one = follower(path)
    asleep = asyncio.Event()
    listen = one._notices._listen

    async def heard():
        asleep.set()
        await listen()
        asleep.clear()

    monkeypatch.setattr(one._notices, "_listen", heard)
    hook = path.with_name("hook")
    hook.write_text(SECRET)
    hook.chmod(0o600)
    task = asyncio.ensure_future(one.run())
    try:
        async with asyncio.timeout(20):
            await asleep.wait()
            with path.open("a") as file:  # in place: the file stays the one that is watched
                file.write(HOOK)
            while not one.in_force.channels:  # noqa: ASYNC110 - nothing says it
                await asyncio.sleep(0.005)
            await asleep.wait()
            before = one.in_force.channels
            hook.write_text("whsec_" + "B" * 32)
            while one.in_force.channels == before:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
    finally:
        task.cancel()
