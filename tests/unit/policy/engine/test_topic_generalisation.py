"""Templates: a device's own names go, all else stays, and only what varies becomes `+`."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.topics import covers
from gateway.policy.engine import topic_generalisation
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.placeholders import rule_topic_fault
from gateway.policy.engine.policy import Action, Effect, Rule
from gateway.policy.engine.topic_generalisation import (
    EffortLeft,
    filter_of,
    generalised,
    is_escaped,
    template_of,
    topics_of,
)

LAMP = Identity("lamp-1", ("r",), {"room": ("kitchen",), "floor": ("2",)}, "client-7")
LEVELS = ("lamp-1", "kitchen", "2", "client-7", "{device}", "{client}", "{label.room}", "a{b", "", "$x", "x")
TOPICS = st.lists(st.sampled_from(LEVELS), min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.one_of(
    TOPICS,
    st.lists(st.sampled_from([*LEVELS, "+"]), min_size=1, max_size=4).map("/".join).filter(bool),
    TOPICS.map("{}/#".format),
    st.just("#"),
)


def grant(topic):
    return Rule(Effect.ALLOW, frozenset({Action.PUBLISH}), topic)


@pytest.mark.parametrize(
    ("topic", "template"),
    [
        ("devices/lamp-1/state", "devices/{device}/state"),
        ("rooms/kitchen/2/lamp-1/#", "rooms/{label.room}/{label.floor}/{device}/#"),
        ("lamp-1", "{device}"),
        ("a/lamp-10/xlamp-1", "a/lamp-10/xlamp-1"),
        ("a//+/#", "a//+/#"),
        ("a/client-7", "a/client-7"),
        ("a/{device}/lamp-1", "a/+{device}/{device}"),
        ("a{b/}", "+a{b/+}"),
    ],
)
def test_whole_levels_that_are_the_device_s_own_are_replaced(topic, template):
    assert template_of(topic, LAMP) == template
    assert topics_of(template, LAMP) == [topic]


def test_the_client_id_is_replaced_only_where_a_rule_says_so():
    """A device chooses it: `building/{client}` from a client called `locks` would be any `building/+`."""
    locks = Identity("lamp-1", ("r",), {}, "locks")
    assert template_of("building/locks", locks, [grant("building/#")]) == "building/locks"
    assert template_of("building/locks", locks, [grant("{client}/locks")]) == "building/locks"
    assert template_of("building/locks", locks, [grant("building/{client}")]) == "building/{client}"
    assert template_of("building/locks", locks, [grant("building/locks/{client}/#")]) == "building/locks"
    assert template_of("building/front", locks, [grant("building/{client}")]) == "building/front"


def test_a_name_that_means_two_things_is_the_device_then_the_first_label():
    one = Identity("x", ("r",), {"b": ("y",), "a": ("y",), "c": ("x",)}, "c")
    assert template_of("x/y", one) == "{device}/{label.a}"


def test_a_template_that_this_device_has_no_value_for_is_no_topic():
    assert topics_of("a/{label.wing}", LAMP) == []


BOTH = Identity("lamp-1", ("r",), {"room": ("kitchen", "hall"), "floor": ("2",)}, "client-7")


def test_a_label_with_several_values_stands_for_one_of_them_in_a_template():
    assert template_of("rooms/hall/2", BOTH) == "rooms/{label.room}/{label.floor}"
    assert topics_of("rooms/{label.room}", BOTH) == ["rooms/kitchen", "rooms/hall"]
    # From one room to the other: the second is a word, or the template would mean what was not said.
    assert template_of("from/hall/to/kitchen/hall", BOTH) == "from/{label.room}/to/kitchen/{label.room}"
    assert filter_of("rooms/{label.room}/{label.floor}/x", BOTH) == "rooms/+/2/x"


@given(
    st.lists(st.sampled_from(["kitchen", "hall", "2", "x", "lamp-1"]), min_size=1, max_size=4).map("/".join)
)
def test_a_template_of_several_values_means_the_topic_too(topic):
    assert topic in topics_of(template_of(topic, BOTH), BOTH)


@given(FILTERS, st.lists(FILTERS.map(grant), max_size=2))
def test_a_template_says_what_the_topic_was(topic, grants):
    template = template_of(topic, LAMP, grants)
    assert topics_of(template, LAMP) == [topic]
    written = not any(is_escaped(level) for level in template.split("/"))
    assert (rule_topic_fault(template) is None) is written


def test_three_values_make_a_plus_and_two_do_not():
    two = ["jobs/1/done", "jobs/2/done", "a", "b"]
    assert generalised(two) == {one: one for one in two}
    three = [*two, "jobs/3/done", "jobs/3/failed"]
    assert generalised(three) == {
        "jobs/1/done": "jobs/+/done",
        "jobs/2/done": "jobs/+/done",
        "jobs/3/done": "jobs/+/done",
        "jobs/3/failed": "jobs/3/failed",
        "a": "a",
        "b": "b",
    }


def test_all_other_levels_have_to_be_equal():
    apart = ["a/1/x", "a/2/y", "a/3/z", "b/4/x", "a/5/x/#", "a/6/x/y"]
    assert generalised(apart) == {one: one for one in apart}


def test_what_is_there_as_plus_takes_in_more():
    assert set(generalised(["jobs/+/done", "jobs/4/done"]).values()) == {"jobs/+/done"}


def test_filters_vary_like_topics():
    assert set(generalised(["a/1/#", "a/2/#", "a/3/#"]).values()) == {"a/+/#"}


@pytest.mark.parametrize(
    "three",
    [
        ["a/{device}", "a/1", "a/2"],
        ["a/{device}", "a/{label.x}", "a/{client}"],
        ["$a/x", "$b/x", "$c/x"],
        ["a/+", "a/#", "a/{device}"],
    ],
)
def test_placeholders_wildcards_and_dollars_are_no_values(three):
    assert generalised(three) == {one: one for one in three}


def test_a_plus_that_would_take_in_what_was_refused_is_not_made():
    seen = ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"]
    found = generalised(seen, ["a/secret"])
    assert {found[one] for one in seen[:3]} == {"a/1", "a/2", "a/3"}
    assert {found[one] for one in seen[3:]} == {"b/+"}
    # Refused once and allowed another time is no reason to keep it apart.
    assert set(generalised(seen[:3], ["a/2"]).values()) == {"a/+"}


def test_several_levels_vary():
    grid = [f"a/{x}/b/{y}" for x in range(3) for y in range(3)]
    assert set(generalised(grid).values()) == {"a/+/b/+"}
    # One level at a time, the one with the most values first.
    words = [f"jobs/{job}/{word}" for job in range(9) for word in ("start", "done")]
    assert set(generalised(words).values()) == {"jobs/+/start", "jobs/+/done"}


def test_the_level_with_the_most_values_becomes_a_plus_first():
    seen = ["a/1/x", "a/2/x", "a/3/x", "a/4/x", "a/1/y", "a/1/z"]
    assert set(generalised(seen).values()) == {"a/+/x", "a/1/y", "a/1/z"}
    seen = ["x/1/a", "x/2/a", "x/3/a", "x/4/a", "y/1/a", "z/1/a"]
    assert set(generalised(seen).values()) == {"x/+/a", "y/1/a", "z/1/a"}
    seen = ["1/x", "1/y", "1/z", "1/w", "2/x", "3/x"]
    assert set(generalised(seen).values()) == {"1/+", "2/x", "3/x"}


@given(st.lists(FILTERS, max_size=12, unique=True), st.lists(FILTERS, max_size=4))
def test_nothing_is_lost_and_nothing_refused_is_won(seen, refused):
    seen = [template_of(one, LAMP) for one in seen]
    refused = [template_of(one, LAMP) for one in refused]
    found = generalised(seen, refused)
    assert found.keys() == set(seen)
    for old, new in found.items():
        if "#" not in old[:-1]:
            assert covers(new, old)
        if new != old:
            assert not any(covers(new, one) for one in refused if one not in seen)
            assert len({one for one in seen if covers(new, one)}) >= 2


def test_a_filter_of_what_a_template_may_have_meant():
    lamp = Identity("lamp-1", (), {"room": ("{x}",)}, "c")
    assert filter_of("{device}/{label.room}/{label.gone}/+{b}/+/#", lamp) == "lamp-1/{x}/+/{b}/+/#"


CUBE = ["/".join((*levels, *"tttttttttt")) for levels in product("abc", repeat=6)]
"""Topics of whoever wants to cost time: each of six levels varies, in each of the places of the others."""


class Counted(EffortLeft):
    """Counts the comparisons and the levels that are looked at while there is time."""

    def __init__(self, units: int) -> None:
        super().__init__(units)
        self.units = 0

    def take(self, units: int) -> bool:
        taken = super().take(units)
        self.units += units if taken else 0
        return taken


@pytest.mark.parametrize("units", [0, 1, 1_000, 10_000, 20_000])
def test_whoever_names_topics_gets_so_much_work_and_no_more(monkeypatch, units):
    refused = [f"{'x/' * 15}{number}" for number in range(400)]
    compared = []

    def counted(wide: str, one: str) -> bool:
        compared.append(one)
        return covers(wide, one)

    monkeypatch.setattr(topic_generalisation, "covers", counted)
    effort = Counted(units)
    found = generalised(CUBE, refused, effort=effort)
    assert len(compared) <= effort.units <= max(units - 1, 0)
    # What it comes to is right as far as it goes.
    assert found.keys() == set(CUBE)
    assert all(covers(wide, source) for source, wide in found.items())


def test_with_time_enough_the_work_is_done():
    effort = EffortLeft(60_000)
    assert set(generalised(CUBE, effort=effort).values()) == {"+/+/+/+/+/+/t/t/t/t/t/t/t/t/t/t"}
    assert effort.left > 0


def test_without_time_nothing_is_made_wider_and_nothing_refused_is_taken_in():
    three = ["a/1", "a/2", "a/3"]
    assert generalised(three, effort=EffortLeft(0)) == {one: one for one in three}
    for units in range(60):
        found = generalised([*three, "b/1", "b/2", "b/3"], ["b/x"], effort=EffortLeft(units))
        assert not any(covers(wide, "b/x") for wide in found.values())


@pytest.mark.parametrize(
    ("seen", "refused"),
    [
        ([f"devices/{{device}}/sensor/{one}/value" for one in range(1_256)], []),
        (
            [f"site/{a}/room/{b}/t/{c}" for a, b, c in product(range(10), range(25), "abcde")],
            ["site/3/room/9/t/x", *(f"other/{one}" for one in range(300))],
        ),
        (
            [f"{{device}}/{a}/{b}/{c}/{d}/state" for a, b, c, d in product(*[range(5)] * 4)],
            ["{device}/x"] * 9,
        ),
    ],
)
def test_a_device_that_does_its_work_takes_a_part_of_it(seen, refused):
    effort = Counted(60_000)
    assert generalised(seen, refused, effort=effort) == generalised(seen, refused)
    assert effort.units < 30_000
