"""The language of conditions: what it means, what it refuses, and that nothing makes it fail or take long."""

from __future__ import annotations

import time

import pytest
from harness.readings import NOW, Measured, labels
from hypothesis import given
from hypothesis import strategies as st

from gateway.alerts.condition_parser import LENGTH_MAX, NoCondition, condition_of
from gateway.alerts.reading_catalogue import CHANNEL_WORDS as STATES
from gateway.alerts.readings_protocol import Series
from gateway.observe.history import History

CATALOGUE = {
    "cpu_percent": Series(),
    "memory_percent": Series(),
    "connections": Series(),
    "logins_refused_total": Series(grows=True),
    "audit_events_total": Series(("kind", "outcome"), grows=True),
    "service_status": Series(("service",), STATES),
    "check_seconds": Series(("service",)),
    "days_left": Series(("certificate",)),
}
AGES_AGO = NOW - 30 * 86_400_000


def holds(text, readings, *, began=AGES_AGO):
    return condition_of(text, CATALOGUE).holds(readings, now=NOW, began=began)


SERVICES = Measured(
    cpu_percent=85.0,
    memory_percent=40.0,
    service_status={
        labels(service="bus"): 0.0,
        labels(service="store"): 1.0,
        labels(service="ai"): 0.5,
        labels(service="mail"): 0.0,
    },
    check_seconds={labels(service="bus"): 5.0, labels(service="store"): 0.1},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu_percent > 80", {(): 85.0}),
        ("gateway_cpu_percent > 80", {(): 85.0}),
        ("80 < cpu_percent", {(): 85.0}),
        ("cpu_percent > 85", {}),
        ("cpu_percent >= 85", {(): 85.0}),
        ("cpu_percent <= 84.9", {}),
        ("cpu_percent != 85", {}),
        ("cpu_percent == 8.5e1", {(): 85.0}),
        ("cpu_percent > -1", {(): 85.0}),
        ("cpu_percent > memory_percent", {(): 85.0}),
        ("cpu_percent > 80 and memory_percent > 80", {}),
        ("cpu_percent > 80 or memory_percent > 80", {(): 85.0}),
        ("memory_percent > 80 or cpu_percent > 80", {(): 85.0}),
        ("not cpu_percent > 80", {}),
        ("not (cpu_percent > 80 and memory_percent > 80)", {(): 85.0}),
        # `and` binds closer than `or`, `not` closer than both.
        ("cpu_percent > 80 or memory_percent > 80 and memory_percent < 0", {(): 85.0}),
        ("not cpu_percent > 90 and not memory_percent > 90", {(): 85.0}),
        ('service_status{service="bus"} == "down"', {labels(service="bus"): 0.0}),
        ('service_status{service="store"} == "down"', {}),
        ('service_status{service!="bus"} == "down"', {labels(service="mail"): 0.0}),
        ('service_status{service!="bus",service!="mail",} == "down"', {}),
        ('service_status{service="nowhere"} == "down"', {}),
        ('not service_status{service="nowhere"} == "down"', {}),
        ("connections > 0", None),
        ("not connections > 0", None),
        (
            'service_status != "up"',
            {labels(service="bus"): 0.0, labels(service="ai"): 0.5, labels(service="mail"): 0.0},
        ),
        ('service_status == "down" and check_seconds > 1', {labels(service="bus"): 0.0}),
        ("check_seconds > 100ms", {labels(service="bus"): 5.0}),
        ("check_seconds >= 5s", {labels(service="bus"): 5.0}),
        # A side without labels goes together with each of the other.
        (
            'service_status == "down" and cpu_percent > 80',
            {labels(service="bus"): 0.0, labels(service="mail"): 0.0},
        ),
        ('service_status == "down" and cpu_percent > 90', {}),
        # What is pinned tells nothing apart: two services in one condition are one alert.
        (
            'service_status{service="bus"} == "down" and service_status{service="mail"} == "down"',
            {(): 0.0},
        ),
        ('service_status{service="bus"} == "up" or cpu_percent > 80', {(): 85.0}),
    ],
)
def test_what_a_condition_means(text, expected):
    assert holds(text, SERVICES) == expected


def test_a_rate_is_the_growth_in_a_second_of_the_time_asked_for():
    one = Measured().counted("logins_refused_total", (300, 100), (150, 110), (0, 160))
    assert holds("increase(logins_refused_total, 5m) == 60", one) == {(): 60.0}
    assert holds("rate(logins_refused_total, 5m) == 0.2", one) == {(): 0.2}
    assert holds("increase(logins_refused_total, 5m) > 60", one) == {}


def test_a_counter_that_starts_again_has_grown_by_what_it_shows():
    one = Measured().counted("logins_refused_total", (300, 1_000), (200, 1_010), (100, 3), (0, 5))
    assert holds("increase(logins_refused_total, 5m) > 0", one) == {(): 15.0}


def test_the_first_refused_login_there_is_counts_though_no_point_was_before():
    of = labels(kind="login", outcome="refused")
    one = Measured().counted("audit_events_total", (20, 7), (0, 7), of=of)
    assert holds('increase(audit_events_total{outcome="refused"}, 5m) > 0', one) == {of: 7.0}
    assert holds('increase(audit_events_total{outcome="refused"}, 1m) > 0', one) == {of: 7.0}


def test_what_a_process_counted_since_it_began_counts_from_nothing():
    one = Measured().counted("logins_refused_total", (60, 7), (0, 9))
    assert holds("increase(logins_refused_total, 5m) > 0", one, began=NOW - 70_000) == {(): 9.0}
    one = Measured().counted("logins_refused_total", (50, 7), (0, 9))
    assert holds("increase(logins_refused_total, 1m) > 0", one, began=NOW - 55_000) == {(): 9.0}


def test_a_gap_in_the_history_is_no_growth():
    """After it the counter shows all that was ever counted, and the point before the gap says so."""
    one = Measured().counted("logins_refused_total", (900, 5_000), (100, 5_001), (0, 5_002))
    assert holds("increase(logins_refused_total, 5m) > 0", one) == {(): 2.0}


def test_a_restart_within_the_time_does_not_count_what_was_before_it():
    one = Measured().counted("logins_refused_total", (290, 9_000), (200, 9_001), (100, 2), (0, 3))
    assert holds("increase(logins_refused_total, 5m) > 0", one, began=NOW - 110_000) == {(): 4.0}


DAYS_MS = 3 * 86_400_000


def counted_over_a_jump(back: float, *values: float, of=()) -> History:
    """What a counter showed each ten seconds for ten minutes, and then after the clock jumped by days."""
    history = History()
    for number in range(60):
        history.add(NOW - DAYS_MS - 600_000 + number * 10_000, {"logins_refused_total": {(): back}})
    for number, value in enumerate(values):
        history.add(NOW - (len(values) - 1 - number) * 10_000, {"logins_refused_total": {of: value}})
    return history


@pytest.mark.parametrize("looks", [1, 28, 31])
def test_what_was_counted_before_the_clock_jumped_by_days_is_no_growth(looks):
    history = counted_over_a_jump(9_000, *[9_002] * looks)
    assert holds("increase(logins_refused_total, 5m) > 50", history, began=AGES_AGO) == {}


def test_what_is_counted_after_the_clock_jumped_by_days_is_growth():
    history = counted_over_a_jump(9_000, 9_002, 9_062)
    assert holds("increase(logins_refused_total, 5m) > 0", history) == {(): 62.0}


def test_a_series_that_begins_after_the_clock_jumped_by_days_counts_from_nothing():
    of = labels(method="secret")
    history = counted_over_a_jump(9_000, 55, 60, of=of)
    assert holds("increase(logins_refused_total, 5m) > 50", history) == {of: 60.0}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "a name, a number or a word is needed, not its end"),
        ("cpu_percent", "after cpu_percent a comparison is needed"),
        ("cpu_percent >", "not its end"),
        ("cpu_percent > 80 90", "'90' can't stand there"),
        ("cpu_percent > 80 &&", "'&&' can't stand there"),
        ("(cpu_percent > 80", "needs ')'"),
        ("cpu_percent > 80)", "')' can't stand there"),
        ("cpu_percnt > 80", "there is no metric cpu_percnt; did you mean cpu_percent?"),
        ("gateway_nothing > 80", "there is no metric gateway_nothing"),
        ("1 > 0", "compares nothing that is measured"),
        ('"up" == "down"', "nothing that is measured"),
        ('cpu_percent == "down"', 'cpu_percent is a number: compare it with one, not with "down"'),
        (
            'service_status == "broken"',
            'service_status is never "broken"; it is one of "up", "degraded", "down"',
        ),
        ('service_status > "down"', "by == or !=, not by >"),
        ('service_status{bus="x"} == "up"', "service_status has no label bus; its labels: service"),
        ('cpu_percent{core="1"} > 80', "cpu_percent has no label core; it has no labels"),
        ("service_status{service=bus} == 1", 'as in service="…"'),
        ('service_status{service~"b"} == 1', "stands = or !="),
        ('service_status{service="b" == 1', "needs '}'"),
        ("rate(cpu_percent, 5m) > 1", "cpu_percent goes up and down"),
        ("rate(logins_refused_total, 300) > 1", "needs a time with its unit, such as 5m, not '300'"),
        ("rate(logins_refused_total) > 1", "needs ','"),
        ("rate(logins_refused_total, 2d) > 1", "from 1s to 24h, not 2d"),
        ("rate(logins_refused_total, 500ms) > 1", "whole seconds"),
        ("rate(5m, logins_refused_total) > 1", "rate() is of a series"),
        ("cpu_percent > 5 minutes", "'minutes' can't stand there"),
        ("cpu_percent > 5x", "a name, a number or a word is needed, not '5x'"),
        ("cpu_percent > 80%", "'%' can't stand there"),
        ("__import__('os').system('x')", "there is no metric __import__"),
        ("cpu_percent > 80; 1", "';' can't stand there"),
        ('service_status == "down" and days_left < 3', "told apart by service, the other by certificate"),
        ("(" * 40 + "cpu_percent > 1" + ")" * 40, "nested more than 16 deep"),
        ("not " * 40 + "cpu_percent > 1", "nested more than 16 deep"),
        ("cpu_percent > 1 or " * 100 + "cpu_percent > 1", f"longer than {LENGTH_MAX:,} characters"),
        ("and > 1", "a name, a number or a word is needed, not 'and'"),
        ("cpu_percent > 1e999", "is too large"),
    ],
)
def test_what_is_no_condition_is_told_in_words(text, part):
    with pytest.raises(NoCondition) as caught:
        condition_of(text, CATALOGUE)
    assert part in str(caught.value)


PIECES = st.sampled_from(
    [
        *CATALOGUE, *"(){},<>=", "==", "!=", "and", "or", "not", "rate(", "increase(", "5m", "80", '"down"',
        '{service="bus"}', "logins_refused_total, 5m)", "cpu_percent > 80", '"', "\\", "\x00", "5mm", "1e5",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map(" ".join))
def test_any_text_is_a_condition_or_is_refused_and_a_condition_never_raises(text):
    try:
        condition = condition_of(text, CATALOGUE)
    except NoCondition:
        return
    condition.holds(SERVICES, now=NOW, began=AGES_AGO)
    condition.holds(Measured(), now=NOW, began=NOW)


def test_the_longest_condition_costs_little():
    """Promised: each second, for every rule."""
    text = " or ".join(["cpu_percent>1"] * 55)
    condition = condition_of(text, CATALOGUE)
    began = time.perf_counter()
    condition.holds(SERVICES, now=NOW, began=AGES_AGO)
    assert time.perf_counter() - began < 0.05
