"""What is learned: what was used, under the conditions and denies of today, and nothing that was refused."""

from __future__ import annotations

import tomllib
from itertools import count

import pytest
from harness.label_notation import labels_of
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.topics import covers
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from gateway.policy.engine.rules import OnDeniedWill, OnWideSubscribe
from gateway.policy.engine.topic_generalisation import template_of
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.policy.usage.replay import UNCONDITIONAL, as_identity
from gateway.policy.usage.role_learner import learn
from gateway.policy.usage.role_writer import role_file

PUBLISH, SUBSCRIBE, DECRYPT = Action.PUBLISH, Action.SUBSCRIBE, Action.DECRYPT
LINES = count(1)
ALLOWED, OBSERVED, REFUSED = Passage


def device(device_id, *roles, **labels):
    return Device(
        device_id, roles or ("r",), labels_of(labels), True, "", version=1, created_at=0, updated_at=0
    )


def allow(topic, *actions, role="r", **conditions):
    asked = frozenset(actions or Action)
    return Rule(Effect.ALLOW, asked, topic, role=role, file=f"{role}.toml", line=next(LINES), **conditions)


def deny(topic, *actions, role="r"):
    return Rule(
        Effect.DENY, frozenset(actions or Action), topic, role=role, file=f"{role}.toml", line=next(LINES)
    )


def policy(*rules):
    roles = {rule.role for rule in rules}
    return Policy(
        [Role(name, "", tuple(rule for rule in rules if rule.role == name)) for name in sorted(roles)],
        sensitive=["private/#"],
        limits=Limits(),
        reserved="gateway",
    )


def saw(device_id, template, action=PUBLISH, passage=ALLOWED, n=1, at=100):
    return UsageRecord(device_id, action, template, passage, n, at, at)


WIDE = policy(allow("#"))
ONE = device("d-1", room="kitchen")
THREE = [ONE, device("d-2", room="hall"), device("d-3", room="attic")]


def topics(proposal, action=PUBLISH, conditions=UNCONDITIONAL):
    return sorted(proposal.allows.get((action, conditions), {}))


def test_what_was_used_is_allowed_for_the_action_it_was_used_for():
    found = learn(
        WIDE,
        [ONE],
        [saw("d-1", "a/{device}"), saw("d-1", "a/b", SUBSCRIBE), saw("d-1", "c", DECRYPT), saw("d-2", "not")],
    )
    assert topics(found) == ["a/{device}"]
    assert topics(found, SUBSCRIBE) == ["a/b"]
    assert topics(found, DECRYPT) == ["c"]
    assert found.devices == ("d-1",)
    assert [rule.topic for rule in found.role().rules] == ["a/{device}", "a/b", "c"]


def test_what_was_refused_is_told_and_not_allowed():
    found = learn(
        WIDE, THREE, [saw("d-1", "x", passage=REFUSED, n=3), saw("d-2", "x", passage=REFUSED, n=4, at=7)]
    )
    assert found.allows == {}
    summary = found.refused[PUBLISH]["x"]
    assert (summary.count, summary.first_at, summary.last_at) == (7, 7, 100)
    assert summary.devices == {"d-1", "d-2"}


def test_devices_add_up_and_values_that_vary_among_them_become_a_plus():
    used = [saw(one.device_id, template, n=2) for one in THREE for template in ("a/{device}", "b")]
    used += [saw(one.device_id, f"jobs/{one.device_id}x/done") for one in THREE]
    used += [saw("d-1", "two/1"), saw("d-2", "two/2")]
    found = learn(WIDE, THREE, used)
    assert topics(found) == ["a/{device}", "b", "jobs/+/done", "two/1", "two/2"]
    everybody = found.allows[PUBLISH, UNCONDITIONAL]["a/{device}"]
    assert (everybody.count, everybody.devices) == (6, {"d-1", "d-2", "d-3"})
    assert found.allows[PUBLISH, UNCONDITIONAL]["jobs/+/done"].templates == {
        f"jobs/d-{n}x/done" for n in (1, 2, 3)
    }


def test_no_plus_is_made_that_takes_in_what_was_refused():
    used = [saw("d-1", f"a/{value}") for value in "123"]
    assert topics(learn(WIDE, [ONE], [*used, saw("d-1", "a/locked", passage=REFUSED)])) == [
        "a/1",
        "a/2",
        "a/3",
    ]
    # Of another action it says nothing.
    elsewhere = saw("d-1", "a/locked", SUBSCRIBE, passage=REFUSED)
    assert topics(learn(WIDE, [ONE], [*used, elsewhere])) == ["a/+"]


def test_no_plus_is_made_where_the_rules_of_today_name_each_value():
    used = [saw(one.device_id, "a/{device}") for one in THREE] + [saw("d-1", f"b/{n}") for n in (1, 2, 3)]
    words = [allow(f"a/{one.device_id}") for one in THREE] + [allow(f"b/{n}") for n in (1, 2, 3, 4)]
    assert topics(learn(policy(*words), THREE, used)) == ["a/d-1", "a/d-2", "a/d-3", "b/1", "b/2", "b/3"]
    assert topics(learn(policy(*words, allow("b/#")), [ONE], used)) == ["a/d-1", "b/+"]
    # Of rules that are gone nobody knows what they were.
    assert topics(learn(policy(allow("else")), [ONE], used[3:])) == ["b/+"]


def test_deliveries_need_no_rule_beside_the_filter_they_came_by():
    used = [saw("d-1", one, SUBSCRIBE, n=n) for n, one in enumerate(("a/#", "a/b", "a/c/d", "b/+", "b/x"), 1)]
    found = learn(WIDE, [ONE], used)
    assert topics(found, SUBSCRIBE) == ["a/#", "b/+"]
    assert found.allows[SUBSCRIBE, UNCONDITIONAL]["a/#"].count == 6


def test_what_a_filter_covers_makes_nothing_wider():
    """`kitchen` came by its own filter, so that two values are left."""
    used = [saw("d-1", one, SUBSCRIBE) for one in ("x/kitchen/#", "x/kitchen/t", "x/hall/t", "x/attic/t")]
    assert topics(learn(WIDE, [ONE], used), SUBSCRIBE) == ["x/attic/t", "x/hall/t", "x/kitchen/#"]


def test_what_a_plus_covers_needs_no_rule_of_its_own():
    used = [saw("d-1", one) for one in ("a/1", "a/2", "a/3", "a/{device}")]
    assert topics(learn(WIDE, [ONE], used)) == ["a/+"]


def test_a_name_means_what_it_means_for_most():
    used = [
        saw("d-1", "{device}/{label.room}"),
        saw("d-2", "{device}/kitchen"),
        saw("d-3", "{device}/kitchen"),
    ]
    found = learn(WIDE, THREE, used)
    assert topics(found) == ["{device}/kitchen"]
    assert found.allows[PUBLISH, UNCONDITIONAL]["{device}/kitchen"].devices == {"d-1", "d-2", "d-3"}


def test_the_conditions_of_today_are_kept():
    today = policy(
        allow("a/#", max_qos=1, retain=False, max_payload=9),
        allow("a/free"),
        allow("b/#", max_qos=0),
        allow("b/+", max_payload=5),
    )
    used = [saw("d-1", one, action) for one in ("a/x", "a/free", "b/x") for action in Action]
    found = learn(today, [ONE], used)
    assert topics(found) == ["a/free"]
    assert topics(found, PUBLISH, (1, False, 9)) == ["a/x"]
    assert topics(found, PUBLISH, (0, True, None)) == topics(found, PUBLISH, (2, True, 5)) == ["b/x"]
    # A condition that says nothing about an action isn't written: the file would be refused.
    assert topics(found, SUBSCRIBE, (1, True, None)) == ["a/x"]
    assert topics(found, SUBSCRIBE) == ["a/free", "b/x"]
    assert topics(found, DECRYPT) == ["a/free", "a/x", "b/x"]


def test_a_word_of_a_rule_stays_a_word_though_a_device_is_called_so():
    """Else each device of the role had a topic of its own there, and `asr` were not refused another one's."""
    asr, dialogue = device("asr", kind="asr"), device("dialogue", kind="session")
    used = [saw("asr", "hermes/{device}/{label.kind}"), saw("dialogue", "hermes/{device}/{label.kind}")]
    words = [allow("hermes/asr/asr"), allow("hermes/dialogue/session")]
    assert topics(learn(policy(*words), [asr, dialogue], used)) == [
        "hermes/asr/asr",
        "hermes/dialogue/session",
    ]
    assert topics(learn(policy(allow("hermes/+/asr")), [asr], used)) == ["hermes/{device}/asr"]
    assert topics(learn(policy(allow("+/{label.kind}/#")), [asr], used)) == ["hermes/{label.kind}/{device}"]


def test_a_word_is_a_word_under_the_conditions_of_its_rule():
    asr = device("asr")
    low = {"max_qos": 0}
    today = policy(allow("a/asr"), allow("a/+", **low), allow("b/asr", max_qos=1), allow("b/+", **low))
    found = learn(today, [asr], [saw("asr", "a/{device}"), saw("asr", "b/{device}")])
    assert {asked[0]: list(found.allows[PUBLISH, asked]) for _, asked in found.allows} == {
        2: ["a/asr"],
        1: ["b/asr"],
        0: ["b/{device}"],
    }


def test_many_meanings_are_bounded_and_the_rule_s_words_kept():
    odd = device("d-1", **{f"l{number}": "same" for number in range(9)})
    template = "/".join(["{label.l0}"] * 9)
    assert topics(learn(policy(allow("same/#")), [odd], [saw("d-1", template)])) == [
        "same/" + "/".join(["{label.l0}"] * 8)
    ]


def test_what_is_allowed_here_is_not_listed_as_refused():
    asr = device("asr")
    today = policy(allow("a/asr", retain=False))
    seen = [saw("asr", "a/{device}", n=3), saw("asr", "a/{device}", passage=REFUSED)]
    seen.append(saw("asr", "b", passage=REFUSED))
    found = learn(today, [asr, ONE], [*seen, saw("d-1", "a/asr", passage=REFUSED)])
    assert (list(found.refused[PUBLISH]), list(found.sometimes_refused[PUBLISH])) == (["b"], ["a/asr"])
    assert [(one.device_id, one.template) for one in found.newly_allowed] == [("d-1", "a/asr")]


def test_what_many_topics_have_in_common_keeps_conditions_and_roles():
    """A record that was made shorter: `a/+`, where today's rules name the topics one by one."""
    narrow = {"retain": False, "max_qos": 0, "max_payload": 10}
    today = policy(
        *(allow(f"a/{value}", PUBLISH, **narrow) for value in "bcd"),
        allow("a/{device}", max_qos=1),
        allow("{label.room}/x"),
        allow("a/e", role="s"),
    )
    both = device("d-1", "r", "s", room="kitchen")
    used = [saw("d-1", "a/+", n=7), saw("d-1", "+/x")]
    found = learn(today, [both], used)
    assert {asked: list(each) for (_, asked), each in found.allows.items()} == {
        (0, False, 10): ["a/b", "a/c", "a/d"],
        (1, True, None): ["a/{device}"],
        UNCONDITIONAL: ["a/e", "{label.room}/x"],
    }
    assert [one.template for one in found.proposed_in_part] == ["a/+", "+/x"]
    assert found.newly_refused == found.without_rule == ()
    found = learn(today, [both], used, "s")
    assert (topics(found), found.by_other_roles, len(found.allows)) == (["a/e"], 1, 1)
    # As long as a rule is as wide there is nothing to be told.
    assert learn(policy(allow("a/#", max_qos=0)), [ONE], [saw("d-1", "a/+")]).proposed_in_part == ()


def filtering(*rules, role="r"):
    """A policy whose roles have wide filters granted in part, all in one."""
    roles = {rule.role for rule in rules}
    made = [
        Role(
            name,
            "",
            tuple(rule for rule in rules if rule.role == name),
            subscribe=OnWideSubscribe.FILTER if name == role else OnWideSubscribe.COVER,
        )
        for name in sorted(roles)
    ]
    return Policy(made, sensitive=(), limits=Limits(), reserved="gateway")


@pytest.mark.parametrize("says", [OnDeniedWill.DROP, OnDeniedWill.REFUSE, None])
def test_whom_no_refused_will_keeps_out_it_does_not_keep_out_by_the_learned_role(says):
    """Kind: a setting of the role of today is lost, and the device is locked out at its next connect."""
    today = Policy(
        [Role("r", "", (allow("a"),), will=says)], sensitive=(), limits=Limits(), reserved="gateway"
    )
    found = learn(today, [ONE], [saw("d-1", "a")])
    drops = says is OnDeniedWill.DROP
    assert (found.drops_wills, found.role().will) == (drops, OnDeniedWill.DROP if drops else None)
    assert tomllib.loads(role_file(found, "t", "an hour")).get("will") == ("drop" if drops else None)


@pytest.mark.parametrize("wide", ["home/+/x", "+/a/x", "+/+/+"])
def test_a_wide_filter_with_a_plus_is_granted_by_the_learned_role(wide):
    today = filtering(allow("home/a/x", SUBSCRIBE))
    found = learn(today, [ONE], [saw("d-1", wide, SUBSCRIBE)])
    assert (found.on_wide_subscribe, topics(found, SUBSCRIBE)) == (OnWideSubscribe.FILTER, ["home/a/x"])
    alone = Policy([found.role()], sensitive=(), limits=Limits(), reserved="gateway")
    assert alone.rights(as_identity(ONE, "learned")).decide_filter(wide).is_partial
    assert found.newly_refused == ()
    # Where no filter is granted in part, it was many topics: nothing is to be set.
    by_cover = learn(policy(allow("home/a/x", SUBSCRIBE)), [ONE], [saw("d-1", wide, SUBSCRIBE)])
    assert by_cover.on_wide_subscribe is OnWideSubscribe.COVER


def test_a_wide_filter_is_granted_for_each_value_of_a_label():
    both = device("d-1", room=("hall", "attic"))
    rules = [allow(topic, SUBSCRIBE) for topic in ("hall/a/x", "attic/b/x")]
    found = learn(filtering(*rules), [both], [saw("d-1", "{label.room}/+/x", SUBSCRIBE)])
    assert (found.on_wide_subscribe, found.newly_refused) == (OnWideSubscribe.FILTER, ())


def test_a_wide_filter_of_which_nothing_was_delivered_is_told():
    today = filtering(allow("home/a/x", SUBSCRIBE))
    subscribed = saw("d-1", "home/#", SUBSCRIBE)
    assert learn(today, [ONE], [subscribed]).newly_refused == (subscribed,)
    found = learn(today, [ONE], [subscribed, saw("d-1", "home/a/x", SUBSCRIBE)])
    assert (found.newly_refused, found.on_wide_subscribe) == ((), OnWideSubscribe.FILTER)


@pytest.mark.parametrize("wide", ["home/#", "home/+/x"])
def test_a_wide_filter_is_no_concern_of_a_role_that_allows_nothing_of_it(wide):
    today = filtering(allow("home/a/x", SUBSCRIBE), allow("b", SUBSCRIBE, role="s"))
    found = learn(today, [device("d-1", "r", "s")], [saw("d-1", wide, SUBSCRIBE, n=3)], "s")
    assert (found.on_wide_subscribe, found.newly_refused, found.by_other_roles) == (
        OnWideSubscribe.COVER,
        (),
        3,
    )


def test_a_label_that_is_gone_loses_no_conditions():
    today = policy(allow("a/{label.gone}", max_qos=0), allow("a/+", role="s"))
    found = learn(today, [device("d-1", "r", "s")], [saw("d-1", "a/{label.gone}")], "r")
    assert topics(found, PUBLISH, (0, True, None)) == ["a/{label.gone}"]
    assert len(found.allows) == 1


def test_a_deny_of_today_loses_no_conditions():
    today = policy(allow("a/b", max_qos=0), deny("a/#"))
    found = learn(today, [ONE], [saw("d-1", "a/b")])
    assert topics(found, PUBLISH, (0, True, None)) == ["a/b"]
    assert [one.template for one in found.newly_refused] == ["a/b"]


def test_the_denies_of_today_that_meet_what_is_allowed_are_kept():
    near, far, other = deny("a/{device}/+"), deny("b/#"), deny("a/#", role="s")
    today = policy(allow("#"), near, far, allow("s", role="s"), other)
    found = learn(today, [ONE], [saw("d-1", "a/+/c", SUBSCRIBE), saw("d-1", "c")])
    assert [(rule.topic, rule.actions) for rule in found.denies] == [("a/{device}/+", {SUBSCRIBE})]
    assert learn(today, [ONE], [saw("d-1", "a/x/c", SUBSCRIBE)]).denies[0].line == near.line
    assert learn(today, [ONE], [saw("d-1", "c")]).denies == ()
    of_another_action = policy(allow("#"), deny("a/b", PUBLISH))
    assert learn(of_another_action, [ONE], [saw("d-1", "a/#", SUBSCRIBE)]).denies == ()


def test_for_a_role_only_what_it_allows_itself_counts():
    today = policy(
        allow("a/#"), allow("b/#", role="s"), allow("+/both"), allow("+/both", role="s", max_qos=0)
    )
    both = device("d-1", "r", "s")
    used = [saw("d-1", "a/x"), saw("d-1", "b/x", n=3), saw("d-1", "c/both")]
    assert topics(learn(today, [both], used)) == ["a/x", "b/x", "c/both"]
    found = learn(today, [both], used, "r")
    assert (topics(found), found.by_other_roles) == (["a/x", "c/both"], 3)
    assert topics(learn(today, [both], used, "s"), PUBLISH, (0, True, None)) == ["c/both"]


def test_what_was_allowed_by_rules_that_are_gone_is_allowed():
    found = learn(policy(allow("else")), [ONE], [saw("d-1", "a")])
    assert topics(found) == ["a"]
    assert [one.template for one in found.without_rule] == ["a"]
    assert topics(learn(policy(allow("else")), [ONE], [saw("d-1", "a/{label.gone}")], "r")) == [
        "a/{label.gone}"
    ]


def test_a_deny_that_was_made_since_then_is_told():
    found = learn(policy(allow("#"), deny("a/b")), [ONE], [saw("d-1", "a/b"), saw("d-1", "a/c")])
    assert [one.template for one in found.newly_refused] == ["a/b"]
    assert learn(WIDE, [ONE], [saw("d-1", "a/b")]).newly_refused == ()


def test_what_the_proposal_would_allow_of_what_was_refused_is_told():
    """One device may do by its label what another one was refused by its name."""
    kitchen = device("kitchen", room="hall")
    used = [saw(one.device_id, "rooms/{label.room}") for one in THREE]
    found = learn(WIDE, [*THREE, kitchen], [*used, saw("kitchen", "rooms/hall", passage=REFUSED)])
    assert [one.template for one in found.newly_allowed] == ["rooms/hall"]
    # The same topic allowed at another time: that was about the message.
    low = [saw("d-1", "a"), saw("d-1", "a", passage=REFUSED)]
    assert learn(WIDE, [ONE], low).newly_allowed == ()


def test_a_level_with_a_brace_can_not_be_written():
    found = learn(WIDE, [ONE], [saw("d-1", "a/+{device}"), saw("d-1", "b")])
    assert topics(found) == ["b"]
    assert list(found.unwritable[PUBLISH]) == ["a/+{device}"]


def test_a_label_with_a_brace_stays_a_label():
    """Two devices with it in different labels have the literal in common, which no rule can say."""
    odd = [device("d-1", room="{x}"), device("d-2", zone="{x}")]
    found = learn(WIDE, odd, [saw("d-1", "a/{label.room}"), saw("d-2", "a/{label.zone}")])
    assert topics(found) == ["a/{label.room}", "a/{label.zone}"]
    assert found.newly_refused == ()


def test_what_found_no_room_is_counted():
    found = learn(WIDE, [ONE], [saw("d-1", OVERFLOW, n=5), saw("d-1", OVERFLOW, passage=REFUSED, n=2)])
    assert (found.overflow, found.allows, found.refused) == (7, {}, {})


LEVELS = st.sampled_from(["d-1", "d-2", "kitchen", "hall", "a", "b", "c", "x"])
NAMES = st.lists(LEVELS, min_size=1, max_size=3).map("/".join)
ASKED = st.tuples(st.sampled_from(THREE), st.sampled_from(Action), NAMES)
WORDS = ["+", "a", "b", "{device}", "{label.room}", "d-1", "hall"]
RULES = st.lists(
    st.tuples(
        st.sampled_from([allow, allow, deny]),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map("/".join),
    ),
    max_size=5,
)


@given(RULES, st.lists(ASKED, max_size=30))
def test_the_run_is_admitted_and_what_it_was_refused_is_not(rules, asked):
    today = policy(*(make(topic) for make, topic in rules)) if rules else WIDE
    run, seen = [], []
    for one, action, topic in asked:
        identity = as_identity(one)
        decision = today.rights(identity).decide(action, topic)
        run.append((identity, action, topic, decision.allowed))
        seen.append(
            saw(
                one.device_id,
                template_of(topic, identity, decision.allow_rules),
                action,
                ALLOWED if decision.allowed else REFUSED,
            )
        )
    found = learn(today, THREE, seen)
    assert found.newly_refused == found.without_rule == found.proposed_in_part == ()
    allowing = [rule for rule in today.roles["r"].rules if rule.effect is Effect.ALLOW]
    for each in found.allows.values():
        for summary in each.values():
            assert all(any(covers(rule.topic, one) for rule in allowing) for one in summary.templates)
        # Whoever the device is, all that is allowed is within a rule.
        assert all(any(covers(rule.topic, one) for rule in allowing) for one in each)
    told = {(one.device_id, one.action, one.template) for one in found.newly_allowed}
    if not found.allows:
        return
    alone = Policy([found.role()], sensitive=(), limits=Limits(), reserved="gateway")
    for identity, action, topic, allowed in run:
        access = alone.rights(as_identity(device(identity.device_id, "learned", **identity.labels)))
        if access.decide(action, topic).allowed is not allowed:
            assert (identity.device_id, action, template_of(topic, identity)) in told


def test_the_example_that_the_module_gives():
    today = policy(allow("home/+/+"), deny("home/locks/#"))
    seen = [saw("d-1", "home/{device}/temp"), saw("d-2", "home/{device}/temp")]
    seen += [saw("d-1", f"home/{room}/lamp") for room in ("hall", "attic", "kitchen")]
    proposal = learn(today, THREE, [*seen, saw("d-1", "home/locks/door", passage=REFUSED)])
    assert topics(proposal) == ["home/+/lamp", "home/{device}/temp"]
    assert [rule.topic for rule in proposal.denies] == ["home/locks/#"]
    assert list(proposal.refused[PUBLISH]) == ["home/locks/door"]


# What passed only because its device was observed


def watched(template, action=PUBLISH, device_id="d-1", **more):
    return saw(device_id, template, action, OBSERVED, **more)


def observed(found, action=PUBLISH):
    return sorted(found.observed.get(action, {}))


NOTHING = policy()


def test_what_passed_while_observed_becomes_rules_with_placeholders():
    found = learn(
        NOTHING,
        [device("d-1", room="kitchen")],
        [
            watched("a/{device}"),
            watched("rooms/{label.room}/#", SUBSCRIBE),
            saw("d-1", "no", passage=REFUSED),
        ],
    )
    assert (found.allows, observed(found), observed(found, SUBSCRIBE)) == (
        {},
        ["a/{device}"],
        ["rooms/{label.room}/#"],
    )
    assert list(found.refused[PUBLISH]) == ["no"]
    assert (found.without_rule, found.newly_refused, found.newly_allowed) == ((), (), ())
    alone = Policy([found.role()], sensitive=(), limits=Limits(), reserved="gateway")
    neighbour = alone.rights(as_identity(device("d-2", room="hall"), "learned"))
    assert neighbour.decide(PUBLISH, "a/d-2").allowed
    assert not neighbour.decide(PUBLISH, "a/d-1").allowed
    assert not neighbour.decide_filter("rooms/kitchen/#").allowed


def test_no_level_of_it_becomes_a_plus():
    """Three words make one where a rule of today has a wildcard; here no rule says that any word will do."""
    seen = [watched(f"jobs/{number}") for number in range(5)]
    assert observed(learn(NOTHING, [ONE], seen)) == [f"jobs/{number}" for number in range(5)]
    # A filter that the device itself sent is another thing: it was granted as it is.
    asked = [watched("jobs/+", SUBSCRIBE), watched("jobs/1", SUBSCRIBE)]
    assert observed(learn(NOTHING, [ONE], asked), SUBSCRIBE) == ["jobs/+"]


def test_what_a_deny_refuses_is_not_proposed_and_blocks_a_plus():
    today = policy(allow("a/+"), deny("a/locked"))
    used = [saw("d-1", f"a/{number}") for number in range(3)]
    found = learn(today, [ONE], [*used, watched("a/locked")])
    assert (topics(found), observed(found)) == (["a/0", "a/1", "a/2"], [])
    assert list(found.barred[PUBLISH]) == ["a/locked"]
    everything = learn(policy(deny("#")), [ONE], [watched("#", SUBSCRIBE), watched("a")])
    assert (observed(everything), observed(everything, SUBSCRIBE)) == ([], [])


def test_a_filter_keeps_the_denies_that_take_something_out_of_it():
    found = learn(policy(allow("b"), deny("home/locks/#")), [ONE], [watched("home/#", SUBSCRIBE)])
    assert observed(found, SUBSCRIBE) == ["home/#"]
    assert [(rule.topic, rule.actions) for rule in found.denies] == [("home/locks/#", {SUBSCRIBE})]
    alone = Policy([found.role()], sensitive=(), limits=Limits(), reserved="gateway")
    assert not alone.rights(as_identity(ONE, "learned")).decide(SUBSCRIBE, "home/locks/door").allowed


def test_a_filter_keeps_the_denies_of_the_device_s_other_roles_too():
    """Whoever is given the role that was learned from one role has the other one no more, or never had."""
    today = policy(allow("b"), deny("home/locks/#", role="guest"), deny("home/#", role="other"))
    two = device("d-1", "r", "guest")
    used = [watched("home/#", SUBSCRIBE), watched("home/a"), saw("d-2", "b")]
    found = learn(today, [two, device("d-2", "r", "other")], used, "r")
    assert [(rule.topic, rule.actions) for rule in found.denies] == [("home/locks/#", {SUBSCRIBE})]
    assert found.newly_refused == ()


def test_what_was_observed_has_no_say_in_how_what_was_allowed_is_read():
    """Else a block that nobody is told to read allowed `home/d-2/x`, even if the other line is struck out."""
    used = [saw("d-2", "home/{device}/x"), watched("home/d-2/x")]
    found = learn(NOTHING, THREE, used)
    assert (topics(found), observed(found)) == (["home/{device}/x"], ["home/d-2/x"])


def test_no_plus_takes_in_what_was_observed():
    """It has a line of its own, to be struck out."""
    used = [*(saw("d-1", f"jobs/{number}") for number in range(3)), watched("jobs/secret")]
    found = learn(NOTHING, [ONE], used)
    assert (topics(found), observed(found)) == (["jobs/0", "jobs/1", "jobs/2"], ["jobs/secret"])


@pytest.mark.parametrize("topic", ["gateway/auth", "gateway/#", "$SYS/#", "$CONTROL/x"])
def test_no_rule_is_proposed_for_the_gateway_s_own_topics_and_the_bus_s(topic):
    """None of it passes; but the prefix of the service topics may have been another one."""
    found = learn(NOTHING, [ONE], [watched(topic, SUBSCRIBE)])
    assert (found.observed, list(found.barred[SUBSCRIBE])) == ({}, [topic])


def test_a_brace_that_is_a_letter_can_not_be_written_here_either():
    found = learn(NOTHING, [ONE], [watched("a/+{device}")])
    assert (found.observed, list(found.unwritable[PUBLISH])) == ({}, ["a/+{device}"])


def test_a_message_that_conditions_refused_is_a_rule_of_its_own():
    today = policy(allow("low/a", PUBLISH, retain=False))
    found = learn(today, [ONE], [saw("d-1", "low/a"), watched("low/a")])
    assert topics(found, PUBLISH, (2, False, None)) == ["low/a"]
    assert observed(found) == ["low/a"]


def test_what_a_rule_of_today_allows_by_now_is_learned_as_allowed():
    today = policy(allow("a/+"), allow("s/#", SUBSCRIBE, max_qos=0))
    seen = [watched(f"a/{number}") for number in range(3)]
    found = learn(today, [ONE], [*seen, watched("s/#", SUBSCRIBE)])
    assert (topics(found), found.observed) == (["a/+"], {})
    assert topics(found, SUBSCRIBE, (0, True, None)) == ["s/#"]


def test_a_filter_passed_as_a_whole_though_a_rule_covers_a_part_of_it():
    found = learn(policy(allow("a/x", SUBSCRIBE)), [ONE], [watched("a/#", SUBSCRIBE)])
    assert (observed(found, SUBSCRIBE), found.proposed_in_part) == (["a/#"], ())


def test_a_wide_filter_that_a_rule_grants_in_part_by_now_is_learned_so():
    today = filtering(allow("home/a/x", SUBSCRIBE, retain=False))
    found = learn(today, [ONE], [watched("home/#", SUBSCRIBE), watched("home/b/x", SUBSCRIBE)])
    assert (observed(found, SUBSCRIBE), found.on_wide_subscribe) == (["home/b/x"], OnWideSubscribe.FILTER)


def test_what_was_refused_before_or_after_it_is_told_and_allowed():
    found = learn(NOTHING, [ONE], [watched("a"), saw("d-1", "a", passage=REFUSED)])
    assert (observed(found), list(found.sometimes_refused[PUBLISH]), found.newly_allowed) == (
        ["a"],
        ["a"],
        (),
    )
    wide = learn(NOTHING, [ONE], [watched("#", SUBSCRIBE), saw("d-1", "b", SUBSCRIBE, REFUSED)])
    assert [one.template for one in wide.newly_allowed] == ["b"]


def test_what_was_allowed_and_what_was_observed_stand_apart():
    found = learn(policy(allow("a")), [ONE], [saw("d-1", "a"), watched("b", n=7)])
    assert (topics(found), observed(found)) == (["a"], ["b"])
    assert found.observed[PUBLISH]["b"].count == 7


def test_devices_of_a_role_are_learned_from_with_what_they_did_observed():
    today = policy(allow("a/+"), allow("b/+", role="s"))
    found = learn(today, [device("d-1", "r", "s")], [saw("d-1", "a/x"), saw("d-1", "b/x"), watched("c")], "r")
    assert (topics(found), observed(found), found.by_other_roles) == (["a/x"], ["c"], 1)


@given(RULES, st.lists(st.tuples(ASKED, st.booleans()), max_size=30))
def test_a_proposal_of_an_observed_time_allows_that_and_no_deny_less(rules, asked):
    """It allows what passed, unless a deny of today refuses that; and nothing that such a deny refuses."""
    today = policy(*(make(topic) for make, topic in rules))
    seen, passed = [], set()
    for (one, action, topic), is_watched in asked:
        identity = as_identity(one)
        decision = today.rights(identity).decide(action, topic)
        lets = is_watched and not decision.allowed and action in {PUBLISH, SUBSCRIBE}
        passage = ALLOWED if decision.allowed else OBSERVED if lets else REFUSED
        seen.append(saw(one.device_id, template_of(topic, identity, decision.allow_rules), action, passage))
        if passage is not REFUSED:
            passed.add((one.device_id, action, topic))
    found = learn(today, THREE, seen)
    assert found.newly_refused == ()
    alone = Policy([found.role()], sensitive=(), limits=Limits(), reserved="gateway")
    for one in THREE:
        mine, after = today.rights(as_identity(one)), alone.rights(as_identity(one, "learned"))
        for action, topic in {case[1:] for case, _ in asked}:
            by_today = mine.decide(action, topic)
            is_denied = by_today.rule is not None and by_today.rule.effect is Effect.DENY
            if (one.device_id, action, topic) in passed and not is_denied:
                assert after.decide(action, topic).allowed
            assert not (is_denied and after.decide(action, topic).allowed)
