"""Which rule a wide filter meets: against brute force over a small alphabet."""

from __future__ import annotations

from harness.exhaustive_policy_oracle import CLIENTS, LABELS, TOPICS, templates, topics_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mqtt.topics import intersection
from gateway.policy.engine.filter_overlap_tree import FilterOverlapTree
from gateway.policy.engine.identity import Grant, Identity
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from gateway.policy.engine.rules import OnWideSubscribe

LEVELS = st.sampled_from(["a", "b", "", "+", "$", "d", "x"])
FILTERS = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(LEVELS, max_size=3),
    st.sampled_from([[], ["#"]]),
).filter(bool)
QOS = st.sampled_from([0, 1, 2])


def hears(topic, effect=Effect.ALLOW, max_qos=2):
    return Rule(effect, frozenset({Action.SUBSCRIBE}), topic, max_qos, role="r", file="r.toml", line=1)


@given(st.lists(st.tuples(FILTERS, QOS), max_size=5), FILTERS)
@settings(max_examples=300)
def test_of_the_rules_that_have_a_topic_in_common_the_one_of_highest_qos(rules, asked):
    made = [(topic, hears(topic, max_qos=qos)) for topic, qos in rules]
    met = [rule.max_qos for topic, rule in made if intersection(topic, asked) is not None]
    found = FilterOverlapTree(made).overlapping(asked)
    assert (None if found is None else found.max_qos) == max(met, default=None)
    assert found is None or intersection(found.topic, asked) is not None


def matched(one, person):
    """Topics that a rule matches for somebody, the prefix of the services left out."""
    return {topic for topic in topics_of([one], person) if topic[0] != "g"}


@given(
    st.lists(
        st.tuples(templates, QOS, st.sampled_from([Effect.ALLOW, Effect.ALLOW, Effect.DENY])), max_size=4
    ),
    FILTERS,
    st.sampled_from(CLIENTS),
    st.sampled_from(LABELS),
    st.none() | st.lists(FILTERS, max_size=2),
)
@settings(max_examples=200)
def test_a_filter_is_granted_in_part_where_some_allowed_topic_is_in_it(rules, asked, client, rooms, token):
    """By the definition of a filter: some topic fits the filter, an allow, and the token."""
    made = [hears(topic, effect, qos) for topic, qos, effect in rules]
    role = Role("r", "", tuple(made), subscribe=OnWideSubscribe.FILTER)
    grant = None if token is None else Grant("t", "t", 0, 0, 1, {"subscribe": tuple(token)})
    identity = Identity("a", ("r",), {"room": rooms} if rooms else {}, client, grant)
    policy = Policy([role], sensitive=(), limits=Limits(), reserved="g")
    decision = policy.rights(identity).decide_filter(asked)
    person = ("a", client, rooms)
    inside = matched(asked, person)
    if token is not None:
        inside &= {topic for one in token for topic in matched(one, person)}
    met = [one.max_qos for one in made if one.effect is Effect.ALLOW and matched(one.topic, person) & inside]
    plain = Policy([Role("r", "", tuple(made))], sensitive=(), limits=Limits(), reserved="g").rights(identity)
    covered = plain.decide_filter(asked)
    if asked[0] == "$" and "$share".startswith(asked.split("/", 1)[0]) and asked != "$":
        return
    if asked == "g" or asked.startswith("g/") or covered.allowed:
        assert (decision.allowed, decision.is_partial) == (covered.allowed, False)
    elif any(
        one.effect is Effect.DENY and matched(one.topic, person) >= matched(asked, person) for one in made
    ):
        assert not decision.allowed or decision.is_partial, (
            "a deny of all of it is found by its filter, not its topics"
        )
    elif met:
        assert (decision.allowed, decision.is_partial, decision.max_qos) == (True, True, max(met))
    else:
        assert not decision.allowed


@given(st.lists(st.tuples(templates, QOS), min_size=1, max_size=4), FILTERS, st.sampled_from(LABELS))
def test_to_be_granted_in_part_gives_no_message(rules, asked, rooms):
    """Whatever was subscribed to: what may be delivered is what the rules allow, filter or not."""
    made = tuple(hears(topic, max_qos=qos) for topic, qos in rules)
    identity = Identity("a", ("r",), {"room": rooms} if rooms else {}, "c")
    wide, plain = (
        Policy([Role("r", "", made, subscribe=mode)], sensitive=(), limits=Limits(), reserved="g").rights(
            identity
        )
        for mode in (OnWideSubscribe.FILTER, OnWideSubscribe.COVER)
    )
    wide.decide_filter(asked)
    for topic in TOPICS[:200]:
        name = "/".join(topic)
        if name:
            assert wide.decide(Action.SUBSCRIBE, name).allowed is plain.decide(Action.SUBSCRIBE, name).allowed


def test_the_example_that_the_module_gives():
    rules = [("rooms/+/temp", hears("rooms/+/temp", max_qos=0)), ("rooms/hall/#", hears("rooms/hall/#"))]
    filters = FilterOverlapTree(rules)
    assert filters.overlapping("#") is rules[1][1]
    assert filters.overlapping("rooms/attic/+") is rules[0][1]
    assert filters.overlapping("doors/#") is None


def test_what_it_knows_of_a_few_it_gives_to_all_of_them():
    """Trees are remembered by roles and names, and only so many."""
    role = Role("r", "", (hears("a/{client}"),), subscribe=OnWideSubscribe.FILTER)
    policy = Policy([role], sensitive=(), limits=Limits(), reserved="g")
    found = {
        policy.rights(Identity("a", ("r",), {}, f"c{number}")).decide_filter("a/+").allowed
        for number in range(200)
    }
    assert found == {True}
    assert len(policy._overlap_trees) <= 64
    assert not policy.rights(Identity("a", ("r",), {}, "a/b")).decide_filter("a/+").allowed
    assert policy.filter_effort(("r",)) == 0


def test_a_token_for_the_topics_of_the_gateway_grants_no_filter():
    role = Role("r", "", (hears("#"),), subscribe=OnWideSubscribe.FILTER)
    policy = Policy([role], sensitive=(), limits=Limits(), reserved="g")
    for granted, allowed in (("g/#", False), ("g", False), ("a/#", True)):
        grant = Grant("t", "t", 0, 0, 1, {"subscribe": (granted,)})
        assert policy.rights(Identity("a", ("r",), {}, "c", grant)).decide_filter("#").allowed is allowed
