"""Lists in which the first match decides, against what comes of them, for all topics of a small alphabet."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.topics import matches
from gateway.policy.imports.first_match import allowed_by_both, without_order
from gateway.policy.imports.intermediate_model import AccessLine

TOPICS = ["/".join(levels) for size in (1, 2, 3, 4) for levels in itertools.product("abc", repeat=size)]
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(st.sampled_from(["a", "b", "+", "{client}"]), min_size=1, max_size=3),
    st.sampled_from([(), ("#",)]),
)
LISTS = st.lists(st.tuples(st.booleans(), FILTERS), max_size=8)
CLIENTS = st.sampled_from(["a", "b", "c"])


def access_list(*lines):
    """`(allow, filter)`; the place is the number of the line."""
    return [
        AccessLine(allow=allow, as_matched=topic, topic=topic, location=str(number))
        for number, (allow, topic) in enumerate(lines, start=1)
    ]


def hit(filters, topic, client):
    return any(matches(one.replace("{client}", client), topic) for one in filters)


def there(lines, topic, client):
    return next((allow for allow, one in lines if hit([one], topic, client)), False)


def here(unordered, topic, client):
    return hit(unordered.allows, topic, client) and not hit(unordered.denies, topic, client)


def lost(unordered, topic, client):
    return hit([loss.topics for loss in unordered.losses], topic, client)


@given(LISTS, CLIENTS)
def test_it_means_the_same_or_less_and_says_where(lines, client):
    unordered = without_order(access_list(*lines))
    for topic in TOPICS:
        if here(unordered, topic, client) != there(lines, topic, client):
            assert there(lines, topic, client), "it never gives more"
            assert lost(unordered, topic, client), topic


@given(LISTS, LISTS, CLIENTS)
def test_two_lists_that_both_have_to_allow(one, other, client):
    unordered = allowed_by_both(without_order(access_list(*one)), without_order(access_list(*other)))
    for topic in TOPICS:
        expected = there(one, topic, client) and there(other, topic, client)
        if here(unordered, topic, client) != expected:
            assert expected, "it never gives more"
            assert lost(unordered, topic, client), topic


@pytest.mark.parametrize(
    ("one", "other"), [("a/{client}", "a/b"), ("a/b", "a/{client}"), ("{client}", "{device}")]
)
def test_a_placeholder_and_a_word_that_both_have_to_allow_allow_nothing(one, other):
    """Whether they are the same shows only later, and no rule can ask for it."""
    unordered = allowed_by_both(
        without_order(access_list((True, one))), without_order(access_list((True, other)))
    )
    assert unordered.allows == {}
    assert [(loss.topics, loss.allow_location, loss.deny_location) for loss in unordered.losses] == [
        (one, "1", "1")
    ]
    same = allowed_by_both(
        without_order(access_list((True, "+/{client}"))), without_order(access_list((True, "a/{client}/#")))
    )
    assert list(same.allows) == ["a/{client}"]


def test_denies_on_top_stay_as_they_are():
    unordered = without_order(access_list((False, "a/b"), (False, "c"), (True, "a/#"), (True, "b")))
    assert list(unordered.denies) == ["a/b", "c"]
    assert list(unordered.allows) == ["a/#", "b"]
    assert unordered.losses == []


def test_a_deny_below_that_touches_nothing_stays_too():
    unordered = without_order(access_list((True, "a"), (False, "b/#"), (True, "#")))
    assert (list(unordered.allows), list(unordered.denies)) == (["a", "#"], ["b/#"])


def test_a_deny_of_what_is_allowed_above_is_gone():
    unordered = without_order(access_list((True, "a/#"), (False, "a/b"), (True, "+/b")))
    assert (list(unordered.allows), list(unordered.denies), unordered.losses) == (["a/#", "+/b"], [], [])


def test_an_allow_below_is_cut_down_rather_than_denied():
    unordered = without_order(access_list((True, "a/b"), (False, "a/+"), (True, "a/#")))
    assert (list(unordered.allows), list(unordered.denies)) == (["a/b", "a", "a/+/+/#"], [])


def test_a_deny_is_cut_down_to_what_it_takes():
    unordered = without_order(access_list((True, "a/+"), (False, "+/#"), (True, "a/+/c"), (True, "b/c")))
    assert (list(unordered.allows), list(unordered.denies)) == (["a/+"], [])
    unordered = without_order(access_list((True, "a/b"), (False, "+/b"), (True, "a/#"), (True, "c/+")))
    assert list(unordered.denies) == ["c/b"]
    assert unordered.losses == []


def test_a_loss_names_both_lines():
    unordered = without_order(access_list((True, "a/+/c"), (False, "a/b/#"), (True, "a/#")))
    assert list(unordered.denies) == ["a/b/#"]
    assert [(loss.topics, loss.allow_location, loss.deny_location) for loss in unordered.losses] == [
        ("a/b/c", "1", "2")
    ]


def test_a_client_id_may_be_any_word():
    unordered = without_order(access_list((True, "a/b"), (False, "a/{client}"), (True, "a/#")))
    assert list(unordered.denies) == ["a/{client}"]
    assert [loss.topics for loss in unordered.losses] == ["a/{client}"]


def test_what_no_rule_can_say_is_passed_over():
    unsaid = AccessLine(allow=False, as_matched="a", topic=None, location="1")
    assert list(without_order([unsaid, *access_list((True, "#"))]).allows) == ["#"]
