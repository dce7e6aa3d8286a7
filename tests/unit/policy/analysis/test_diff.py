"""What changes between two policies: all of it, nothing else, and in a way that can be read."""

from __future__ import annotations

import pytest
from harness.exhaustive_policy_oracle import LABELS, PEOPLE, lawful, people_for, templates, topics_of
from harness.label_notation import labels_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.analysis.diff import compare
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule

PUBLISH, SUBSCRIBE = Action.PUBLISH, Action.SUBSCRIBE


def rule(topic, effect=Effect.ALLOW, max_qos=2, actions=(PUBLISH,), **more):
    return Rule(effect, frozenset(actions), topic, max_qos, role="r", file="r.toml", line=1, **more)


def policy(*rules, sensitive=(), limits=None, **roles):
    made = [Role("r", "", rules), *(Role(name, "", tuple(own)) for name, own in roles.items())]
    return Policy(made, sensitive=sensitive, limits=limits or Limits(), reserved="g")


def device(device_id="lamp-1", roles=("r",), **labels):
    return Device(device_id, roles, labels_of(labels), True, "", 1, 0, 0)


_rules = st.lists(
    st.builds(
        rule,
        templates,
        st.sampled_from([Effect.ALLOW, Effect.ALLOW, Effect.DENY]),
        st.sampled_from([2, 2, 1]),
    ),
    max_size=3,
)


def may(rules, person, qos):
    """Topics that somebody may publish to with this QoS."""
    allows = [one.topic for one in rules if one.effect is Effect.ALLOW and qos <= one.max_qos]
    denies = [one.topic for one in rules if one.effect is Effect.DENY]
    return (topics_of(allows, person) - topics_of(denies, person)) & lawful()


def told(changes, person, qos, *, gained):
    """Topics that the changes speak of: for a message that the rule just admits."""
    found = set()
    for one in changes:
        if one.gained is gained and one.rule.max_qos == qos:
            topics = topics_of([one.topics], person)
            if one.within is not None:
                topics &= topics_of([one.within], person)
            found |= (topics - topics_of(list(one.without), person)) & lawful()
    return found


def check(changes, old, new, people):
    """They tell exactly what changes for these people."""
    told_of = [topic for one in changes for topic in (one.topics, one.within or "", *one.without)]
    people = people_for([*(one.topic for one in (*old, *new)), *told_of], people)
    for person in people:
        for gained, before, after in ((True, old, new), (False, new, old)):
            changed = {qos: may(after, person, qos) - may(before, person, qos) for qos in (1, 2)}
            said = {qos: told(changes, person, qos, gained=gained) for qos in (1, 2)}
            assert said[1] <= changed[1]
            assert said[2] == changed[2]
            # What admits QoS 2 admits QoS 1: it need not be told twice.
            assert changed[1] <= said[1] | said[2]
    for change in changes:
        assert any(told([change], one, change.rule.max_qos, gained=change.gained) for one in people)


@settings(max_examples=60)
@given(old=_rules, new=_rules, room=st.sampled_from(LABELS))
def test_all_that_changes_is_told_and_nothing_else(old, new, room):
    limits = Limits(topic_levels=3)
    known = device("a", room=room) if room else device("a")
    found = compare(policy(*old, limits=limits), policy(*new, limits=limits), [known])
    check(found.roles.get("r", ()), old, new, PEOPLE)
    own = [person for person in PEOPLE if (person[0], person[2]) == ("a", room)]
    check(found.devices.get("a", ()), old, new, own)


# --- how it reads -------------------------------------------------------------------------------------


def lines(changes):
    return [
        (
            "gains" if one.gained else "loses",
            one.action.value,
            one.topics,
            one.within,
            one.without,
            one.example.topic,
        )
        for one in changes
    ]


def between(old, new, *devices):
    return compare(policy(*old), policy(*new), devices)


def test_the_same_is_no_difference():
    rules = [rule("a/{device}"), rule("b", Effect.DENY)]
    moved = [rule("b", Effect.DENY), Rule(Effect.ALLOW, frozenset([PUBLISH]), "a/{device}", line=99)]
    found = between(rules, moved, device())
    assert (found.roles, found.devices, found.newly_sensitive, found.no_longer_sensitive, found.limits) == (
        {},
        {},
        (),
        (),
        {},
    )


def test_a_rule_that_says_the_same_in_other_words_is_no_difference():
    assert between([rule("a/#"), rule("a/b")], [rule("a/#")]).roles == {}
    assert between([rule("a"), rule("a/+/#")], [rule("a/#")]).roles == {}
    assert between([rule("a/b", Effect.DENY), rule("a/b")], [rule("gateway/x", Effect.DENY)]).roles == {}


def test_a_gain_and_a_loss_are_told_with_what_they_leave_out():
    old = [rule("a/#"), rule("{device}/x")]
    new = [rule("a/b"), rule("a/c/#"), rule("+/x"), rule("s/x", Effect.DENY)]
    assert lines(between(old, new).roles["r"]) == [
        ("gains", "publish", "+/x", None, ("a/#", "{device}/x", "s/x"), "x1/x"),
        ("loses", "publish", "a/#", None, ("a/b", "a/c/#", "+/x"), "a"),
        ("loses", "publish", "{device}/x", "s/x", (), "s/x"),
    ]


def test_a_gain_may_begin_below_what_is_denied():
    new = [rule("a/#"), rule("a", Effect.DENY), rule("a/+", Effect.DENY)]
    assert lines(between([], new).roles["r"]) == [("gains", "publish", "a/#", None, ("a", "a/+"), "a/x/x")]


def test_a_deny_that_goes_is_a_gain_where_it_stood_before_an_allow():
    old = [rule("a/#"), rule("+/secret", Effect.DENY), rule("b", Effect.DENY)]
    (found,) = between(old, [rule("a/#")]).roles["r"]
    assert lines([found]) == [("gains", "publish", "a/#", "+/secret", (), "a/secret")]
    assert found.refusal.rule.topic == "+/secret"
    (found,) = between([*old, rule("a/secret/#", Effect.DENY)], [rule("a/#")]).roles["r"][1:]
    assert lines([found]) == [("gains", "publish", "a/secret/#", None, (), "a/secret")]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({"max_qos": 1}, {}, "QoS 2 is above the 1 allowed"),
        ({"retain": False}, {}, "Retained messages"),
        ({"max_payload": 9}, {"max_payload": 10}, "10 bytes is above the 9"),
        ({"max_payload": 9}, {}, "10 bytes is above the 9"),
    ],
)
def test_a_condition_that_is_lifted_is_a_gain_and_the_other_way_round_a_loss(old, new, reason):
    for gained, before, after in ((True, old, new), (False, new, old)):
        (found,) = between([rule("a", **before)], [rule("a", **after)]).roles["r"]
        assert found.gained is gained
        assert reason in found.refusal.reason


def test_of_a_subscription_only_the_qos_counts():
    old = [rule("a", max_qos=1, actions=[PUBLISH, SUBSCRIBE], retain=False, max_payload=1)]
    new = [rule("a", max_qos=2, actions=[SUBSCRIBE]), rule("a", max_qos=1, retain=False, max_payload=1)]
    assert lines(between(old, new).roles["r"]) == [("gains", "subscribe", "a", None, (), "a")]


def test_roles_that_come_and_go():
    old = policy(gone=[rule("a")])
    new = policy(rule("b"), come=[rule("c")])
    found = compare(old, new, [device(roles=("gone",)), device("lamp-2", ("gone", "r"))])
    assert {name: lines(changes)[0][:3] for name, changes in found.roles.items()} == {
        "come": ("gains", "publish", "c"),
        "gone": ("loses", "publish", "a"),
        "r": ("gains", "publish", "b"),
    }
    assert [line[:3] for line in lines(found.devices["lamp-1"])] == [("loses", "publish", "a")]
    # What it had in another role, it has no more either; what that one gains, it has not.
    old = policy(rule("b"), gone=[rule("a"), rule("b/c", Effect.DENY)])
    new = policy(rule("b/#"), rule("d"))
    found = compare(old, new, [device("lamp-2", ("gone", "r"))])
    assert [line[:3] for line in lines(found.devices["lamp-2"])] == [
        ("loses", "publish", "a"),
        ("loses", "publish", "b"),
    ]


def test_a_device_has_its_own_names_and_the_roles_it_has_together():
    old = policy(rule("rooms/{label.room}/x"), s=[rule("c/{client}")])
    new = policy(
        rule("rooms/{label.room}/#"), rule("{label.floor}"), s=[rule("c/+"), rule("rooms/+/y", Effect.DENY)]
    )
    people = [
        device("one", room="hall"),
        device("two", ("r", "s"), room="hall"),
        device("three"),
        device("four", ()),
    ]
    found = compare(old, new, people)
    assert {name: lines(changes) for name, changes in found.devices.items()} == {
        "one": [("gains", "publish", "rooms/hall/#", None, ("rooms/hall/x",), "rooms/hall")],
        "two": [
            ("gains", "publish", "rooms/hall/#", None, ("rooms/hall/x", "rooms/+/y"), "rooms/hall"),
            ("gains", "publish", "c/+", None, ("c/{client}",), "c/x1"),
        ],
    }


def test_what_is_sealed_and_the_limits():
    old = policy(sensitive=["a/+", "b/#"], limits=Limits(in_flight=3))
    new = policy(sensitive=["a/#", "b/c"], limits=Limits(in_flight=4))
    found = compare(old, new, [])
    assert (found.newly_sensitive, found.no_longer_sensitive) == (("a/#",), ("b/#",))
    assert found.limits == {"in_flight": (3, 4)}
    assert compare(old, old, []).limits == {}


def test_limits_of_topics_take_rights_away():
    (found,) = compare(policy(rule("a/b/c")), policy(rule("a/b/c"), limits=Limits(topic_levels=2)), []).roles[
        "r"
    ]
    assert not found.gained
    assert "more than 2 levels" in found.refusal.reason
