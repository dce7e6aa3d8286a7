"""The machine: its numbers, and a disk that is full, hangs, or is gone."""

import asyncio
import threading
from types import SimpleNamespace

import pytest
from harness.background_tasks import until

from gateway.observe import machine_load as module
from gateway.observe.machine_load import SystemLoad


async def test_processors_and_memory(tmp_path):
    system = SystemLoad(tmp_path)
    assert system.load is None
    system.look()
    assert 0 <= system.load.cpu <= 1
    assert 0 < system.load.memory_used < 1
    assert system.load.memory_available > 0


@pytest.mark.parametrize(
    ("free", "well", "said"),
    [(50, True, "50% free"), (5, True, "warning: 5% free"), (0, False, "nothing more can be saved")],
)
async def test_a_disk(tmp_path, monkeypatch, free, well, said):
    usage = SimpleNamespace(free=free * 2**30, used=(100 - free) * 2**30)
    monkeypatch.setattr(module.psutil, "disk_usage", lambda _: usage)
    system = SystemLoad(tmp_path)
    found, detail = await system.check()
    assert found is well
    assert said in detail
    assert system.disk.share == pytest.approx(free / 100)


async def test_each_look_asks_the_disk_however_seldom_health_does(tmp_path, monkeypatch):
    usage = SimpleNamespace(free=5, used=95)
    monkeypatch.setattr(module.psutil, "disk_usage", lambda _: usage)
    system = SystemLoad(tmp_path)
    system.look()
    await until(lambda: system.disk is not None)
    assert system.disk.share == pytest.approx(0.05)
    usage.free = 0
    system.look()
    await until(lambda: system.disk.free == 0)


async def test_a_disk_that_is_gone(tmp_path):
    system = SystemLoad(tmp_path / "nowhere")
    found, detail = await system.check()
    assert (found, system.disk) == (False, None)
    assert "can't be asked: No such file or directory" in detail


async def test_a_disk_that_hangs_takes_one_thread(tmp_path, monkeypatch):
    calls, hold = [], threading.Event()

    def hang(_):
        calls.append(1)
        hold.wait(10)
        return SimpleNamespace(free=1, used=1)

    monkeypatch.setattr(module.psutil, "disk_usage", hang)
    system = SystemLoad(tmp_path)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await system.check()
    assert (len(calls), system.disk) == (1, None)
    hold.set()
    assert (await system.check())[0] is False
