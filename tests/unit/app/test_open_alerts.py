"""What alerts know of the services, and when."""

from __future__ import annotations

import asyncio

from gateway.app.open_alerts import ServiceStatus
from gateway.net.bus_endpoint import Bus
from gateway.net.tasks import Tasks
from gateway.observe.health_check_scheduler import Health


async def test_health_is_asked_once_for_all_rules_until_something_is_different():
    asked, answers = [], [True]

    def check() -> tuple[bool, str]:
        asked.append(1)
        return answers[0], "the disk"

    health = Health(now=lambda: 1)
    health.add("disk", check, vital=False)
    status = ServiceStatus(health, Bus("127.0.0.1", 1))
    assert [status() for _ in range(5)] == [{(("service", "disk"),): 1.0}] * 5
    assert len(asked) == 1
    answers[0] = False
    health.findings()  # as health itself does each second
    assert status() == {(("service", "disk"),): 0.0}


async def test_a_lost_bus_is_asked_for_at_once_and_not_when_that_is_due():
    answers, asked = [True], []

    async def check() -> tuple[bool, str]:
        asked.append(1)
        return answers[0], "the bus"

    health, bus, tasks = Health(now=lambda: 1, interval=3_600), Bus("127.0.0.1", 1), Tasks()
    health.add("bus", check, vital=False)
    status = ServiceStatus(health, bus)
    running = tasks.start(health.run(tasks.start))
    try:
        async with asyncio.timeout(20):
            while not status():  # noqa: ASYNC110 - as the alerts do
                await asyncio.sleep(0.01)
            assert status() == {(("service", "bus"),): 1.0}
            answers[0] = False
            await asyncio.sleep(1.2)  # what health knows for less than a second is new enough
            assert status() == {(("service", "bus"),): 1.0}
            bus.losses += 500
            while status() != {(("service", "bus"),): 0.0}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await tasks.stop()
    assert len(asked) == 2
