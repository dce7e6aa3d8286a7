"""What is told together, and how often."""

from __future__ import annotations

from gateway.alerts.alert_states import Alert, Phase
from gateway.alerts.notification_grouping import LISTED_MAX, Grouping, Listed, State, message_of
from gateway.alerts.rules import Severity


def alert(rule="silent", of="", severity=Severity.WARNING) -> Alert:
    labels = (("device", of),) if of else ()
    return Alert(rule, labels, severity, "Silent.", Phase.FIRING, 5, 6, 1.0)


def taken(grouping: Grouping, seconds: float) -> list[tuple[str, int]]:
    return [(state.value, len(told)) for state, told in grouping.take(int(seconds * 1_000))]


def test_five_hundred_at_once_are_one_message():
    grouping = Grouping()
    for number in range(500):
        grouping.add(State.FIRING, alert(of=f"d{number}"), number * 3)
    assert taken(grouping, 1.9) == []
    assert taken(grouping, 2.0) == [("firing", 500)]
    assert taken(grouping, 60) == []


def test_different_rules_that_fire_together_are_one_message():
    grouping = Grouping()
    grouping.add(State.FIRING, alert("bus_down"), 0)
    grouping.add(State.FIRING, alert("service_down"), 1_500)
    assert taken(grouping, 2) == [("firing", 2)]


def test_what_is_over_is_a_message_of_its_own():
    grouping = Grouping()
    grouping.add(State.FIRING, alert("a"), 0)
    grouping.add(State.RESOLVED, alert("b"), 0)
    assert taken(grouping, 2) == [("firing", 1), ("resolved", 1)]


def test_what_is_over_before_it_was_told_is_not_told():
    grouping = Grouping()
    grouping.add(State.FIRING, alert(), 0)
    grouping.add(State.RESOLVED, alert(), 1_000)
    assert taken(grouping, 60) == []


def test_one_device_after_the_other_is_told_a_few_times_and_then_together():
    """A device a second for half an hour: 1,800 alerts."""
    grouping, messages, worst = Grouping(), [], 0.0
    waiting: list[int] = []
    for second in range(1_800):
        grouping.add(State.FIRING, alert(of=f"d{second}"), second * 1_000)
        waiting.append(second)
        for _, told in grouping.take(second * 1_000):
            messages.append(len(told))
            worst = max(worst, second - waiting[0])
            waiting.clear()
    assert messages[:5] == [3] * 5
    assert len(messages) <= 5 + 6
    assert worst <= 301


def test_another_rule_does_not_wait_for_one_that_finds_more_and_more():
    grouping = Grouping()
    for second in range(60):
        grouping.add(State.FIRING, alert(of=f"d{second}"), second * 1_000)
        grouping.take(second * 1_000)
    grouping.add(State.FIRING, alert("bus_down"), 60_000)
    assert taken(grouping, 62) == [("firing", 1)]


def told(rule: str, severity: Severity, number: int) -> Listed:
    return Listed(rule, severity, "x", 1.0, {"device": f"d{number}"}, number)


def test_a_message_names_the_gravest_first_and_some_of_each_rule():
    many = [told("silent", Severity.ERROR, number) for number in range(5_000)]
    message = message_of(
        State.FIRING,
        [*many, told("cpu", Severity.WARNING, 1), told("bus", Severity.CRITICAL, 9)],
        node="n",
        at=1,
    )
    assert message.severity is Severity.CRITICAL
    assert message.alerts[0].alert == "bus"
    assert message.alerts[-1].alert == "cpu"
    assert len(message.alerts) <= LISTED_MAX
    assert message.counts == {"bus": 1, "silent": 5_000, "cpu": 1}
    assert message.count == 5_002


def test_no_two_messages_have_one_id():
    made = {
        message_of(State.FIRING, [told("a", Severity.INFO, 1)], node="n", at=1).message_id for _ in range(100)
    }
    assert len(made) == 100
