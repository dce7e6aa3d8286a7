"""Reports of one connection are bounded, and none is lost without being counted."""

from __future__ import annotations

from gateway.connection.audit_vocabulary import Report
from gateway.connection.refusal_report_limit import FIRST_OF_A_KIND, PER_SECOND, ROOTS, Reports

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
    for _ in range(FIRST_OF_A_KIND + 3):
        for other in others:
            reports.add(other)
    assert taken(reports) == [ONE] * PER_SECOND + list(others) * FIRST_OF_A_KIND
    reports.tick()
    assert {(one.kind, one.outcome): one.count for one in taken(reports)} == {
        ("publish", "refused"): 7,
        ("delivery", "refused"): 3,
        ("open", "failed"): 3,
    }


def test_what_differs_from_all_decoys_is_told_in_the_same_second():
    reports = Reports()
    for number in range(5_000):
        reports.add(Report("publish", "refused", "why", "publish", f"decoy/{number}"))
    real = Report("publish", "refused", "why", "publish", "locks/front")
    ruled = Report("publish", "refused", "why", "publish", "decoy/x", "acl/roles/lamp.toml:7")
    for one in (real, ruled, ruled):
        reports.add(one)
    assert taken(reports)[PER_SECOND:] == [real, ruled]
    for number in range(5_000):
        reports.add(Report("publish", "refused", "why", "publish", f"{number}/x"))
    assert len(taken(reports)) < ROOTS
