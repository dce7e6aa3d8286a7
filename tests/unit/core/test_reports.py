"""Reports of one connection are bounded, and none is lost without being counted."""

from __future__ import annotations

from gateway.core.commands import Report
from gateway.core.reports import FIRST, PER_SECOND, Reports

ONE = Report("publish", "refused", "why")


def taken(reports):
    pending, reports.pending = reports.pending, []
    return pending


def test_so_many_a_second_and_a_count_of_the_others():
    reports = Reports()
    for _ in range(PER_SECOND + 7):
        reports.add(ONE)
    assert taken(reports) == [ONE] * PER_SECOND
    reports.tick()
    (rest,) = taken(reports)
    assert rest.count == 7
    reports.add(ONE)
    assert taken(reports) == [ONE]


def test_a_quiet_second_tells_nothing():
    reports = Reports()
    reports.add(ONE)
    assert taken(reports) == [ONE]
    reports.tick()
    reports.tick()
    assert taken(reports) == []


def test_what_is_left_out_is_counted_by_kind():
    reports = Reports()
    others = Report("delivery", "refused", "why"), Report("open", "failed", "why")
    for _ in range(PER_SECOND + 7):
        reports.add(ONE)
    for _ in range(FIRST + 3):
        for other in others:
            reports.add(other)
    assert taken(reports) == [ONE] * PER_SECOND + list(others) * FIRST
    reports.tick()
    assert {(one.kind, one.outcome): one.count for one in taken(reports)} == {
        ("publish", "refused"): 7,
        ("delivery", "refused"): 3,
        ("open", "failed"): 3,
    }
