"""Who rests gets no tick; whatever comes ends the rest, and so does a clock that was set."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from harness import raw, virtual_time
from harness.background_tasks import beside
from harness.playbook import context, established

from gateway.connection.events import PolicyChanged
from gateway.net.device_port import DevicePort
from gateway.net.device_side import DeviceSide

OK = raw.publish("ok", b"1")


class Resting:
    """The socket side of an established connection that rests, and the ticks that its connection gets."""

    def __init__(self) -> None:
        plane = SimpleNamespace(context=context(), loop_time=lambda: 0.0)
        self.side = DeviceSide(plane, "192.0.2.1:1", "c", 0.0)  # type: ignore[arg-type]
        self.side.connection = established(plane.context).connection
        self.side.tick(0.0, 1)
        self.side.tick(0.0, 2)
        assert self.side.rests_until > 10

    def gets_tick(self, second: int) -> bool:
        """Whether the connection was asked what is to be done in this second."""
        live = self.side.connection.established
        assert live is not None
        before = live._second
        self.side.tick(0.0, second)
        return live._second != before


def test_who_rests_gets_no_tick():
    resting = Resting()
    assert not resting.gets_tick(3)
    assert not resting.gets_tick(resting.side.rests_until - 1)
    assert resting.gets_tick(resting.side.rests_until)


@pytest.mark.parametrize(
    "come",
    [
        lambda side: side.data_received(OK),
        lambda side: side.data_received(OK[:3]),
        lambda side: side.bus_bytes(OK),
        lambda side: side.receive(PolicyChanged(side.connection.device)),
    ],
    ids=["a message", "a part of one", "a message for it", "a change"],
)
def test_whatever_comes_ends_the_rest(come):
    resting = Resting()
    come(resting.side)
    assert resting.gets_tick(3)


def test_tls_that_yields_nothing_ends_the_rest():
    # It is counted below the connection, which hears nothing of it.
    resting = Resting()
    live = resting.side.connection.established
    assert live is not None
    live.tls_meter.effort += 1
    assert resting.gets_tick(3)


async def _passed(port: DevicePort, phases: int) -> None:
    begun = port._phase
    async with asyncio.timeout(10):
        while (port._phase - begun) % 50 < phases:  # noqa: ASYNC110 - nothing says it
            await asyncio.sleep(0.005)


async def test_a_clock_that_is_set_ends_all_rests(monkeypatch):
    # A token may have come to its end, and its connection is to hear of it within a second.
    monkeypatch.setattr("gateway.net.device_port._TICK_PHASES", 50)
    side = SimpleNamespace(tick_phase=-1, rests_until=60)
    clock = SimpleNamespace(ahead=1_000_000)
    loop = asyncio.get_running_loop()
    on = context()
    on.now = lambda: clock.ahead + round(loop.time() * 1_000)
    plane = SimpleNamespace(context=on, loop_time=loop.time, registry=SimpleNamespace(live=[side]))
    port = DevicePort(plane, None)  # type: ignore[arg-type]
    ticking = asyncio.create_task(port.tick())
    try:
        await _passed(port, 2)
        side.rests_until = 60
        await _passed(port, 3)
        assert side.rests_until == 60
        clock.ahead += 3_600_000
        await _passed(port, 2)
        assert side.rests_until == 0
    finally:
        ticking.cancel()


class Ticked:
    """A connection in a part of the second, and when it got its ticks."""

    def __init__(self, phase: int) -> None:
        self.tick_phase, self.rests_until = phase, 0
        self.ticks: list[tuple[float, int]] = []

    def tick(self, now: float, second: int) -> None:
        self.ticks.append((now, second))


def test_while_nobody_is_there_the_port_wakes_once_a_second_and_then_each_gets_one():
    async def scene() -> None:
        loop, live = asyncio.get_running_loop(), []
        on = context()
        plane = SimpleNamespace(context=on, loop_time=loop.time, registry=SimpleNamespace(live=live))
        port = DevicePort(plane, None)  # type: ignore[arg-type]
        async with beside(port.tick()):
            before = virtual_time.wake_ups()
            await asyncio.sleep(20.05)
            assert virtual_time.wake_ups() - before == 21, "ours is one"
            assert on.budgets.work.second == 20
            live += [Ticked(phase) for phase in range(5)]
            port._rounds.soon()
            await asyncio.sleep(10.1)
            for one in live:
                assert len(one.ticks) in {10, 11}
                assert [second for _, second in one.ticks] == list(
                    range(one.ticks[0][1], one.ticks[0][1] + len(one.ticks))
                )
            # Who comes and goes has no more seconds than others.
            begun, live[:] = on.budgets.work.second, []
            for _ in range(50):
                await asyncio.sleep(0.2)
                port._rounds.soon()
            assert on.budgets.work.second - begun <= 11

    virtual_time.run(scene())
