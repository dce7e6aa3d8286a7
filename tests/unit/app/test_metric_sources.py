"""Each gauge says what its source says now: of numbers that last a moment, too, as how many logins wait."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from harness.background_tasks import until
from harness.measured_parts import measured_parts
from prometheus_client import generate_latest

from gateway.alerts.condition_parser import condition_of
from gateway.alerts.reading_catalogue import catalogue as readings
from gateway.alerts.reading_catalogue import live_gauges
from gateway.alerts.shipped_rules import SHIPPED
from gateway.app.metric_sources import Durations, Measuring
from gateway.net.tasks import Tasks
from gateway.observe import health_check_scheduler
from gateway.observe.external_service_check_definitions import OUR_CHECKS
from gateway.observe.health_check_scheduler import Health
from gateway.observe.metric_catalogue import MetricType, catalogue
from gateway.observe.metrics import collector_registry

FIXED = {"build_info", "workers"}


async def gauges(number: int) -> dict[str, object]:
    history = SimpleNamespace(series=number, left_out=number, add=lambda *_: None)
    measuring = Measuring(measured_parts(number), Durations(), history)
    await measuring.look()
    return {
        metric.name: values for metric, values in measuring.metrics.found() if metric.type is MetricType.GAUGE
    }


async def test_what_else_is_sampled_is_so_right_before_the_look_is_kept():
    done: list[str] = []
    history = SimpleNamespace(series=1, left_out=0, add=lambda *_: done.append("kept"))
    measuring = Measuring(measured_parts(1), Durations(), history)
    measuring.sample_too.append(lambda: done.append("sampled"))
    await measuring.look()
    assert done == ["sampled", "kept"]


async def test_every_gauge_moves_with_what_it_is_of():
    first, second = await gauges(3), await gauges(4)
    # Those of devices come from `gateway.alerts.device_readings`.
    wanted = {
        one.name for one in catalogue().values() if one.type is MetricType.GAUGE and one.labels != ("device",)
    }
    assert wanted <= first.keys()
    assert {name for name in first if first[name] == second[name]} == FIXED


async def test_looks_and_scrapes_have_nothing_checked_before_its_interval_is_over(monkeypatch):
    monkeypatch.setattr(health_check_scheduler, "_FRESH_SECONDS", 0.0)
    health, tasks, checked = Health(interval=600), Tasks(), []

    async def probe() -> tuple[bool, str]:
        checked.append(1)
        return True, ""

    health.add("bus", probe, vital=False)
    measured = measured_parts(1)
    measured.health = health
    measuring = Measuring(measured, Durations(), SimpleNamespace(series=0, left_out=0, add=lambda *_: None))
    tasks.start(health.run(tasks.start))
    try:
        for _ in range(3):
            await measuring.look()
            generate_latest(collector_registry(measuring.metrics))
            await asyncio.sleep(0.02)
        assert len(checked) == 1
        health.report()
        await until(lambda: len(checked) == 2)
    finally:
        await tasks.stop()


async def test_two_hundred_checks_leave_room_for_what_the_shipped_rules_ask_for():
    """Kind: what is many takes the room of what is one and comes later."""
    history, parts = Measuring.new_history(), measured_parts(3)
    (finding,) = parts.health.findings().values()
    names = [f"check{number}" for number in range(200)] + list(OUR_CHECKS)
    parts.health.findings = lambda: dict.fromkeys(names, finding)
    await Measuring(parts, Durations(), history).look()
    assert history.left_out == 0
    # Of channels and single devices others answer.
    asked = {name for one in SHIPPED if one.on for name in condition_of(one.condition, readings()).names}
    assert [name for name in sorted(asked - {"channel_status"}) if not history.latest(name)] == []
    assert len(history.latest("service_status")) == len(names)


async def test_a_policy_that_is_changed_again_and_again_takes_no_room():
    history, parts = Measuring.new_history(), measured_parts(3)
    measuring = Measuring(parts, Durations(), history)
    await measuring.look()
    before = history.series
    for number in range(10):
        parts.context.policy = SimpleNamespace(digest=str(number) * 64)
        await measuring.look()
    assert history.series == before


async def test_what_the_history_does_not_have_is_read_as_it_is_now():
    parts = measured_parts(3)
    metrics = Measuring(parts, Durations(), Measuring.new_history()).metrics
    found = {name: metrics.latest(name) for name in live_gauges()}
    assert found == {
        "policy_info": {(("digest", "3" * 12),): 1},
        "check_duration_seconds": {(("service", "bus"),): 0.003},
        "check_timestamp_seconds": {(("service", "bus"),): 0.003},
    }
