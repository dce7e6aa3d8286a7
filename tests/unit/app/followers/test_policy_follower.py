"""A changed policy is in force for all connections, or the next look puts it there."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from harness.playbook import context

from gateway.app.followers.policy import PolicyFollower
from gateway.config import Settings
from gateway.policy.files.loader import load_policy

ROLE = '[[allow]]\nactions = ["publish"]\ntopics = ["{}"]\n'


class Connections:
    """All that are live: they hear of a policy, or the telling fails, or hangs."""

    def __init__(self):
        self.heard = 0
        self.fails = False
        self.hangs = None

    async def policy_changed(self):
        if self.hangs is not None:
            await self.hangs.wait()
        if self.fails:
            raise RuntimeError("a fault")
        self.heard += 1


@pytest.fixture
def following(tmp_path):
    """A follower, whom it tells, and a role that may be changed."""
    role = tmp_path / "roles" / "sensor.toml"
    role.parent.mkdir()
    role.write_text(ROLE.format("a"))
    (tmp_path / "encryption.toml").write_text("sensitive = []\n")
    (tmp_path / "limits.toml").write_text("in_flight = 7\n")
    live, settings = Connections(), Settings(acl_path=tmp_path)
    world = context(load_policy(tmp_path, reserved=settings.service_topic_prefix))
    login = SimpleNamespace(apply=lambda _: None)
    return PolicyFollower(settings, world, live, login, lambda _: None), live, role


async def test_a_change_is_told_once(following):
    one, live, role = following
    await one.look()
    assert live.heard == 0
    role.write_text(ROLE.format("b"))
    for _ in range(3):
        await one.look()
    assert live.heard == 1


@pytest.mark.parametrize("ask", ["look", "reload"])
async def test_what_could_not_be_put_in_force_is_by_the_next_look(following, ask):
    """By SIGHUP: "what was before is in force", it said, and so it stayed for some connections."""
    one, live, role = following
    role.write_text(ROLE.format("b"))
    live.fails = True
    with pytest.raises(RuntimeError):
        await getattr(one, ask)()
    live.fails = False
    for _ in range(3):
        await one.look()
    assert live.heard == 1


async def test_a_look_that_is_broken_off_is_made_again(following):
    one, live, role = following
    role.write_text(ROLE.format("b"))
    live.hangs = asyncio.Event()
    looking = asyncio.ensure_future(one.reload())
    async with asyncio.timeout(20):
        while not one._context.counters.policy_reloads:  # noqa: ASYNC110 - it goes on in a thread
            await asyncio.sleep(0)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    live.hangs = None
    await one.look()
    assert live.heard == 1
