"""The register of live connections, without the connections."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from gateway.core.budgets import Budgets
from gateway.core.events import PolicyChanged
from gateway.core.identity import Device
from gateway.net.door import Bus, Door


class Link:
    """Of an admitted device: remembers what it was told."""

    def __init__(self, device, told):
        self.device = device
        self.receive = told.append


def door(policy):
    return Door(
        shared=SimpleNamespace(policy=policy, budgets=Budgets()),
        bus=Bus("localhost", 1),
        login=None,
        audit=None,
        tasks=None,
        find=None,
        services=None,
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
