"""What changed reaches the live connections, and no message waits for all of them."""

from __future__ import annotations

import asyncio
import dataclasses
from types import SimpleNamespace

import pytest

from gateway.connection.events import AccessWithdrawn, PolicyChanged
from gateway.connection.transition_table import State
from gateway.net.connection_audit_and_log import ConnectionReports
from gateway.net.live_connections import ConnectionRegistry
from gateway.net.live_updates import LiveUpdates
from gateway.net.tasks import Tasks
from gateway.policy.engine.identity import Device, Grant, Identity
from gateway.policy.engine.limits import Limits

LAMP = Device("lamp-1", (), {}, enabled=True, credential="", version=1, created_at=0, updated_at=0)
LIMITS = Limits(connections=1_000, connections_per_device=1_000)


class Live:
    """A connection of an admitted device: remembers what it was given."""

    def __init__(self, heard, grant=None, state=State.ESTABLISHED, device=LAMP):
        self.receive = lambda event: heard.append((self, event))
        self.claimed, self.address, self.connection_id = device.device_id, "192.0.2.1:1", "1"
        self.host, self.method = "192.0.2.1", "secret"
        self.faults = []
        self.fault = self.faults.append
        identity = Identity(device.device_id, (), {}, "c", grant)
        self.connection = SimpleNamespace(device=device, identity=identity, state=state)


class World:
    def __init__(self):
        self.events, self.heard, self.devices = [], [], {"lamp-1": LAMP}
        self.limits = LIMITS
        self.registry = ConnectionRegistry(lambda: self.limits)
        reports = ConnectionReports(SimpleNamespace(emit=self.events.append), lambda: 0)
        self.tasks = Tasks()
        self.updates = LiveUpdates(self.registry, reports, self.tasks, self.devices.get)

    def admit(self, *live):
        for one in live:
            assert self.registry.admit(one, one.connection.device.device_id) is None

    async def heard_meanwhile(self, change):
        """How many had heard of it each time that a message could have been handled."""
        seen, changing = [], asyncio.create_task(change)
        while not changing.done():
            await asyncio.sleep(0)
            seen.append(len(self.heard))
        await changing
        return set(seen)


@pytest.fixture
def world():
    return World()


async def test_messages_go_on_while_a_thousand_connections_hear_of_a_policy(world):
    world.admit(*(Live(world.heard) for _ in range(1_000)))
    assert len(await world.heard_meanwhile(world.updates.policy_changed())) > 10
    assert [event for _, event in world.heard] == [PolicyChanged(LAMP)] * 1_000


def granted(key_id, *before):
    return Grant("t", "t", 0, 0, 1, {}, key_id=key_id, prior_keys=before)


async def test_connections_whose_key_is_gone_end_and_messages_go_on_meanwhile(world):
    heard = world.heard
    some = {
        "by secret": Live(heard),
        "by the new key": Live(heard, granted("s2")),
        "closed already": Live(heard, granted("s1"), State.CLOSED),
        "opening": Live(heard, granted("s1"), State.OPENING_BUS),
        "said goodbye": Live(heard, granted("s1"), State.GOODBYE),
    }
    many = [Live(heard, granted("s1")) for _ in range(900)]
    world.admit(*some.values(), *many)
    change = world.updates.keys_changed(lambda grant: "gone" if grant.key_id == "s1" else "")
    assert len(await world.heard_meanwhile(change)) > 10
    assert {one for one, _ in heard} == {*many, some["opening"], some["said goodbye"]}
    why = "The key that signed the token was destroyed, or its time is over."
    assert [event for _, event in heard] == [AccessWithdrawn(why)] * 902
    assert {(event.device, event.reason) for event in world.events} == {("lamp-1", why)}


async def test_a_fault_ends_the_connection_that_it_happens_in_and_no_other(world):
    bad, good = Live(world.heard), Live(world.heard)

    def fail(event):
        raise ValueError("a fault")

    bad.receive = fail
    world.admit(bad, good)
    await world.updates.policy_changed()
    assert [one for one, _ in world.heard] == [good]
    assert len(bad.faults) == 1
    assert good.faults == []


REVOKED = dataclasses.replace(LAMP, token_epoch=9)
CONSEQUENCES = {
    "removed": (None, AccessWithdrawn("The device was removed.")),
    "disabled": (dataclasses.replace(LAMP, enabled=False), AccessWithdrawn("The device was disabled.")),
    "a new secret": (
        dataclasses.replace(LAMP, version=2),
        AccessWithdrawn("The device has a different secret."),
    ),
    "tokens revoked": (REVOKED, AccessWithdrawn("The token was revoked.")),
    "other roles": (
        dataclasses.replace(LAMP, roles=("a",)),
        PolicyChanged(dataclasses.replace(LAMP, roles=("a",))),
    ),
}


@pytest.mark.parametrize("what", CONSEQUENCES)
async def test_a_changed_device_hears_what_that_means_for_it(world, what):
    device, consequence = CONSEQUENCES[what]
    other = dataclasses.replace(LAMP, device_id="lamp-2")
    mine, theirs = Live(world.heard, granted("s1")), Live(world.heard, device=other)
    world.admit(mine, theirs)
    world.devices["lamp-1"] = device
    world.updates.devices_changed(frozenset({"lamp-1"}))
    await asyncio.gather(*world.tasks._running)
    assert world.heard == [(mine, consequence)]
    withdrawn = isinstance(consequence, AccessWithdrawn)
    assert [event.reason for event in world.events] == ([consequence.why] if withdrawn else [])


async def test_a_lowered_limit_ends_the_connections_that_came_last(world):
    live = [Live(world.heard) for _ in range(3)]
    world.admit(*live)
    world.limits = Limits(connections_per_device=1)
    await world.updates.policy_changed()
    assert [(one, type(event)) for one, event in world.heard] == [
        (live[0], PolicyChanged),
        (live[1], AccessWithdrawn),
        (live[2], AccessWithdrawn),
    ]
    assert "connections_per_device = 1" in world.events[0].reason


async def test_a_method_that_is_taken_away_ends_what_it_opened(world):
    by_token = Live(world.heard)
    by_token.method = "token"
    live = [Live(world.heard), by_token]
    world.admit(*live)
    world.devices["lamp-1"] = dataclasses.replace(LAMP, methods=("token",))
    world.updates.devices_changed(frozenset({"lamp-1"}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [type(event) for _, event in world.heard] == [AccessWithdrawn, PolicyChanged]
