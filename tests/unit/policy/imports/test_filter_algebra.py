"""What filters have in common and leave of each other, against all topics of a small alphabet."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.topics import filter_fault, matches
from gateway.policy.imports.filter_algebra import difference, intersection

WORDS = ("a", "b", "$x", "")
TOPICS = [
    "/".join(levels)
    for size in range(1, 6)
    for levels in itertools.product(WORDS, repeat=size)
    if levels != ("",) and "$x" not in levels[1:]
]
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(st.sampled_from(["a", "b", "+", "+", "$x", ""]), max_size=3),
    st.sampled_from([(), ("#",)]),
).filter(lambda text: filter_fault(text) is None)


def those(topic_filter):
    return {topic for topic in TOPICS if matches(topic_filter, topic)}


@given(FILTERS, FILTERS)
def test_they_meet_where_both_match(one, other):
    found = intersection(one, other)
    assert (those(found) if found else set()) == those(one) & those(other)


@given(FILTERS, FILTERS)
def test_what_is_left_is_what_only_the_first_matches(one, other):
    left = difference(one, other)
    if left is not None:
        assert set().union(*map(those, left)) == those(one) - those(other)


@pytest.mark.parametrize(
    ("one", "other", "left"),
    [
        ("a/#", "a/+", ["a", "a/+/+/#"]),
        ("a/#", "a/+/#", ["a"]),
        ("a/#", "a/#", []),
        ("a/b", "a/+", []),
        ("#", "+", ["+/+/#"]),
        ("$x/#", "#", ["$x/#"]),
        ("a/+", "a/b", None),
        ("a/#", "a/b/#", None),
        ("a/#", "a" + "/+" * 9, None),
        ("a/{device}", "a/+", []),
        ("a/{device}", "a/{device}", []),
        ("a/{device}", "a/{client}", None),
        ("a/b", "a/{client}", None),
        ("{device}/#", "$x/#", ["{device}/#"]),
    ],
)
def test_what_is_left(one, other, left):
    assert difference(one, other) == left


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("a/{client}/#", "a/b/+", "a/{client}/+"),
        ("a/b", "a/{client}", "a/b"),
        ("+/{device}", "{client}/+", "{client}/{device}"),
        ("{client}", "$x", None),
        ("{client}/b", "a/c", None),
    ],
)
def test_a_placeholder_may_be_any_word(one, other, both):
    assert intersection(one, other) == both
