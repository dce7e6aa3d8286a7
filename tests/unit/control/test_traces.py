"""A trace ends in time, however slowly it is read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from gateway.control.traces import _DeviceTrace
from gateway.net.data_plane_parts import DataPlane
from gateway.observe.device_watchers import EventListeners


async def test_a_reader_slower_than_the_device_keeps_no_trace_going():
    start = asyncio.get_running_loop().time()
    passed = 0

    def loop_time() -> float:
        return start - 100 + passed

    plane = SimpleNamespace(loop_time=loop_time, context=SimpleNamespace(now=lambda: 0))
    look = _DeviceTrace(cast("DataPlane", plane), cast("EventListeners", None), "lamp-1")
    look._put("", {"event": "first"})
    said = []
    async for line in look.lines(5):
        said.append(line["event"])
        look._put("", {"event": "another"})
        passed += 1
        if len(said) > 20:
            break
    assert said == ["first", *["another"] * 4, "ends"]
