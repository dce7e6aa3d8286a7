"""Lists in which the first match decides, against what comes of them, for all topics of a small alphabet."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mqtt.topics import matches
from gateway.policy.imports.first_match import both, settle
from gateway.policy.imports.source import Step

TOPICS = ["/".join(levels) for size in (1, 2, 3, 4) for levels in itertools.product("abc", repeat=size)]
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=3),
    st.sampled_from([(), ("#",)]),
)
LISTS = st.lists(st.tuples(st.booleans(), FILTERS), max_size=8)


def steps(*lines):
    """`(allow, filter)`; the place is the number of the line."""
    return [
        Step(allow=allow, there=topic, topic=topic, place=str(number))
        for number, (allow, topic) in enumerate(lines, start=1)
    ]


def there(lines, topic):
    return next((allow for allow, one in lines if matches(one, topic)), False)


def here(settled, topic):
    def hit(topics):
        return any(matches(one, topic) for one in topics)

    return hit(settled.allows) and not hit(settled.denies)


def lost(settled, topic):
    return any(matches(loss.topics, topic) for loss in settled.losses)


@settings(deadline=None)
@given(LISTS)
def test_it_means_the_same_or_less_and_says_where(lines):
    settled = settle(steps(*lines))
    for topic in TOPICS:
        if here(settled, topic) != there(lines, topic):
            assert there(lines, topic), "it never gives more"
            assert lost(settled, topic), topic


@settings(deadline=None)
@given(LISTS, LISTS)
def test_two_lists_that_both_have_to_allow(one, other):
    settled = both(settle(steps(*one)), settle(steps(*other)))
    for topic in TOPICS:
        expected = there(one, topic) and there(other, topic)
        if here(settled, topic) != expected:
            assert expected, "it never gives more"
            assert lost(settled, topic), topic


def test_denies_on_top_stay_as_they_are():
    settled = settle(steps((False, "a/b"), (False, "c"), (True, "a/#"), (True, "b")))
    assert list(settled.denies) == ["a/b", "c"]
    assert list(settled.allows) == ["a/#", "b"]
    assert settled.losses == []


def test_a_deny_below_that_touches_nothing_stays_too():
    settled = settle(steps((True, "a"), (False, "b/#"), (True, "#")))
    assert (list(settled.allows), list(settled.denies)) == (["a", "#"], ["b/#"])


def test_a_deny_of_what_is_allowed_above_is_gone():
    settled = settle(steps((True, "a/#"), (False, "a/b"), (True, "+/b")))
    assert (list(settled.allows), list(settled.denies), settled.losses) == (["a/#", "+/b"], [], [])


def test_an_allow_below_is_cut_down_rather_than_denied():
    settled = settle(steps((True, "a/b"), (False, "a/+"), (True, "a/#")))
    assert (list(settled.allows), list(settled.denies)) == (["a/b", "a", "a/+/+/#"], [])


def test_a_deny_is_cut_down_to_what_it_takes():
    settled = settle(steps((True, "a/+"), (False, "+/#"), (True, "a/+/c"), (True, "b/c")))
    assert (list(settled.allows), list(settled.denies)) == (["a/+"], [])
    settled = settle(steps((True, "a/b"), (False, "+/b"), (True, "a/#"), (True, "c/+")))
    assert list(settled.denies) == ["c/b"]
    assert settled.losses == []


def test_a_loss_names_both_lines():
    settled = settle(steps((True, "a/+/c"), (False, "a/b/#"), (True, "a/#")))
    assert list(settled.denies) == ["a/b/#"]
    assert [(loss.topics, loss.allow, loss.deny) for loss in settled.losses] == [("a/b/c", "1", "2")]


def test_a_client_id_may_be_any_word():
    settled = settle(steps((True, "a/b"), (False, "a/{client}"), (True, "a/#")))
    assert list(settled.denies) == ["a/{client}"]
    assert [loss.topics for loss in settled.losses] == ["a/{client}"]


def test_what_no_rule_can_say_is_passed_over():
    unsaid = Step(allow=False, there="a", topic=None, place="1")
    assert list(settle([unsaid, *steps((True, "#"))]).allows) == ["#"]
