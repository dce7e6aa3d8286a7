"""The recorder: counts by template, within bounds, and loses nothing but by saying so."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from gateway.policy.engine import decision_recorder
from gateway.policy.engine.decision_recorder import UsageRecorder
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import RESERVED, SERVICE, Action, Decision
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord

LAMP = Identity("lamp-1", ("r",), {"room": ("kitchen",)}, "c")
YES = Decision(allowed=True, reason="", rule=None)
NO = Decision(allowed=False, reason="", rule=None)
PUBLISH, SUBSCRIBE = Action.PUBLISH, Action.SUBSCRIBE
ALLOWED, OBSERVED, REFUSED = Passage


def taken(one, most=1_000):
    return {(o.device_id, o.action, o.template, o.passage): o.count for o in one.take(most, 7)}


def test_what_was_decided_is_counted_by_device_action_template_and_answer():
    here = UsageRecorder()
    here.record(LAMP, PUBLISH, "a/lamp-1", YES)
    here.record(LAMP, PUBLISH, "a/lamp-1", YES)
    here.record(LAMP, PUBLISH, "a/lamp-1", NO)
    here.record(LAMP, SUBSCRIBE, "a/lamp-1", YES)
    here.record(replace(LAMP, device_id="lamp-2"), PUBLISH, "a/lamp-1", YES)
    assert taken(here) == {
        ("lamp-1", PUBLISH, "a/{device}", ALLOWED): 2,
        ("lamp-1", PUBLISH, "a/{device}", REFUSED): 1,
        ("lamp-1", SUBSCRIBE, "a/{device}", ALLOWED): 1,
        ("lamp-2", PUBLISH, "a/lamp-1", ALLOWED): 1,
    }
    assert taken(here) == {}


def test_the_time_is_that_of_the_taking():
    here = UsageRecorder()
    here.record(LAMP, PUBLISH, "a", YES)
    assert here.take(1, 99) == [UsageRecord("lamp-1", PUBLISH, "a", ALLOWED, 1, 99, 99)]


@pytest.mark.parametrize("decision", [RESERVED, SERVICE])
def test_the_gateway_s_own_topics_are_nobody_s_rights(decision):
    here = UsageRecorder()
    here.record(LAMP, PUBLISH, "gateway/auth", decision)
    assert taken(here) == {}


def test_a_device_that_never_runs_out_of_new_topics_does_not_keep_others_waiting():
    """Kind: who comes first is served until nothing of it is left, and there is always more."""
    here = UsageRecorder()
    loud, quiet = (replace(LAMP, device_id=name) for name in ("loud", "quiet"))
    for number in range(100):
        here.record(loud, PUBLISH, f"a/{number}", NO)
    here.record(quiet, PUBLISH, "b", YES)
    first = here.take(40, 1)
    assert [one.device_id for one in first].count("quiet") == 1
    assert len(first) == 40
    assert len(here.take(1_000, 1)) == 61


def test_what_could_not_be_saved_is_added_to_what_came_since():
    here = UsageRecorder()
    here.record(LAMP, PUBLISH, "a", YES)
    unsaved = here.take(1, 1)
    here.record(LAMP, PUBLISH, "a", YES)
    here.put_back(unsaved)
    assert taken(here) == {("lamp-1", PUBLISH, "a", ALLOWED): 2}


def test_who_waits_longest_is_taken_first():
    here = UsageRecorder()
    for number in range(5):
        here.record(replace(LAMP, device_id=f"d{number}"), PUBLISH, "a", YES)
    assert [one.device_id for one in here.take(2, 1)] == ["d0", "d1"]
    here.record(replace(LAMP, device_id="d0"), PUBLISH, "a", YES)
    assert [one.device_id for one in here.take(9, 1)] == ["d2", "d3", "d4", "d0"]


def test_one_device_has_room_for_so_many_and_the_rest_is_counted(monkeypatch):
    monkeypatch.setattr(decision_recorder, "_RECORDS_PER_DEVICE_MAX", 3)
    here = UsageRecorder()
    for _ in range(2):
        for number in range(5):
            here.record(LAMP, PUBLISH, f"a/{number}", YES)
    here.record(LAMP, SUBSCRIBE, "a", NO)
    here.record(replace(LAMP, device_id="other"), PUBLISH, "b", YES)
    assert taken(here) == {
        **{("lamp-1", PUBLISH, f"a/{number}", ALLOWED): 2 for number in range(3)},
        ("lamp-1", PUBLISH, OVERFLOW, ALLOWED): 4,
        ("lamp-1", SUBSCRIBE, OVERFLOW, REFUSED): 1,
        ("other", PUBLISH, "b", ALLOWED): 1,
    }


def test_there_is_room_for_so_many_in_all_and_it_comes_back(monkeypatch):
    monkeypatch.setattr(decision_recorder, "_RECORDS_MAX", 3)
    monkeypatch.setattr(decision_recorder, "_RECORDS_PER_DEVICE_ALWAYS", 0)
    here = UsageRecorder()

    def note():
        for number in range(5):
            here.record(replace(LAMP, device_id=f"d{number}"), PUBLISH, "a", YES)

    note()
    first = taken(here)
    assert [template for _, _, template, _ in first] == ["a", "a", "a", OVERFLOW, OVERFLOW]
    note()
    assert taken(here) == first


def test_three_hundred_decoys_leave_room_for_what_was_meant():
    here = UsageRecorder()
    for number in range(300):
        here.record(LAMP, PUBLISH, f"decoy/{number}", NO)
    here.record(LAMP, PUBLISH, "locks/front", NO)
    assert ("lamp-1", PUBLISH, "locks/front", REFUSED) in taken(here)


def test_a_device_that_fills_it_leaves_room_for_the_first_of_each_other(monkeypatch):
    monkeypatch.setattr(decision_recorder, "_RECORDS_MAX", 10)
    here = UsageRecorder()
    for number in range(20):
        here.record(LAMP, PUBLISH, f"decoy/{number}", NO)
    for topic in "abcde":
        here.record(replace(LAMP, device_id="other"), PUBLISH, topic, NO)
    found = [template for device, _, template, _ in taken(here) if device == "other"]
    assert found == [*"abcd", OVERFLOW]


def test_so_much_is_taken_at_once_and_not_more():
    here = UsageRecorder()
    for number in range(7):
        here.record(LAMP, PUBLISH, str(number), NO)
    assert [[one.template for one in here.take(3, 1)] for _ in range(4)] == [
        ["0", "1", "2"],
        ["3", "4", "5"],
        ["6"],
        [],
    ]


@pytest.mark.parametrize("topic", ["x" * 513, "/" * 16, "é" * 513])
def test_a_topic_without_end_is_counted_and_not_kept(topic):
    here = UsageRecorder()
    here.record(LAMP, PUBLISH, topic, NO)
    assert taken(here) == {("lamp-1", PUBLISH, OVERFLOW, REFUSED): 1}


def test_what_waits_of_a_removed_device_is_dropped_and_takes_no_room(monkeypatch):
    monkeypatch.setattr(decision_recorder, "_RECORDS_MAX", 8)
    here, other = UsageRecorder(), replace(LAMP, device_id="lamp-2")
    for number in range(8):
        here.record(LAMP, PUBLISH, f"a/{number}", YES)
    here.forget("lamp-1")
    here.forget("lamp-9")
    for number in range(8):
        here.record(other, PUBLISH, f"a/{number}", YES)
    assert taken(here) == {("lamp-2", PUBLISH, f"a/{number}", ALLOWED): 1 for number in range(8)}


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("topic", ["a+b", "-", "+{device}", "日本/😀", ""])
def test_what_is_taken_is_what_was_put_back(action, topic):
    here = UsageRecorder()
    seen = [UsageRecord("lamp-1", action, topic, passage, 3, 7, 7) for passage in Passage]
    here.put_back(seen)
    assert here.take(9, 7) == seen


def test_a_label_that_makes_a_topic_longer_makes_none_without_end():
    here = UsageRecorder()
    named = replace(LAMP, labels={"a" * 32: ("k",)})
    here.record(named, PUBLISH, "/".join("k" * 12), YES)
    here.record(named, PUBLISH, "/".join("k" * 13), YES)
    assert taken(here) == {
        ("lamp-1", PUBLISH, "/".join([f"{{label.{'a' * 32}}}"] * 12), ALLOWED): 1,
        ("lamp-1", PUBLISH, OVERFLOW, ALLOWED): 1,
    }


@pytest.mark.parametrize(
    ("devices", "topics", "end"),
    [(200, 256, "k/" * 10 + "😀" * 20), (50_100, 1, "x" * 490)],
    ids=["labels", "devices"],
)
def test_all_that_waits_takes_as_much_memory_as_is_said(devices, topics, end):
    named = replace(LAMP, labels={"a" * 32: ("k",)})
    identities = [replace(named, device_id=f"device-{number}") for number in range(devices)]
    texts = [f"{number:03}/{end}" for number in range(topics)]
    tracemalloc.start()
    try:
        here = UsageRecorder()
        for identity in identities:
            for text in texts:
                here.record(identity, PUBLISH, text, YES)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(1 for one in here.take(60_000, 1) if one.template != OVERFLOW) >= 50_000
    assert used < 45_000_000


def test_what_passed_although_it_was_refused_is_counted_apart():
    here = UsageRecorder()
    here.record(LAMP, PUBLISH, "a/lamp-1", NO, observed=True)
    here.record(LAMP, PUBLISH, "a/lamp-1", NO)
    here.record(LAMP, PUBLISH, "a/lamp-1", YES)
    assert taken(here) == {("lamp-1", PUBLISH, "a/{device}", passage): 1 for passage in Passage}
