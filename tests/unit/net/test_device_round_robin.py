"""Whose turn it is: devices by turns, a turn's worth at a time, and the loop in between."""

from __future__ import annotations

import asyncio

import pytest

from gateway.connection.device_budgets import ITERATION_EFFORT, Budgets, ProcessWork
from gateway.net.device_round_robin import Turns
from gateway.net.tls_decryption_cost import TlsBudget
from gateway.net.untaken_answers import UntakenAnswers
from gateway.policy.engine.limits import Limits


class Busy:
    """A connection that has more to do for so many turns, each of this effort."""

    def __init__(self, turns, work, device, took, *, times, effort):
        self._turns, self._work, self._device, self._took = turns, work, device, took
        self._times, self._effort = times, effort
        turns.wait(device, self)

    def __call__(self):
        self._took.append(self._device)
        self._work.add(self._effort)
        self._times -= 1
        if self._times:
            self._turns.wait(self._device, self)


@pytest.fixture
def work():
    return ProcessWork()


async def test_devices_take_turns_not_connections(work):
    turns, took = Turns(work), []
    for _ in range(60):
        Busy(turns, work, "bad", took, times=10, effort=10)
    Busy(turns, work, "good", took, times=3, effort=10)
    while len(took) < 603:  # noqa: ASYNC110 - turn by turn
        await asyncio.sleep(0)
    # Never more than one slice of the other before each of its own.
    assert [number for number, name in enumerate(took) if name == "good"] == [1, 3, 5]


async def test_a_turn_has_an_end_and_the_loop_goes_on_between(work):
    turns, took = Turns(work), []
    for _ in range(10):
        Busy(turns, work, "bad", took, times=10, effort=ITERATION_EFFORT // 2)
    seen = []
    while len(took) < 100:
        await asyncio.sleep(0)
        seen.append(len(took))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) == 2
    assert not work.iteration_is_full


async def test_a_turn_that_was_full_is_not_full_for_ever(work):
    turns, took = Turns(work), []
    work.add(ITERATION_EFFORT)
    assert work.iteration_is_full
    Busy(turns, work, "one", took, times=1, effort=1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert took == ["one"]
    assert not work.iteration_is_full


class ReadsOn:
    """A TLS connection that has much to read: that begins after its turn, as a loop resumes reading."""

    def __init__(self, tls, work, woken):
        self._tls, self._work, self._woken = tls, work, woken
        self.done = False
        tls.wait(self.take)

    def take(self):
        self._woken.append(self)
        asyncio.get_running_loop().call_soon(self._read)

    def _read(self):
        if self._work.iteration_is_full:
            self._tls.wait(self.take)
        else:
            self._work.add(ITERATION_EFFORT // 4)
            self.done = True


async def test_of_a_hundred_that_read_on_only_those_are_woken_that_a_turn_has_room_for(work):
    """Kind: what waits is woken to find that it has to wait again, which costs the square of their number."""
    turns, woken, budgets = Turns(work), [], Budgets()
    meters = [budgets.join(f"device-{number}", Limits()).tls for number in range(100)]
    peers = [ReadsOn(TlsBudget(meter, turns), work, woken) for meter in meters]
    for _ in range(200):
        await asyncio.sleep(0)
    assert all(peer.done for peer in peers)
    assert len(woken) < 2 * len(peers)


def test_answers_that_are_not_taken_are_bounded_for_a_device_over_its_connections():
    limits = Limits(packet_size=1_000_000)
    untaken = UntakenAnswers()
    assert untaken.add("one", 2_000_000, limits)
    assert not untaken.add("one", 2_000_000, limits)
    assert untaken.add("one", -4_000_000, limits)
    assert untaken.add("one", 3_000_000, limits)
    assert untaken.add("other", 3_000_000, limits)


def test_answers_that_are_not_taken_are_bounded_for_all():
    limits = Limits(packet_size=1_000_000)
    untaken = UntakenAnswers()
    assert all(untaken.add(f"d{number}", 3_000_000, limits) for number in range(8))
    assert not untaken.add("one more", 3_000_000, limits)
