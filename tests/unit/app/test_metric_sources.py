"""Each gauge says what its source says now: of numbers that last a moment, too, as how many logins wait."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from harness.background_tasks import until
from harness.measured_parts import measured_parts
from prometheus_client import generate_latest

from gateway.app.metric_sources import Durations, Measuring
from gateway.net.tasks import Tasks
from gateway.observe import health_check_scheduler
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
