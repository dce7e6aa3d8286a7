"""Every event is counted and handed on; its log lines are bounded."""

import dataclasses
import io
import json
import logging

import pytest
import structlog

from gateway.core.counters import Counters
from gateway.observe import logs
from gateway.observe.audit import Audit, AuditEvent, AuditLog, Kind, Outcome


@pytest.fixture
def stream():
    stream = io.StringIO()
    logs.configure("info", stream)
    yield stream
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, logs._Bridge)]


class Clock:
    now = 1_764_000_000_000

    def __call__(self):
        return self.now


def event(**changed):
    fields = {
        "time": 1_764_000_000_000,
        "kind": Kind.PUBLISH,
        "outcome": Outcome.REFUSED,
        "reason": "no rule allows it",
        "device": "lamp-1",
        "address": "127.0.0.1:4711",
        "request_id": "r1",
        "topic": "locks/front",
        "action": "publish",
        "rule": "acl/roles/sensor.toml:4",
    }
    return AuditEvent(**{**fields, **changed})


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_carries_the_whole_event(stream):
    AuditLog(Counters(), Clock())(event())
    (line,) = lines(stream)
    line.pop("ts")
    assert line == {
        "level": "warning",
        "event": "audit",
        "time": 1_764_000_000_000,
        "kind": "publish",
        "outcome": "refused",
        "reason": "no rule allows it",
        "device": "lamp-1",
        "address": "127.0.0.1:4711",
        "request_id": "r1",
        "topic": "locks/front",
        "action": "publish",
        "rule": "acl/roles/sensor.toml:4",
    }


@pytest.mark.parametrize(
    ("outcome", "level"),
    [(Outcome.DONE, "info"), (Outcome.REFUSED, "warning"), (Outcome.FAILED, "warning")],
)
def test_what_was_done_is_info_and_the_rest_a_warning(stream, outcome, level):
    AuditLog(Counters(), Clock())(event(outcome=outcome))
    assert lines(stream)[0]["level"] == level


def test_an_event_cannot_be_changed_by_a_consumer():
    with pytest.raises(dataclasses.FrozenInstanceError):
        event().outcome = Outcome.DONE


def test_every_consumer_gets_every_event_and_it_is_counted():
    counters = Counters()
    first, second = [], []
    audit = Audit(counters, first.append, second.append)
    refused, done = event(action=None), event(kind=Kind.LOGIN, outcome=Outcome.DONE)
    for one in (refused, done, refused):
        audit.emit(one)
    assert first == second == [refused, done, refused]
    assert counters.audit_events == {(Kind.PUBLISH, Outcome.REFUSED): 2, (Kind.LOGIN, Outcome.DONE): 1}


def test_each_refusal_of_the_policy_has_an_id_that_stands_in_its_line(stream):
    told = []
    audit = Audit(Counters(), told.append, AuditLog(Counters(), Clock()))
    for action in ("publish", "subscribe", "encrypt", "decrypt"):
        audit.emit(event(action=action))
    ids = [one.id for one in told]
    assert [line["id"] for line in lines(stream)] == ids
    assert len(set(ids)) == 4
    assert all(ids)


@pytest.mark.parametrize(
    "without",
    [
        {"outcome": Outcome.DONE},
        {"outcome": Outcome.FAILED},
        {"device": None},
        {"topic": None},
        {"topic": "x" * 1_025},
        {"action": None},
        {"action": "auth"},
    ],
)
def test_what_can_not_be_explained_has_no_id(stream, without):
    told = []
    Audit(Counters(), told.append, AuditLog(Counters(), Clock())).emit(event(**without))
    assert told == [event(**without)]
    assert "id" not in lines(stream)[0]


def test_a_flood_costs_a_bounded_number_of_lines_and_the_next_line_says_how_many_are_missing(stream):
    counters, clock = Counters(), Clock()
    log = AuditLog(counters, clock, lines_per_second=5)
    for _ in range(12):
        log(event())
    assert len(lines(stream)) == 5
    assert counters.audit_suppressed == 7
    clock.now += 1_000
    log(event())
    log(event())
    assert [line.get("suppressed") for line in lines(stream)[5:]] == [7, None]
    assert counters.audit_suppressed == 7


def test_the_bound_on_lines_holds_nothing_back_from_other_consumers():
    counters = Counters()
    trail = []
    audit = Audit(counters, AuditLog(counters, Clock(), lines_per_second=0), trail.append)
    audit.emit(event())
    assert len(trail) == 1
    assert counters.audit_suppressed == 1
