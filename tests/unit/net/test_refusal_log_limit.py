"""Peers that are turned away again and again cost a bounded number of lines and of entries."""

from __future__ import annotations

import pytest

from gateway.net import refusal_log_limit
from gateway.net.refusal_log_limit import RefusedStrangers


@pytest.fixture
def lines(warnings_of):
    return warnings_of(refusal_log_limit)


def test_the_same_of_one_network_is_told_once_and_then_counted(lines):
    one = RefusedStrangers()
    assert [one.first("192.0.2.1", "why") for _ in range(50)] == [True] + [False] * 49
    assert one.first("192.0.2.1", "another why")
    assert one.first("192.0.2.2", "why")
    assert one.first("2001:db8::1", "why")
    assert not one.first("2001:db8::2", "why"), "of the same /64"
    one.log_rest()
    assert lines == [
        ("turned away", {"network": "192.0.2.1", "reason": "why", "not_logged_before": 49}),
        ("turned away", {"network": "2001:db8::/64", "reason": "why", "not_logged_before": 1}),
    ]
    assert one.first("192.0.2.1", "why"), "the next minute"
    one.log_rest()
    assert len(lines) == 2


def test_what_is_remembered_of_very_many_is_bounded(lines):
    one = RefusedStrangers()
    told = sum(one.first(f"10.{n >> 8 & 255}.{n & 255}.1", "why") for n in range(5_000))
    assert told == 1_000
    assert one.first("10.0.0.1", "why") is False
    one.log_rest()
    assert lines[-1] == ("turned away", {"not_logged_before": 4_000})
