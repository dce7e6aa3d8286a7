"""Statements are decided exactly: against brute force, and by examples of all that makes topics special."""

from __future__ import annotations

import re
import time

import pytest
from harness.exhaustive_policy_oracle import fits, lawful, means, people_for, templates, topics_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.analysis.assertion_syntax import AssertionFault, parse
from gateway.policy.analysis.prover import Prover
from gateway.policy.analysis.representative_cases import Undecided
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule

PUBLISH = Action.PUBLISH


def allow(topic, role="r", line=1, actions=(PUBLISH,), **more):
    return Rule(
        Effect.ALLOW, frozenset(actions), topic, role=role, file=f"acl/roles/{role}.toml", line=line, **more
    )


def deny(topic, role="r", line=9, actions=(PUBLISH,)):
    return Rule(Effect.DENY, frozenset(actions), topic, role=role, file=f"acl/roles/{role}.toml", line=line)


def policy(*rules, limits=None, reserved="gateway"):
    names = dict.fromkeys(rule.role for rule in rules)
    roles = [Role(name, "", tuple(rule for rule in rules if rule.role == name)) for name in names]
    return Policy(roles, sensitive=(), limits=limits or Limits(), reserved=reserved)


def prove(made, text, devices=None):
    return Prover(made).prove(parse(text), devices or {})


def against(made, text, devices=None):
    """The counterexamples, as text."""
    return [str(one) for one in prove(made, text, devices).counterexamples]


_rule = st.builds(lambda effect, topic: effect(topic), st.sampled_from([allow, allow, deny]), templates)


def by_hand(rules, asked, excepted, most_levels, most_bytes):
    """Whether anybody at all may publish to a topic of the filter."""
    allows = [rule.topic for rule in rules if rule.effect is Effect.ALLOW]
    others = [*excepted, *(rule.topic for rule in rules if rule.effect is Effect.DENY)]
    spoken_of = lawful(most_levels, most_bytes)
    return any(
        spoken_of & topics_of([asked], one) & topics_of(allows, one) - topics_of(others, one)
        for one in people_for([asked, *allows, *others])
    )


@settings(max_examples=200)
@given(
    rules=st.lists(_rule, min_size=1, max_size=4),
    asked=templates,
    excepted=st.lists(templates, max_size=1),
    most_levels=st.sampled_from([1, 2, 3, 3]),
    most_bytes=st.sampled_from([65_535, 65_535, 1, 2, 3, 4, 5]),
)
def test_what_is_proved_is_so_and_what_is_not_has_an_example(rules, asked, excepted, most_levels, most_bytes):
    made = policy(*rules, limits=Limits(topic_levels=most_levels, topic_length=most_bytes), reserved="g")
    if asked == "g" or asked.startswith("g/"):
        return
    text = " except ".join([f"no any publish {asked}", *excepted])
    found = prove(made, text).counterexamples
    assert bool(found) is by_hand(rules, asked, excepted, most_levels, most_bytes), text
    for one in found:
        identity, topic = one.case.identity, one.case.topic
        assert made.rights(identity).decide(PUBLISH, topic).allow_rules == one.rules
        person = (identity.device_id, identity.client_id, identity.labels.get("room", ()))
        levels = tuple(topic.split("/"))
        assert any(fits(one, levels) for one in means(asked, person))
        assert not any(fits(other, levels) for one in excepted for other in means(one, person))


# --- what makes topics special, one by one ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "text", "says"),
    [
        # A literal, a wildcard, everything.
        ([allow("locks/a")], "no any publish locks/#", 'any device with the role "r" may publish to "lo'),
        ([allow("#")], "no any publish locks/+/open", 'may publish to "locks/x/open"'),
        ([allow("+/x")], "no any publish locks/#", '"locks/x"'),
        # `#` matches the parent too.
        ([allow("locks/#")], "no any publish locks", '"locks"'),
        ([allow("locks/#"), deny("locks/+/#")], "no any publish locks/#", '"locks"'),
        ([allow("locks/#"), deny("locks")], "no any publish locks/#", '"locks/x"'),
        ([allow("locks/#"), deny("locks"), deny("locks/+")], "no any publish #", '"locks/x/x"'),
        # An empty level is a level.
        ([allow("a//b")], "no any publish a/+/b", '"a//b"'),
        ([allow("+/+"), deny("a/+")], "no any publish /+", '"/x"'),
        # A placeholder is anybody's name, and `$` at the beginning is a word's alone.
        ([allow("{device}/x")], "no any publish locks/#", '(id "locks") may publish to "locks/x"'),
        ([allow("a/{label.room}")], "no any publish 'a/kitchen hall'", '(label room = "kitchen hall") may'),
        ([allow("a/{client}")], "no any publish a/$x", '(client id "$x") may'),
        ([allow("{device}/{device}")], "no any publish a/#", '(id "a") may publish to "a/a"'),
        ([allow("{device}/{device}")], "no any publish +/{label.room}", 'label room = "device-1") may'),
        ([allow("{device}/{device}")], "no any publish {device}/{client}", 'client id "device-1") may'),
        ([allow("$SYS/+")], "no any publish $SYS/#", '"$SYS/x"'),
        # Somebody else's name escapes a deny, and so does a missing label, or a client id.
        ([allow("+"), deny("{device}")], "no any publish +", '"x"'),
        ([allow("a/#"), deny("a/{client}")], "no any publish a/+", '"a/x"'),
        ([allow("a/{device}"), deny("a/{label.name}")], "no any publish #", '"a/device-1"'),
        ([allow("a/{device}"), deny("a/b")], "no any publish #", '(id "device-1")'),
        # Of a label with several values two rules may mean two: from one room to the other.
        ([allow("{label.a}/{label.b}"), deny("{label.a}/{label.a}")], "no any publish +/{label.a}", "/"),
        # A condition admits some message all the same.
        ([allow("a", max_qos=0, retain=False, max_payload=0)], "no any publish a", '"a"'),
        # What is used already is no name for somebody new.
        ([allow("+/+"), deny("x/+"), deny("x1/x1")], "no any publish #", '"x2/x2"'),
        ([allow("a/{device}"), deny("a/device-1")], "no any publish #", '"a/device-2"'),
    ],
)  # fmt: skip
def test_what_does_not_hold_has_an_example(rules, text, says):
    (found,) = against(policy(*rules), text)
    assert says in found


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([allow("locks/front")], "no any publish doors/#"),
        ([allow("locks/front")], "no any subscribe #"),
        ([allow("#"), deny("locks/#")], "no any publish locks/#"),
        ([allow("#"), deny("locks/#")], "no any publish locks"),
        ([allow("locks/+"), deny("locks"), deny("+/+")], "no any publish locks/#"),
        # `+` and `#` do not reach `$`, nor does a placeholder: whoever it is, at the beginning.
        ([allow("#"), allow("+/x"), allow("{client}/x"), allow("{label.l}/#")], "no any publish $SYS/#"),
        ([allow("$SYS/x")], "no any publish +/x"),
        ([allow("$SYS/x")], "no any publish #"),
        ([allow("$x/+"), allow("{client}/{client}")], "no any publish {client}/$x"),
        # No device is called so.
        ([allow("{device}/x")], "no any publish _locks/#"),
        ([allow("a/{device}")], "no any publish a//#"),
        ([allow("{label.room}/x"), allow("{client}/x")], "no any publish /x"),
        ([allow("a/{label.room}")], "no any publish a/$x"),
        ([allow(f"a/{{device}}/{'d' * 65}/{{device}}")], "no any publish a/d/+/e"),
        ([allow("a/{device}")], f"no any publish a/{'d' * 65}"),
        ([allow("{device}/{device}")], "no any publish a/b"),
        # The same name in allow and deny, and in the statement.
        ([allow("a/{device}"), deny("+/{device}/#")], "no any publish #"),
        ([allow("a/{device}"), allow("a/{device}/{client}")], "no any publish # except a/{device}/#"),
        ([allow("a/{device}/x")], "no any publish a/+/y"),
        ([allow("a/{client}/{client}"), deny("+/{client}/{client}")], "no any publish #"),
        # The service topics are not spoken of: no rule reaches them.
        ([allow("gateway/#")], "no any publish +/auth"),
        ([allow("gateway/#")], "no any publish #"),
    ],
)
def test_what_holds_is_proved(rules, text):
    assert against(policy(*rules), text) == []


def test_the_limits_count():
    deep = policy(allow("a/#"), deny("a"), deny("a/+"), limits=Limits(topic_levels=2))
    assert against(deep, "no any publish #") == []
    long = policy(allow("rooms/{device}"), limits=Limits(topic_length=6))
    assert against(long, "no any publish #") == []


@pytest.mark.parametrize(
    ("rules", "most_bytes", "topic"),
    [
        ([allow("rooms/{device}"), deny("rooms/a"), deny("rooms/b")], 7, "rooms/d"),
        ([allow("rooms/{device}/{client}"), deny("rooms/a/+"), deny("+/+/c")], 9, "rooms/d/e"),
        # An empty level is the shortest, and the only one of a topic can't be empty.
        ([allow("+"), deny("x")], 1, "a"),
        ([allow("+/+/b")], 3, "//b"),
        ([allow("+/+"), deny("/+")], 2, "a/"),
        ([allow("+/+"), deny("+/")], 2, "/a"),
        ([allow("+/+"), deny("+/"), deny("/+")], 2, None),
        ([allow("+/+"), deny("+/"), deny("/+")], 3, "x/x"),
        ([allow("+/+/+"), deny("///#"), deny("+//+")], 3, "/a/"),
    ],
)
def test_where_the_limit_is_tight_names_are_short(rules, most_bytes, topic):
    made = policy(*rules, limits=Limits(topic_length=most_bytes))
    found = prove(made, "no any publish #").counterexamples
    assert [one.case.topic for one in found] == ([] if topic is None else [topic])


def test_what_would_take_for_ever_is_not_decided():
    """Each level may be empty or not, and each rule asks for another one to be."""
    rules = [
        allow("/".join("+" * 20)),
        *(deny("+/" * at + "/" + "+/" * (18 - at) + "+") for at in range(1, 18)),
    ]
    made = policy(*rules, limits=Limits(topic_length=25))
    with pytest.raises(Undecided, match="topic_length"):
        against(made, "no any publish #")


def test_a_role_is_judged_by_its_own_rules():
    two = policy(allow("locks/#", "guest"), deny("locks/#", "owner"), allow("a", "owner"))
    assert against(two, "no role:guest publish locks/#") == [
        'any device with the role "guest" may publish to "locks"'
    ]
    assert against(two, "no role:owner publish locks/#") == []
    assert len(against(two, "no any publish #")) == 2
    assert len(against(two, "no role:owner,role:guest publish #")) == 2


def test_only_speaks_of_all_other_roles():
    two = policy(allow("locks/#", "guest"), allow("locks/#", "owner"), allow("a", "other"))
    assert against(two, "only role:owner, role:guest publish locks/#") == []
    assert against(two, "only role:owner publish locks/#") == [
        'any device with the role "guest" may publish to "locks"'
    ]
    assert len(against(two, "only role:other publish locks/#")) == 2


def test_a_device_is_judged_as_it_is_stored():
    made = policy(
        allow("rooms/{label.room}/#"),
        allow("c/{client}", "s"),
        deny("rooms/+/{device}", "s"),
        allow("{device}", "t"),
    )
    lamp = Device("lamp-1", ("r", "s"), {"room": ("hall",)}, True, "", 1, 0, 0)
    devices = {"lamp-1": lamp}

    def told(text):
        return against(made, text, devices)

    assert told("no device:lamp-1 publish rooms/kitchen/#") == []
    assert told("no device:lamp-1 publish rooms/hall/lamp-1") == []
    assert told("no device:lamp-1 publish rooms/+/x") == ['device "lamp-1" may publish to "rooms/hall/x"']
    assert told("no device:lamp-1 publish c/lamp-2") == [
        'device "lamp-1" with client id "lamp-2" may publish to "c/lamp-2"'
    ]
    assert told("no device:lamp-1 publish lamp-1") == []
    # A label that it hasn't got; and one whose value looks like a placeholder is a word like others.
    devices["lamp-1"] = Device("lamp-1", ("r",), {}, True, "", 1, 0, 0)
    assert told("no device:lamp-1 publish #") == []
    devices["lamp-1"] = Device("lamp-1", ("r",), {"room": ("{client}", "x")}, True, "", 1, 0, 0)
    assert told("no device:lamp-1 publish # except rooms/{client}/# except rooms/x/#") == [
        'device "lamp-1" with client id "client-1" may publish to "rooms/{client}"'
    ]


def test_the_example_that_the_module_gives():
    hears = [Action.SUBSCRIBE]
    text, own = "no role:guest subscribe locks/#", allow("locks/{device}", "guest", actions=hears)
    (found,) = prove(policy(own, deny("locks/door", "guest", actions=hears)), text).counterexamples
    assert found.case.topic == "locks/device-1"
    assert [rule.topic for rule in found.near_misses] == ["locks/door"]
    assert prove(policy(own, deny("locks/#", "guest", actions=hears)), text).holds


def test_an_example_names_the_rules_that_admit_it_and_the_denies_that_do_not_stop_it():
    made = policy(
        allow("#", line=3), allow("locks/+", line=4, max_qos=1), deny("locks/{client}", line=7), deny("b")
    )
    (found,) = prove(made, "no role:r publish locks/+").counterexamples
    assert list(found.text()) == [
        'acl/roles/r.toml:3 allows publish on "#"',
        'acl/roles/r.toml:4 allows publish on "locks/+" (up to QoS 1)',
        'acl/roles/r.toml:7 denies publish on "locks/{client}", which does not match it',
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", 'write "no WHO ACTION FILTER"'),
        ("role:r publish a", 'write "no WHO'),
        ("no role:r publish", 'write "no WHO'),
        ("no role:r publish ", 'write "no WHO'),
        ("no r publish a", '"r" is nobody'),
        ("no role: publish a", '"role:" is nobody'),
        ("no label:r publish a", '"label:r" is nobody'),
        ("no role:r,, any publish a", 'write "no WHO'),
        ("no role:r write a", 'unknown action "write"; known: publish, subscribe'),
        ("no role:r publish a#", 'the topic "a#" has a #'),
        ("no role:r publish {devise}/a", "a placeholder is one whole level"),
        ("no role:r publish ''", 'the topic "" is empty'),
        ("no role:r subscribe $share/g/a", "begins with $share"),
        ("only any publish a", '"only" takes roles'),
        ("only device:a publish a", '"only" takes roles'),
    ],
)
def test_what_is_no_statement(text, says):
    with pytest.raises(AssertionFault, match=re.escape(says)):
        parse(text)


def test_a_statement_is_read_as_it_is_written():
    text = """no  role:a , role:b,any  publish  'living room/+' except "a, b" except {device}/#"""
    found = parse(f" {text} ")
    assert found.roles == ("a", "b", "any")
    assert found.topics == "living room/+"
    assert found.excepted == ("a, b", "{device}/#")
    assert found.text == text


@pytest.mark.parametrize(
    "rest", ["a, b", "a,b", "a exept b", "a b", "subscribe a", "a except", "a except b c", "'a", 'a"b"']
)
def test_what_is_misspelt_proves_nothing(rest):
    with pytest.raises(AssertionFault, match="is not FILTER"):
        parse(f"no any publish {rest}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no role:q publish a", 'there is no role "q"; known: r'),
        ("only role:q publish a", 'there is no role "q"'),
        ("no any publish gateway/#", "the gateway's own"),
        ("no any subscribe gateway", "the gateway's own"),
    ],
)
def test_what_would_hold_by_mistake_is_refused(text, says):
    with pytest.raises(AssertionFault, match=says):
        prove(policy(allow("a")), text)


def test_two_hundred_roles_and_five_thousand_rules():
    """Decided in well under two seconds, when nothing else runs; here it must end at all."""
    rules = []
    for number in range(200):
        for one in range(12):
            rules += [
                allow(f"site/{one}/+/{{device}}/#", f"role-{number}", one),
                deny(f"site/{one}/+/{{device}}/secret/#", f"role-{number}", one),
            ]
        rules.append(deny("site/+/locks/#", f"role-{number}"))
    made = policy(*rules)
    assert sum(len(role.rules) for role in made.roles.values()) == 5_000
    prover = Prover(made)
    began = time.process_time()
    assert prover.prove(parse("no any publish site/+/locks/#"), {}).holds
    assert prover.prove(parse("no any publish site/+/+/{device}/secret"), {}).holds
    assert len(prover.prove(parse("no any publish site/#"), {}).counterexamples) == 200
    assert time.process_time() - began < 20
