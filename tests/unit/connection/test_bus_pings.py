"""Who is asked when, and what an answer means."""

from __future__ import annotations

import pytest

from gateway.connection.bus_pings import Heartbeat


def ticks(beat: Heartbeat, count: int) -> list[bool]:
    return [beat.tick() for _ in range(count)]


@pytest.mark.parametrize(("keep_alive", "due"), [(0, []), (4, [2]), (5, [3]), (6, [3])])
def test_the_bus_is_asked_at_half_the_keep_alive_once_for_what_it_did_not_hear(keep_alive, due):
    beat = Heartbeat(keep_alive)
    beat.heard = True
    assert [second for second, asked in enumerate(ticks(beat, 12), 1) if asked] == due


def test_a_device_that_says_nothing_is_not_kept_alive():
    assert not any(ticks(Heartbeat(2), 9))


def test_the_gateways_own_answers_are_kept_from_the_device():
    beat = Heartbeat(2)
    beat.heard = True
    assert beat.tick()
    beat.device_pinged()
    assert not beat.all_answered
    assert [beat.bus_ponged(), beat.bus_ponged(), beat.all_answered] == [False, True, True]


def test_drained_when_all_before_the_last_is_answered():
    beat = Heartbeat(0)
    beat.device_pinged()
    assert not beat.is_drained
    beat.drain()
    assert beat.bus_ponged()
    assert not beat.is_drained
    assert not beat.bus_ponged()
    assert beat.is_drained
    assert beat.all_answered
