"""What alerts know of the services, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from harness.measured_parts import measured_parts
from harness.playbook import context
from harness.readings import NOW

from gateway.alerts.condition_parser import condition_of
from gateway.alerts.reading_catalogue import catalogue
from gateway.alerts.rules import Rule, Severity
from gateway.app.metric_sources import Durations, Measuring
from gateway.app.open_alerts import ServiceStatus, open_alerts
from gateway.app.running_parts import RunningParts
from gateway.config.monitoring import Monitoring
from gateway.connection.process_counters import Counters
from gateway.net.bus_endpoint import Bus
from gateway.net.tasks import Tasks
from gateway.observe.audit_dispatch import Audit
from gateway.observe.health_check_scheduler import Health
from gateway.observe.history import History
from gateway.observe.save_failures import Saves
from gateway.store import Store

DOWN = Rule(
    "bus_down",
    condition_of('service_status{service="bus"} == "down"', catalogue()),
    0,
    Severity.CRITICAL,
    "Down.",
)


class Gateway:
    """What measures and what alerts, with a history of its own; the clock shows what the test says."""

    def __init__(self, store: Store, rule: Rule = DOWN) -> None:
        self.now, self.bus_is_up = NOW, True
        self.parts = RunningParts(asyncio.Event())
        health, bus = Health(now=lambda: self.now), Bus("127.0.0.1", 1)
        health.add("bus", lambda: (self.bus_is_up, "the bus"), vital=False)
        measured, here = measured_parts(3), context()
        measured.context.now = here.now = lambda: self.now
        history = Measuring.new_history()
        history.load(*saved_at(NOW - 5_000), NOW)
        self.measuring = Measuring(measured, Durations(), history)
        self.alerts = open_alerts(
            SimpleNamespace(in_force=Monitoring(rules=(rule,)), on_change=lambda _: None),
            history,
            health,
            SimpleNamespace(
                store=store,
                directory=SimpleNamespace(enabled=list, on_change=lambda _: None),
                login=SimpleNamespace(known=SimpleNamespace()),
                audit=Audit(Counters(), lambda _: None),
                plane=SimpleNamespace(context=here, bus=bus),
            ),
            measuring=self.measuring,
            saves=Saves(),
            parts=self.parts,
            node="gw-1",
        )
        self.parts.begin()

    async def fires(self, seconds: float) -> bool:
        """Whether an alert fires within this time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.alerts.current():
                return True
            await asyncio.sleep(0.05)
        return False


def saved_at(at: int) -> tuple[object, object]:
    """What the process before has left: series, and a sample of that time."""
    before = History()
    before.add(at, {"cpu_percent": {(): 1.0}})
    unsaved = before.unsaved()
    assert unsaved is not None
    return unsaved.series, unsaved.rows


@pytest.fixture
async def gateway(store: Store) -> AsyncIterator[Gateway]:
    one = Gateway(store)
    yield one
    await one.parts.stop()


@pytest.mark.parametrize("hours", [-1, 1, -24 * 400])
async def test_a_clock_that_is_set_leaves_all_rules_in_force(gateway, hours):
    await gateway.measuring.look()
    gateway.now += hours * 3_600_000
    await gateway.measuring.look()
    gateway.bus_is_up = False
    assert await gateway.fires(5)


async def test_what_the_process_before_has_measured_fires_nothing(gateway):
    gateway.bus_is_up = False
    assert not await gateway.fires(2.5)


async def test_what_was_measured_more_than_a_minute_ago_fires_nothing(gateway):
    await gateway.measuring.look()
    gateway.measuring.sampled_at -= 60
    gateway.bus_is_up = False
    assert not await gateway.fires(2.5)


@pytest.mark.parametrize(
    "condition",
    ["policy_info == 1", 'check_duration_seconds{service="bus"} > 1ms', "check_timestamp_seconds > 0"],
)
async def test_what_the_history_does_not_have_may_be_asked_for_all_the_same(store, condition):
    gateway = Gateway(store, Rule("x", condition_of(condition, catalogue()), 0, Severity.INFO, "X."))
    try:
        await gateway.measuring.look()
        assert await gateway.fires(5)
    finally:
        await gateway.parts.stop()


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
