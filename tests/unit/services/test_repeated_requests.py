"""What came within the last minute comes no second time."""

from __future__ import annotations

from gateway.services.repeated_requests import SeenRequests


def test_a_minute_long_at_least_and_two_at_most():
    for offset in range(0, 60_000, 7_001):
        now = [1_000_000 + offset]
        seen_requests = SeenRequests(lambda now=now: now[0])
        assert not seen_requests.is_repeated("first")
        now[0] += 30_000
        assert not seen_requests.is_repeated(("a", "b"))
        began = now[0]
        for _ in range(59):
            now[0] += 1_000
            assert seen_requests.is_repeated(("a", "b"))
        # What comes again is not remembered any longer for it.
        now[0] = began + 120_001
        assert not seen_requests.is_repeated(("a", "b"))


def test_nothing_is_kept_for_ever():
    now = [0]
    seen_requests = SeenRequests(lambda: now[0])
    for number in range(1_000):
        now[0] += 1_000
        assert not seen_requests.is_repeated(number)
    assert len(seen_requests._recent) + len(seen_requests._before) <= 121
    now[0] += 10_000_000
    seen_requests.is_repeated("x")
    assert len(seen_requests._recent) + len(seen_requests._before) == 1


def test_a_clock_that_is_set_back_forgets_nothing_new():
    now = [10_000_000]
    seen_requests = SeenRequests(lambda: now[0])
    assert not seen_requests.is_repeated("x")
    now[0] -= 5_000_000
    assert seen_requests.is_repeated("x")
