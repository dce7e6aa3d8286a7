"""The register of live connections, without the connections."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from gateway.core.events import PolicyChanged
from gateway.core.identity import Device
from gateway.mqtt.reasons import Reason
from gateway.net.door import Bus, Door


class Link:
    """Of an admitted device: remembers what it was told."""

    def __init__(self, device, told):
        self.device = device
        self.receive = told.append


def door(policy, **more):
    return Door(
        shared=SimpleNamespace(policy=policy),
        bus=Bus("localhost", 1),
        login=None,
        audit=None,
        tasks=None,
        find=None,
        services=None,
        **more,
    )


async def test_messages_go_on_while_a_thousand_connections_are_told_of_a_policy():
    lamp = Device("lamp-1", (), {}, enabled=True, credential="", version=1, created_at=0, updated_at=0)
    limits = SimpleNamespace(connections=1_000, connections_per_device=1_000)
    told, seen = [], []
    one = door(SimpleNamespace(limits=limits))
    for _ in range(1_000):
        assert one.admit(Link(lamp, told), lamp) is None
    change = asyncio.create_task(one.policy_changed())
    while not change.done():
        await asyncio.sleep(0)  # as long as it takes to handle a message
        seen.append(len(told))
    assert told == [PolicyChanged(lamp)] * 1_000
    assert len(set(seen)) > 10


@pytest.fixture
def admissions(monkeypatch):
    """Two devices that connect by turns: the answers, and what was told."""

    def connect(count, **more):
        told, found = [], []
        monkeypatch.setattr(Door, "tell", lambda _door, _link, report: told.append(report.reason))
        limits = SimpleNamespace(connections=100, connections_per_device=100)
        one = door(SimpleNamespace(limits=limits), **more)
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
