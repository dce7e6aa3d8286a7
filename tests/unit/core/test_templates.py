"""Templates: a device's own names go, all else stays, and only what varies becomes `+`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.identity import Identity
from gateway.core.policy import Action, Effect, Rule
from gateway.core.rules import template_fault
from gateway.core.templates import filter_of, generalised, is_marked, template_of, topic_of
from gateway.mqtt.topics import covers

LAMP = Identity("lamp-1", ("r",), {"room": "kitchen", "floor": "2"}, "client-7")
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
    assert topic_of(template, LAMP) == topic


def test_the_client_id_is_replaced_only_where_a_rule_says_so():
    """A device chooses it: `building/{client}` from a client called `locks` would be any `building/+`."""
    locks = Identity("lamp-1", ("r",), {}, "locks")
    assert template_of("building/locks", locks, [grant("building/#")]) == "building/locks"
    assert template_of("building/locks", locks, [grant("{client}/locks")]) == "building/locks"
    assert template_of("building/locks", locks, [grant("building/{client}")]) == "building/{client}"
    assert template_of("building/locks", locks, [grant("building/locks/{client}/#")]) == "building/locks"
    assert template_of("building/front", locks, [grant("building/{client}")]) == "building/front"


def test_a_name_that_means_two_things_is_the_device_then_the_first_label():
    one = Identity("x", ("r",), {"b": "y", "a": "y", "c": "x"}, "c")
    assert template_of("x/y", one) == "{device}/{label.a}"


def test_a_template_that_this_device_has_no_value_for_is_no_topic():
    assert topic_of("a/{label.wing}", LAMP) is None


@given(FILTERS, st.lists(FILTERS.map(grant), max_size=2))
def test_a_template_says_what_the_topic_was(topic, grants):
    template = template_of(topic, LAMP, grants)
    found = topic_of(template, LAMP)
    assert found == topic
    written = not any(is_marked(level) for level in template.split("/"))
    assert (template_fault(template) is None) is written


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
    lamp = Identity("lamp-1", (), {"room": "{x}"}, "c")
    assert filter_of("{device}/{label.room}/{label.gone}/+{b}/+/#", lamp) == "lamp-1/{x}/+/{b}/+/#"
