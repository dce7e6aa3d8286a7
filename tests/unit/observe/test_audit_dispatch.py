"""Every event is counted and handed on; its log lines are bounded."""

import json

import pytest

from gateway.connection.audit_vocabulary import Kind, Origin, Outcome, Source
from gateway.connection.process_counters import Counters
from gateway.observe.audit_dispatch import _ADMISSIONS_MAX, LEFT_OUT_LINES, Audit, AuditEvent, AuditLog
from gateway.observe.audit_rate_limit import FIRST_PER_KIND, PER_DEVICE_MAX


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
    with pytest.raises(AttributeError):
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


HERE = Origin(source=Source.STRANGER, address="192.0.2.7:1", connection="c1", request_id="r1")


def admissions_of(told):
    return [(one.kind, one.device, one.time) for one in told]


def test_an_admission_is_handed_on_when_that_is_asked_for():
    told, counters = [], Counters()
    audit = Audit(counters, told.append)
    audit.admitted("token", "lamp-1", HERE, 1_764_000_000_000)
    assert told == []
    audit.hand_on_admissions()
    assert told == [
        AuditEvent(
            time=1_764_000_000_000,
            kind=Kind.LOGIN,
            outcome=Outcome.DONE,
            reason="by token",
            action="token",
            device="lamp-1",
            address="192.0.2.7:1",
            connection="c1",
            request_id="r1",
            source=Source.DEVICE,
        )
    ]
    assert counters.audit_events == {(Kind.LOGIN, Outcome.DONE): 1}
    audit.hand_on_admissions()
    assert len(told) == 1, "once"


def test_an_admission_is_never_handed_on_after_what_came_after_it():
    told = []
    audit = Audit(Counters(), told.append)
    audit.admitted("secret", "lamp-1", HERE, 1)
    audit.admitted("secret", "lamp-2", HERE, 2)
    audit.emit(event(time=3))
    assert admissions_of(told) == [
        (Kind.LOGIN, "lamp-1", 1),
        (Kind.LOGIN, "lamp-2", 2),
        (Kind.PUBLISH, "lamp-1", 3),
    ]


def test_no_more_admissions_are_held_back_than_a_few_and_none_of_a_device_that_is_watched():
    told = []
    audit = Audit(Counters(), told.append, watched={"lamp-2"})
    for number in range(_ADMISSIONS_MAX - 1):
        audit.admitted("secret", "lamp-1", HERE, number)
    assert told == []
    audit.admitted("secret", "lamp-1", HERE, _ADMISSIONS_MAX)
    assert len(told) == _ADMISSIONS_MAX
    audit.admitted("secret", "lamp-1", HERE, 100)
    audit.admitted("secret", "lamp-2", HERE, 101)
    assert admissions_of(told)[-2:] == [(Kind.LOGIN, "lamp-1", 100), (Kind.LOGIN, "lamp-2", 101)]


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


def test_a_flood_costs_a_bounded_number_of_lines_and_what_is_missing_is_told(stream):
    counters, clock = Counters(), Clock()
    log = AuditLog(counters, clock)
    flood = FIRST_PER_KIND + PER_DEVICE_MAX
    for number in range(flood + 7):
        log(event(topic="decoy", rule=None, request_id=str(number)))
    # The first of each rule and first level of a topic is told by itself.
    assert len(lines(stream)) == flood + 1
    assert counters.audit_suppressed == 6
    for _ in range(3):
        log(event(kind=Kind.SUBSCRIBE, topic=None))
    clock.now += 1_000
    log(event(device="lamp-2"))
    left_out, honest = lines(stream)[-2:]
    left_out.pop("ts")
    assert left_out == {
        "level": "warning",
        "event": "audit",
        "time": clock.now,
        "kind": "publish",
        "outcome": "refused",
        "reason": "more of these than are written one by one",
        "device": "lamp-1",
        "suppressed": 6,
    }
    assert honest["device"] == "lamp-2"
    written = len(lines(stream))
    log.log_left_out()
    assert len(lines(stream)) == written, "told once"


def test_what_was_left_out_in_the_connection_is_told_with_the_rest(stream):
    counters, clock = Counters(), Clock()
    log = AuditLog(counters, clock)
    audit = Audit(counters, log)
    audit.emit(event(topic=None, action=None, count=40))
    audit.emit(event(topic=None, action=None, count=2))
    assert lines(stream) == []
    log.log_left_out()
    assert [(line["device"], line["kind"], line["suppressed"]) for line in lines(stream)] == [
        ("lamp-1", "publish", 42)
    ]
    assert counters.audit_events == {(Kind.PUBLISH, Outcome.REFUSED): 42}


def test_what_was_left_out_of_many_is_told_some_a_second(stream):
    log = AuditLog(Counters(), Clock())
    for number in range(LEFT_OUT_LINES + 3):
        log(event(device=f"d{number}", count=2))
    for told in (LEFT_OUT_LINES, 3, 0):
        before = len(lines(stream))
        log.log_left_out()
        assert len(lines(stream)) - before == told


def test_strangers_use_up_no_line_of_a_device(stream):
    """Garbage in place of TLS, by thousands: a hundred refusals of a device still leave a trace each."""
    log = AuditLog(Counters(), Clock())
    garbage = {"kind": Kind.LOGIN, "topic": None, "action": None, "rule": None, "source": Source.STRANGER}
    for number in range(5_000):
        log(event(device=None, address=f"10.0.{number % 200}.7:4711", **garbage))
        # What it says it is, is no device.
        log(event(device="lamp-1", address=f"10.1.{number % 200}.7:4711", **garbage))
    for number in range(100):
        log(event(topic=f"locks/{number}"))
    told = [line["topic"] for line in lines(stream) if line["kind"] == "publish"]
    assert told == [f"locks/{number}" for number in range(100)]


def test_the_bound_on_lines_holds_nothing_back_from_other_consumers(stream):
    counters = Counters()
    trail = []
    audit = Audit(counters, AuditLog(counters, Clock()), trail.append)
    for _ in range(2_000):
        audit.emit(event())
    assert len(trail) == 2_000
    assert counters.audit_suppressed == 2_000 - len(lines(stream))


def test_who_hands_on_is_told_once_when_something_begins_to_be_held_back():
    held = []
    audit = Audit(Counters(), watched={"lamp-2"}, holds=lambda: held.append(1))
    for number in range(3):
        audit.admitted("secret", "lamp-1", HERE, number)
    assert len(held) == 1
    audit.hand_on_admissions()
    assert len(held) == 1
    audit.admitted("secret", "lamp-1", HERE, 4)
    assert len(held) == 2
