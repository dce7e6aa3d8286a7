"""The parts whose numbers are measured, with numbers by hand."""

from __future__ import annotations

from types import SimpleNamespace

from gateway.connection.transition_table import State
from gateway.net.pause_reasons import BUS_FULL
from gateway.observe.health_check_scheduler import State as Found
from harness.playbook import context


def measured_parts(number: int) -> SimpleNamespace:
    """All that is measured, at a moment at which each of its numbers is this one, or made of it."""
    connection = SimpleNamespace(state=State.ESTABLISHED, protocol="5")
    link = SimpleNamespace(connection=connection, method="secret", paused_for=BUS_FULL)
    finding = SimpleNamespace(
        state=Found.HEALTHY if number % 2 else Found.UNHEALTHY, duration_ms=number, checked_at=number
    )
    report = SimpleNamespace(ready=number % 2 == 1, live=number % 2 == 1)
    here = context()
    return SimpleNamespace(
        context=SimpleNamespace(
            now=lambda: number * 1_000,
            counters=here.counters,
            policy=SimpleNamespace(digest=str(number) * 64),
            budgets=SimpleNamespace(work=SimpleNamespace(held=number)),
            ring=SimpleNamespace(uses=number),
        ),
        plane=SimpleNamespace(
            registry=SimpleNamespace(live=[link] * number, devices_connected=number),
            untaken=SimpleNamespace(size=number),
            bus=SimpleNamespace(reachable=number % 2),
        ),
        updates=SimpleNamespace(),
        store=SimpleNamespace(tokens=_Tokens(number)),
        directory=SimpleNamespace(states=lambda _: {"enabled": number}),
        passwords=SimpleNamespace(waiting=number, at_work=number),
        keys=SimpleNamespace(created=lambda: {"sealing": number}),
        validity=SimpleNamespace(
            states=lambda: {"good": number},
            expiries=lambda: {"server": number * 7},
            starts=lambda: {"server": number},
            days_left=lambda: {"server": number},
            life_left=lambda: {"server": number},
        ),
        health=SimpleNamespace(last_report=lambda: report, findings=lambda: {"bus": finding}),
        trail=SimpleNamespace(size=number, checkpoint_time=number),
        system=SimpleNamespace(
            look=lambda: None,
            load=SimpleNamespace(cpu=number, load1=number, memory_used=number, memory_available=number),
            disk=SimpleNamespace(share=number, free=number),
        ),
        lag=SimpleNamespace(seconds=number),
    )


class _Tokens:
    def __init__(self, number: int) -> None:
        self.number = number

    async def count(self) -> int:
        return self.number
