"""Rates: as many as are allowed, for each caller alone, and nothing is kept of who has gone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.connection.gcra_rate_limit import Rates


class Clock:
    def __init__(self, now=1_000_000):
        self.now = now

    def __call__(self):
        return self.now


def taken(rates, count, caller="a", most=10, period=1_000):
    return sum(rates.take(caller, most, period) for _ in range(count))


def test_as_many_as_are_allowed_and_then_as_time_goes_by():
    clock = Clock()
    rates = Rates(clock)
    assert taken(rates, 25) == 10
    clock.now += 500
    assert taken(rates, 25) == 5
    clock.now += 1_000
    assert taken(rates, 25) == 10
    clock.now += 3_600_000
    assert taken(rates, 25) == 10


def test_one_caller_does_not_use_up_what_is_anothers():
    rates = Rates(Clock())
    assert (taken(rates, 25, "a"), taken(rates, 25, "b"), taken(rates, 1, "a")) == (10, 10, 0)


@given(
    st.integers(1, 2_000),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=60),
)
def test_never_more_than_a_period_and_a_pause_allow(most, steps):
    clock = Clock()
    rates, total = Rates(clock), 0
    for pause, count in steps:
        clock.now += pause
        total += taken(rates, count, most=most)
    passed = clock.now - 1_000_000
    # What was there at first, and what came by since; one for the fraction.
    assert total <= most + passed * most / 1_000 + 1
    assert total >= min(most, sum(count for _, count in steps))


def test_a_clock_that_is_set_back_locks_nobody_out():
    clock = Clock()
    rates = Rates(clock)
    assert taken(rates, 25) == 10
    clock.now -= 500_000
    assert taken(rates, 25) == 10


def test_who_has_gone_is_forgotten():
    clock = Clock()
    rates = Rates(clock)
    for number in range(50_000):
        clock.now += 1
        assert rates.take(f"caller {number}", 10, 1_000)
    assert len(rates._whole_at) < 5_000
    # Those who are still within their second are not.
    assert taken(rates, 25, f"caller {49_999}") == 9
