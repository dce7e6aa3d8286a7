"""Topic names and filters: the standard's own examples, and covers against brute force."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mqtt.topics import covers, filter_fault, matches, name_fault, split_filter, unshared


@pytest.mark.parametrize("topic", ["a", "/", "//", "a/b", "/a", "$SYS/x", "a b/ü", "a" * 65_535, "{device}"])
def test_valid_names(topic):
    assert name_fault(topic) is None
    assert filter_fault(topic) is None


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ("", "empty"),
        ("a\0b", "U+0000"),
        ("a/+", "wildcard"),
        ("a#", "wildcard"),
        ("a" * 65_536, "65,535"),
        ("ü" * 32_768, "65,535"),
        ("a/\ud800", "UTF-8"),
    ],
)
def test_invalid_names(topic, says):
    assert says in name_fault(topic)


@pytest.mark.parametrize(
    "topic_filter", ["#", "+", "/#", "+/#", "a/+/b", "+/+", "$SYS/#", "$share/g/#", "$share/g//", "$shared/x"]
)
def test_valid_filters(topic_filter):
    assert filter_fault(topic_filter) is None


@pytest.mark.parametrize(
    ("topic_filter", "says"),
    [
        ("", "empty"),
        ("a#", "#"),
        ("a/#/b", "#"),
        ("##", "#"),
        ("#/a", "#"),
        ("a+", "+"),
        ("++", "+"),
        ("a/+b/c", "+"),
        ("+/a+", "+"),
        ("a\0", "U+0000"),
        ("$share", "no filter"),
        ("$share/", "no filter"),
        ("$share/+", "no filter"),
        ("$share//a", "group"),
        ("$share/g+/a", "group"),
        ("$share/#/a", "group"),
        ("$share/g", "no filter"),
        ("$share/g/", "no filter"),
        ("$share/g/a#", "#"),
        ("$share/g/+a", "+"),
    ],
)
def test_invalid_filters(topic_filter, says):
    assert says in filter_fault(topic_filter)


def test_unshared_takes_one_group_away():
    assert unshared("$share/g/a/+") == "a/+"
    assert unshared("$share/g/$share/h/a") == "$share/h/a"
    assert unshared("a/$share/b") == "a/$share/b"


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        # MQTT 5, 4.7.1.2 and 4.7.1.3
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("sport/#", "sports", False),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        # 4.7.2
        ("#", "$SYS/monitor", False),
        ("+/monitor", "$SYS/monitor", False),
        ("+/#", "$SYS/monitor", False),
        ("$SYS/#", "$SYS/monitor", True),
        ("$SYS/monitor/+", "$SYS/monitor/clients", True),
        ("a/+", "a/$b", True),
        ("#", "/", True),
        ("+/+/+", "//", True),
        ("a/b", "A/b", False),
    ],
)
def test_matches(topic_filter, topic, expected):
    assert matches(topic_filter, topic) is expected


@pytest.mark.parametrize(
    ("rule", "asked", "expected"),
    [
        ("a/+", "a/#", False),  # comqtt #169
        ("a/+/#", "a/#", False),
        ("a/#", "a/+", True),
        ("a/#", "a", True),
        ("a/#", "a/+/#", True),
        ("#", "+/#", True),
        ("+/#", "#", True),
        ("+/#", "+", True),
        ("+", "#", False),
        ("#", "$SYS/#", False),
        ("+/#", "$SYS", False),
        ("$SYS/#", "$SYS/+", True),
        ("a/$b", "a/+", False),
        ("a/+", "a/$b", True),
        ("ab/#", "a/#", False),
        ("/+/#", "/#", True),
    ],
)
def test_covers(rule, asked, expected):
    assert covers(rule, asked) is expected


def test_covers_is_brute_force_over_a_small_alphabet():
    """All filters and topics of up to three levels over {a, $, empty}, `b` standing for every other name."""
    topics = ["/".join(levels) for n in (1, 2, 3, 4) for levels in product(("a", "$", "", "b"), repeat=n)]
    topics = [topic for topic in topics if topic]
    filters = [
        "/".join((*levels, *tail))
        for n in (0, 1, 2, 3)
        for levels in product(("a", "$", "", "+"), repeat=n)
        for tail in ((), ("#",))
    ]
    filters = [topic_filter for topic_filter in filters if topic_filter]
    matched = {f: frozenset(t for t in topics if matches(f, t)) for f in filters}
    for rule, asked in product(filters, filters):
        assert covers(rule, asked) is (matched[asked] <= matched[rule]), (rule, asked)


def _reference_match(topic_filter: list[str], topic: list[str]) -> bool:
    """The standard's words, recursive and slow."""
    if not topic_filter:
        return not topic
    if topic_filter[0] == "#":
        return True
    return (
        bool(topic) and topic_filter[0] in ("+", topic[0]) and _reference_match(topic_filter[1:], topic[1:])
    )


_level = st.sampled_from(["a", "b", "$", "$a", "", "+"])
_filters = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(_level, max_size=5),
    st.sampled_from([[], ["#"]]),
).filter(bool)
_names = (
    st.lists(st.sampled_from(["a", "b", "$", "$a", ""]), min_size=1, max_size=6).map("/".join).filter(bool)
)


@given(_filters, _names)
def test_matches_is_what_the_standard_says(topic_filter, topic):
    expected = _reference_match(topic_filter.split("/"), topic.split("/"))
    if topic.startswith("$") and topic_filter[0] in "+#":
        expected = False
    assert matches(topic_filter, topic) is expected


@given(_filters, _filters, _names)
def test_what_a_covered_filter_matches_is_matched(rule, asked, topic):
    if covers(rule, asked) and matches(asked, topic):
        assert matches(rule, topic)


@given(st.text(alphabet="a/+#$\0\ud800", max_size=8))
@settings(max_examples=500)
def test_validity_is_what_the_standard_says(text):
    plain = bool(text) and "\0" not in text and "\ud800" not in text
    assert (name_fault(text) is None) is (plain and not set("+#") & set(text))
    levels = text.split("/")
    whole = all(not set("+#") & set(level) or level in ("+", "#") for level in levels)
    assert (filter_fault(text) is None) is (plain and whole and "#" not in levels[:-1])


@given(st.text(max_size=20))
def test_a_valid_name_is_a_filter_that_matches_itself(text):
    if name_fault(text) is None and not text.startswith("$share"):
        assert filter_fault(text) is None
        assert matches(text, text)
        assert covers(text, text)


def test_hostile_filters_end_quickly_and_without_recursion():
    """CVE-2019-11779, GHSA-2hjf-7455-w946."""
    deep = "/" * 65_535
    wild = "/".join(["+"] * 32_767) + "/#"
    assert filter_fault(deep) is None
    assert filter_fault(wild) is None
    assert matches(wild, "a" + "/a" * 32_766)
    assert covers(wild, wild)
    assert not covers("a/+/b", wild)
    assert covers("#", deep)


def test_split_filter_keeps_the_rest_in_one_piece():
    assert split_filter("a/b/c/#", 1) == (["a", "b/c"], True)
    assert split_filter("/#") == (["", "+"], True)
    assert split_filter("#") == (["+"], True)
