"""What runs and is closed: in the reverse order, tasks before what they use, and nothing begins too early."""

from __future__ import annotations

import asyncio

import pytest

from gateway.app.running_parts import RunningParts
from gateway.app.savers.saver import Saver
from gateway.observe.save_failures import Saves


class Noting(Saver):
    """A saver that notes what it is asked to do."""

    subject = "notes"
    seconds = 0.001

    def __init__(self, notes):
        super().__init__(Saves())
        self.notes = notes

    async def write(self):
        self.notes.append("write")
        return False

    async def run(self):
        self.notes.append("run")
        try:
            await super().run()
        finally:
            self.notes.append("stopped")


@pytest.fixture
def give_up():
    return asyncio.Event()


async def test_what_is_left_is_saved_when_no_task_runs_any_more(give_up):
    parts, notes = RunningParts(give_up), []
    parts.closing.callback(notes.append, "the store is closed")
    parts.keep_saving(Noting(notes))
    await asyncio.sleep(0.01)
    assert notes == [], "it begins when the end of tasks is settled"
    parts.begin()
    parts.closing.callback(notes.append, "the port is closed")
    await asyncio.sleep(0.01)
    assert "write" in notes
    await parts.stop()
    assert notes[-4:] == ["the port is closed", "stopped", "write", "the store is closed"]
    assert not give_up.is_set()
    assert not parts.failed


async def test_a_start_that_fails_early_has_begun_nothing(give_up):
    parts, notes = RunningParts(give_up), []
    parts.closing.callback(notes.append, "the store is closed")
    parts.keep_saving(Noting(notes))
    await parts.stop()
    assert notes == ["write", "the store is closed"]


async def test_a_part_that_fails_stops_the_gateway(give_up):
    async def fail():
        raise ValueError("a fault")

    parts = RunningParts(give_up)
    parts.begin()
    parts.keep(fail())
    await asyncio.wait_for(give_up.wait(), 20)
    assert parts.failed
    await parts.stop()
