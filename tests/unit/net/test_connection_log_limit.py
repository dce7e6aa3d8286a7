"""Connections that come and go cost a bounded number of lines, and of the rest a number is told."""

from __future__ import annotations

import pytest

from gateway.mqtt.reason_codes import Reason
from gateway.net import connection_log_limit
from gateway.net.connection_log_limit import ConnectionLog


@pytest.fixture
def lines(warnings_of):
    return warnings_of(connection_log_limit)


def test_a_device_that_connects_without_end_gets_sixty_lines_a_minute_and_a_number(lines):
    one = ConnectionLog()
    assert [one.worth_a_line("bad", "192.0.2.1") for _ in range(5_000)] == [True] * 60 + [False] * 4_940
    assert one.worth_a_line("good", "192.0.2.1"), "another device has lines of its own"
    assert lines == []
    one.log_rest()
    assert lines == [("connections not logged one by one", {"device": "bad", "lines": 4_940})]
    assert one.worth_a_line("bad", "192.0.2.1"), "the next minute"
    one.log_rest()
    assert len(lines) == 1


def test_many_devices_behind_one_address_share_a_bound_and_one_number(lines):
    one = ConnectionLog()
    told = sum(one.worth_a_line(f"d{number % 100}", "192.0.2.1") for number in range(3_000))
    assert told == 600
    assert one.worth_a_line("d1", "192.0.2.2"), "elsewhere it has its own"
    one.log_rest()
    assert lines == [("connections not logged one by one", {"address": "192.0.2.1", "lines": 2_400})]


def test_who_is_turned_away_is_told_once_and_counted(lines):
    one = ConnectionLog()
    reasons = [Reason.QUOTA_EXCEEDED, Reason.CONNECTION_RATE_EXCEEDED]
    told = [one.first_turned_away("bad", reasons[number % 2]) for number in range(100)]
    assert told == [True, True] + [False] * 98
    assert one.first_turned_away("other", Reason.QUOTA_EXCEEDED)
    one.log_rest()
    assert lines == [
        ("connects refused", {"device": "bad", "code": code, "not_logged_before": 49})
        for code in ("0x97", "0x9f")
    ]
    assert one.first_turned_away("bad", Reason.QUOTA_EXCEEDED)


def test_nothing_is_kept_of_the_minute_before():
    one = ConnectionLog()
    for number in range(10_000):
        one.worth_a_line(f"d{number}", f"192.0.2.{number % 256}")
        one.first_turned_away(f"d{number}", Reason.QUOTA_EXCEEDED)
    one.log_rest()
    assert not any((one._of_device, one._from_address, one._unlogged, one._turned_away))
