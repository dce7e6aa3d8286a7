"""The register of live connections, without the connections."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from gateway.connection.events import AccessWithdrawn, PolicyChanged
from gateway.connection.state_table import State
from gateway.connection.work_budgets import Budgets
from gateway.mqtt.reasons import Reason
from gateway.net.connection_registry import Bus, ConnectionRegistry
from gateway.policy.engine.identity import Device, Grant, Identity

LAMP = Device("lamp-1", (), {}, enabled=True, credential="", version=1, created_at=0, updated_at=0)
LIMITS = SimpleNamespace(connections=1_000, connections_per_device=1_000)


class Link:
    """Of an admitted device: remembers what it was told."""

    def __init__(self, device, told, grant=None, state=State.ESTABLISHED):
        self.receive = lambda event: told.append((self, event))
        self.claimed, self.address, self.connection_id = device.device_id, "192.0.2.1:1", "1"
        self.host = "192.0.2.1"
        identity = Identity(device.device_id, (), {}, "c", grant)
        self.connection = SimpleNamespace(device=device, identity=identity, state=state)


def registry(policy, audit=None, **more):
    return ConnectionRegistry(
        context=SimpleNamespace(policy=policy, budgets=Budgets(), now=lambda: 0),
        bus=Bus("localhost", 1),
        login=None,
        audit=audit,
        tasks=None,
        find=None,
        services=None,
        **more,
    )


async def test_messages_go_on_while_a_thousand_connections_are_told_of_a_policy():
    told, seen = [], []
    one = registry(SimpleNamespace(limits=LIMITS))
    for _ in range(1_000):
        assert one.admit(Link(LAMP, told), LAMP) is None
    change = asyncio.create_task(one.policy_changed())
    while not change.done():
        await asyncio.sleep(0)  # as long as it takes to handle a message
        seen.append(len(told))
    assert [event for _, event in told] == [PolicyChanged(LAMP)] * 1_000
    assert len(set(seen)) > 10


def granted(key_id, *before):
    return Grant("t", "t", 0, 0, 1, {}, key_id=key_id, prior_keys=before)


async def test_connections_whose_key_is_gone_end_and_messages_go_on_meanwhile():
    told, seen, events = [], [], []
    one = registry(SimpleNamespace(limits=LIMITS), SimpleNamespace(emit=events.append))
    links = {
        "by secret": Link(LAMP, told),
        "by the new key": Link(LAMP, told, granted("s2")),
        "closed already": Link(LAMP, told, granted("s1"), State.CLOSED),
        "opening": Link(LAMP, told, granted("s1"), State.OPENING_BUS),
        "said goodbye": Link(LAMP, told, granted("s1"), State.GOODBYE),
    }
    many = [Link(LAMP, told, granted("s1")) for _ in range(900)]
    for link in (*links.values(), *many):
        assert one.admit(link, LAMP) is None
    change = asyncio.create_task(one.keys_changed(lambda grant: "gone" if grant.key_id == "s1" else ""))
    while not change.done():
        await asyncio.sleep(0)
        seen.append(len(told))
    await change
    assert {link for link, _ in told} == {*many, links["opening"], links["said goodbye"]}
    why = "The key that signed the token was destroyed, or its time is over."
    assert [event for _, event in told] == [AccessWithdrawn(why)] * 902
    assert {(event.device, event.reason) for event in events} == {("lamp-1", why)}
    assert len(set(seen)) > 10


@pytest.fixture
def admissions(monkeypatch):
    """Two devices that connect by turns: the answers, and what was told."""

    def connect(count, **more):
        told, found = [], []
        monkeypatch.setattr(
            ConnectionRegistry, "tell", lambda _registry, _link, report, **_: told.append(report.reason)
        )
        limits = SimpleNamespace(connections=100, connections_per_device=100)
        one = registry(SimpleNamespace(limits=limits), **more)
        for number in range(count):
            name = f"lamp-{number % 2}"
            lamp = Device(name, (), {}, enabled=True, credential="", version=1, created_at=0, updated_at=0)
            found.append(one.admit(Link(lamp, []), lamp))
        return found, told

    return connect


def test_a_device_that_connects_too_often_is_told_so_once(admissions):
    budget = {"lamp-0": 2, "lamp-1": 100}

    def may_connect(device_id):
        budget[device_id] -= 1
        return budget[device_id] >= 0

    found, told = admissions(20, may_connect=may_connect)
    assert found[1::2] == [None] * 10, "the other one is not concerned"
    assert found[::2] == [None] * 2 + [Reason.CONNECTION_RATE_EXCEEDED] * 8
    assert told == ["more connects a minute than acl/limits.toml allows"]


def test_no_more_are_let_in_than_there_are_file_descriptors_for(admissions):
    found, told = admissions(10, room=4)
    assert found == [None] * 4 + [Reason.QUOTA_EXCEEDED] * 6
    assert told == ["as many connections as acl/limits.toml allows"] * 2, "once for each device"


def test_who_leaves_makes_room_for_its_device_and_for_all():
    limits = SimpleNamespace(connections=2, connections_per_device=2)
    one = registry(SimpleNamespace(limits=limits), SimpleNamespace(emit=lambda _: None))
    links = [Link(LAMP, []) for _ in range(3)]
    assert [one.admit(link, LAMP) for link in links] == [None, None, Reason.QUOTA_EXCEEDED]
    one.forget(links[2])
    assert one.admit(links[2], LAMP) is Reason.QUOTA_EXCEEDED, "it was never let in"
    one.forget(links[0])
    one.forget(links[0])
    assert [one.admit(link, LAMP) for link in (links[2], links[0])] == [None, Reason.QUOTA_EXCEEDED]
    for link in links:
        one.forget(link)
    assert (one._admitted, one._by_device) == ({}, {})
