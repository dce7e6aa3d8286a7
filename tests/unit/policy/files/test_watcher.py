"""Files changed on disk, in every way that editors and orchestrators do it, on a real file system."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys

import pytest

from gateway.policy.engine.policy import Policy
from gateway.policy.files.loader import PolicyError, load_policy
from gateway.policy.files.watcher import PolicyFiles

SENSOR = '[[allow]]\nactions = ["publish"]\ntopics = ["{}"]\n'


class Following:
    """The files of a folder, asked until they have changed."""

    def __init__(self, path):
        self.current = load_policy(path, reserved="gateway")
        self.files = PolicyFiles(path, reserved="gateway", current=self.current)

    async def next(self):
        async with asyncio.timeout(20):
            while (outcome := await self.files.changed()) is None:  # noqa: ASYNC110 - files change without an event
                await asyncio.sleep(0.05)
            return outcome

    async def topics(self):
        outcome = await self.next()
        assert isinstance(outcome, Policy), outcome.problems
        return [rule.topic for rule in outcome.roles["sensor"].rules]


@pytest.fixture
def following(acl):
    return Following(acl)


def write(acl, topic):
    (acl / "roles/sensor.toml").write_text(SENSOR.format(topic))


async def test_what_changed_before_it_began_is_not_missed(acl, following):
    write(acl, "early")
    assert await following.topics() == ["early"]


async def test_writes_and_atomic_renames(acl, following):
    write(acl, "a")
    assert await following.topics() == ["a"]
    write(acl, "b")
    assert await following.topics() == ["b"]
    new = acl / "roles/.sensor.toml.new"
    new.write_text(SENSOR.format("c"))
    new.rename(acl / "roles/sensor.toml")
    assert await following.topics() == ["c"]


async def test_new_and_deleted_role_files(acl, following):
    (acl / "roles/other.toml").write_text(SENSOR.format("a"))
    assert set((await following.next()).roles) == {"sensor", "other"}
    (acl / "roles/other.toml").unlink()
    assert set((await following.next()).roles) == {"sensor"}


async def test_a_broken_edit_is_reported_and_its_repair_too(acl, following):
    good = (acl / "roles/sensor.toml").read_text()
    write(acl, "a+")
    broken = await following.next()
    assert isinstance(broken, PolicyError)
    assert "roles/sensor.toml:3" in broken.problems[0]
    (acl / "roles/sensor.toml").write_text(good)
    repaired = await following.next()
    assert isinstance(repaired, Policy)
    assert repaired.digest == following.current.digest


async def test_a_deleted_file_and_a_deleted_folder_are_problems(acl, following):
    (acl / "limits.toml").unlink()
    assert "limits.toml" in (await following.next()).problems[0]
    shutil.rmtree(acl)
    assert isinstance(await following.next(), PolicyError)


async def test_a_folder_that_is_replaced_is_followed(acl, following):
    shutil.copytree(acl, acl.with_name("next"))
    write(acl.with_name("next"), "replaced")
    acl.rename(acl.with_name("old"))
    acl.with_name("next").rename(acl)
    outcome = await following.next()
    if isinstance(outcome, PolicyError):  # the moment between the two renames
        outcome = await following.next()
    assert [rule.topic for rule in outcome.roles["sensor"].rules] == ["replaced"]
    write(acl, "after")
    assert await following.topics() == ["after"]


async def test_a_swapped_symbolic_link_is_followed(acl, tmp_path):
    """A Kubernetes ConfigMap: the files are links through `..data`, which is swapped by a rename."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    acl.rename(mounted / "..one")
    shutil.copytree(mounted / "..one", mounted / "..two")
    write(mounted / "..two", "two")
    (mounted / "..data").symlink_to("..one")
    for name in ("roles", "encryption.toml", "limits.toml"):
        (mounted / name).symlink_to(f"..data/{name}")
    one = Following(mounted)
    assert await one.files.changed() is None  # it has begun to watch before the swap
    (mounted / "..new").symlink_to("..two")
    (mounted / "..new").rename(mounted / "..data")
    outcome = await one.next()
    assert [rule.topic for rule in outcome.roles["sensor"].rules] == ["two"]


async def test_a_link_to_the_folder_that_is_swapped_is_followed(acl, tmp_path):
    """A release directory: no event comes, for what is watched has not changed."""
    shutil.copytree(acl, tmp_path / "two")
    write(tmp_path / "two", "two")
    (tmp_path / "live").symlink_to("acl")
    one = Following(tmp_path / "live")
    assert await one.files.changed() is None
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "live")
    outcome = await one.next()
    assert [rule.topic for rule in outcome.roles["sensor"].rules] == ["two"]


async def test_a_rule_in_another_line_is_a_change_and_what_is_no_policy_is_none(acl, following):
    text = (acl / "roles/sensor.toml").read_text()
    assert await following.files.changed() is None
    (acl / "notes.txt").write_text("x")
    assert await following.files.changed() is None
    (acl / "roles/sensor.toml").write_text("# a comment\n" + text)
    outcome = await following.next()
    assert outcome.digest == following.current.digest
    before = following.current.roles["sensor"].rules
    assert [rule.line for rule in outcome.roles["sensor"].rules] == [rule.line + 1 for rule in before]


async def test_a_copy_with_its_old_time_is_seen(acl, following):
    write(acl, "aaaa")
    assert await following.topics() == ["aaaa"]
    file = acl / "roles/sensor.toml"
    stat = file.stat()
    write(acl, "bbbb")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert await following.topics() == ["bbbb"]


async def test_what_is_overtaken_while_it_is_read_is_no_answer(acl, following, monkeypatch):
    """Half of an edit may be valid: a role without its deny."""

    def read_slowly(path, *, reserved):
        policy = load_policy(path, reserved=reserved)
        if (acl / "roles/sensor.toml").read_text() == SENSOR.format("half"):
            write(acl, "whole")
        return policy

    monkeypatch.setattr("gateway.policy.files.watcher.load_policy", read_slowly)
    write(acl, "half")
    assert await following.topics() == ["whole"]


async def test_a_folder_that_is_not_there_is_a_problem_like_others(acl):
    one = Following(acl)
    shutil.rmtree(acl)
    assert isinstance(await one.next(), PolicyError)


async def test_it_ends_when_it_is_cancelled(acl, following):
    waiting = asyncio.ensure_future(following.next())
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_a_process_that_follows_ends_at_once(acl):
    """No thread of the watcher keeps the process alive."""
    code = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from gateway.policy.files.loader import load_policy\n"
        "from gateway.policy.files.watcher import PolicyFiles\n"
        "path = Path(sys.argv[1])\n"
        "async def main():\n"
        "    async def run():\n"
        "        current = load_policy(path, reserved='gateway')\n"
        "        files = PolicyFiles(path, reserved='gateway', current=current)\n"
        "        while True: await files.changed()\n"
        "    try:\n        await asyncio.wait_for(run(), 0.3)\n"
        "    except TimeoutError:\n        print('ended')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(acl)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "ended\n"
    assert done.stderr == ""


async def test_what_is_read_now_is_answered_once(acl, following):
    """A SIGHUP between two looks: the next look must not put the same in force, or refuse it, once more."""
    assert await following.files.read_now() is None
    write(acl, "new")
    assert isinstance(await following.files.read_now(), Policy)
    assert await following.files.changed() is None
    assert await following.files.read_now() is None
    write(acl, "a+")
    assert isinstance(await following.files.read_now(), PolicyError)
    assert await following.files.changed() is None
    assert isinstance(await following.files.read_now(), PolicyError), "asked for anew, it says so anew"


async def test_a_rule_in_another_line_is_read_now_too(acl, following):
    assert await following.files.changed() is None
    file = acl / "roles/sensor.toml"
    file.write_text("# a comment\n" + file.read_text())
    outcome = await following.files.read_now()
    assert isinstance(outcome, Policy)
    assert outcome.digest == following.current.digest
