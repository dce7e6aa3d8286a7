"""What a token carries, and what it takes away: never more than the policy allows now."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.topics import filter_fault, intersection, matches
from gateway.policy.engine.identity import Grant, Identity
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule

LAMP = Identity("lamp-1", ("r",), {"room": ("kitchen",)}, "c")
LEVELS = ("a", "b", "", "$x")
TOPICS = ["/".join(levels) for n in (1, 2, 3) for levels in product(LEVELS, repeat=n) if "/".join(levels)]
FILTERS = st.lists(st.sampled_from([*LEVELS, "+", "{client}", "{device}"]), min_size=1, max_size=3).map(
    "/".join
)
OPEN_FILTERS = st.one_of(FILTERS, FILTERS.map("{}/#".format), st.just("#")).filter(bool)
PLAIN_FILTERS = OPEN_FILTERS.filter(lambda one: "{" not in one)
RULES = st.lists(
    st.tuples(st.sampled_from(Effect), st.sets(st.sampled_from(Action), min_size=1), OPEN_FILTERS), max_size=6
)


def policy(*rules):
    made = [Rule(effect, frozenset(actions), topic) for effect, actions, topic in rules]
    return Policy([Role("r", "", tuple(made))], sensitive=(), limits=Limits(), reserved="gateway")


def allow(topic, *actions):
    return Effect.ALLOW, actions or (Action.PUBLISH,), topic


def deny(topic, *actions):
    return Effect.DENY, actions or (Action.PUBLISH,), topic


def grant(**permissions):
    return Grant("t", "t", 0, 0, 2**40, {name: tuple(filters) for name, filters in permissions.items()})


def permissions(*rules, identity=LAMP):
    return policy(*rules).rights(identity).permissions()


def test_every_action_is_named_and_filters_are_resolved():
    assert permissions(allow("d/{device}/{label.room}/{client}/#", Action.SUBSCRIBE)) == {
        "publish": (),
        "subscribe": ("d/lamp-1/kitchen/+/#",),
        "encrypt": (),
        "decrypt": (),
    }


def test_what_a_deny_covers_wholly_is_left_out():
    assert permissions(allow("a/b"), allow("a/c"), deny("a/b"))["publish"] == ("a/c",)
    assert permissions(allow("a/b"), deny("#"))["publish"] == ()
    # In part: the policy says no when the time comes.
    assert permissions(allow("a/#"), deny("a/b"))["publish"] == ("a/#",)
    # `{client}` is not known yet: a deny of one client's topic is none of all.
    assert permissions(allow("a/+"), deny("a/{client}"))["publish"] == ("a/+",)


def test_what_another_filter_covers_is_left_out():
    assert permissions(allow("a/b"), allow("a/#"), allow("a/+/c"))["publish"] == ("a/#",)
    assert permissions(allow("#"), allow("+/#"))["publish"] == ("#",)
    assert permissions(allow("a"), allow("a"))["publish"] == ("a",)


def test_a_narrower_token_hands_on_no_more_than_itself():
    narrow = dataclasses.replace(LAMP, grant=grant(publish=["a/+", "x"], encrypt=["#"]))
    found = permissions(
        allow("a/#", Action.PUBLISH, Action.SUBSCRIBE),
        allow("+/b"),
        allow("q", Action.ENCRYPT),
        identity=narrow,
    )
    assert found == {"publish": ("a/+",), "subscribe": (), "encrypt": ("q",), "decrypt": ()}


@given(RULES)
def test_a_token_with_all_permissions_takes_nothing_away(rules):
    some = policy(*rules)
    free = some.rights(LAMP)
    bound = some.rights(dataclasses.replace(LAMP, grant=grant(**free.permissions())))
    for action, topic in product(Action, TOPICS):
        assert bound.decide(action, topic).allowed == free.decide(action, topic).allowed, (action, topic)


@given(RULES, st.lists(PLAIN_FILTERS, max_size=3))
def test_policy_and_token_both_have_to_allow(rules, granted):
    some = policy(*rules)
    narrow = dataclasses.replace(LAMP, grant=grant(publish=granted))
    for topic in TOPICS:
        expected = some.rights(LAMP).decide(Action.PUBLISH, topic).allowed and any(
            matches(one, topic) for one in granted
        )
        assert some.rights(narrow).decide(Action.PUBLISH, topic).allowed is expected
    # And what it may hand on is the same again.
    again = dataclasses.replace(LAMP, grant=grant(**some.rights(narrow).permissions()))
    for topic in TOPICS:
        assert (
            some.rights(again).decide(Action.PUBLISH, topic).allowed
            is some.rights(narrow).decide(Action.PUBLISH, topic).allowed
        )


@given(PLAIN_FILTERS, PLAIN_FILTERS)
def test_the_intersection_matches_what_both_match(one, other):
    both = intersection(one, other)
    assert both is None or filter_fault(both) is None
    for topic in TOPICS:
        assert (both is not None and matches(both, topic)) is (matches(one, topic) and matches(other, topic))


@pytest.mark.timeout(20)
def test_many_rules_are_no_trouble():
    # A hundred times what it takes: pair by pair it would be minutes.
    many = policy(*(allow(f"a/{n}/+") for n in range(5_000)), *(deny(f"a/{n}/b") for n in range(5_000)))
    assert len(many.rights(LAMP).permissions()["publish"]) == 5_000
