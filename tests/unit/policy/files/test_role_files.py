"""Role files: limits, includes, groups and wide subscriptions, and everything that can be wrong with them."""

from __future__ import annotations

import pytest

from gateway.policy.analysis.assertion_syntax import AssertionFault, parse
from gateway.policy.analysis.dead_rules import warnings
from gateway.policy.analysis.prover import Prover
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action
from gateway.policy.engine.rules import OnWideSubscribe
from gateway.policy.files.loader import PolicyError, load_policy

RULE = '[[allow]]\nactions = ["publish"]\ntopics = ["{}"]\n'
GROUPS = '[[group]]\nname = "climate"\ntopics = ["rooms/+/temp", "rooms/{label.room}/humidity"]\n'


def role(acl, name, text):
    (acl / "roles" / f"{name}.toml").write_text(text)


def load(acl):
    return load_policy(acl, reserved="gateway")


def problems(acl):
    with pytest.raises(PolicyError) as found:
        load(acl)
    return [one.replace(f"{acl}/", "") for one in found.value.problems]


def test_a_role_says_its_limits(acl):
    role(acl, "lamp", "[limits]\nmessages_per_second = 5\nsubscriptions = 2\n" + RULE.format("a"))
    made = load(acl)
    limits = made.limits_of(("lamp",))
    assert (limits.messages_per_second, limits.subscriptions_in_all, limits.in_flight) == (5, 2, 7)
    assert limits.location("subscriptions") == f"{acl}/roles/lamp.toml:3"
    assert made.digest != load_without(acl, "lamp", "subscriptions = 2\n").digest


def load_without(acl, name, text):
    path = acl / "roles" / f"{name}.toml"
    path.write_text(path.read_text().replace(text, ""))
    return load(acl)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[limits]\nconnections = 5\n",
            'roles/lamp.toml:2: "connections" stands in limits.toml alone, for it is of',
        ),
        ("[limits]\ntopic_levels = 5\n", "it holds for all rules and proofs"),
        ("[limits]\nlogin_failures_per_minute = 5\n", "it counts before anybody has logged in"),
        (
            "[limits]\nmesages = 5\n",
            'roles/lamp.toml:2: unknown limit "mesages"; in a role: messages_per_second,',
        ),
        (
            "[limits]\nsubscriptions = 0\n",
            'roles/lamp.toml:2: "subscriptions" has to be a whole number, 1 or more',
        ),
        ("[limits]\nsubscriptions = true\n", "has to be a whole number"),
        ("[limits]\n", "roles/lamp.toml:1: it sets no limit"),
        ("limits = 5\n", 'roles/lamp.toml:1: "limits" is written as a block of its own: [limits]'),
        ('subscribe = "all"\n', 'roles/lamp.toml:1: "subscribe" says what becomes of a SUBSCRIBE'),
        ("subscribe = true\n", '"subscribe" has to be a string'),
        ('include = ["lump"]\n', 'roles/lamp.toml:1: there is no role "lump" to include; write '),
        (
            'include = ["lamp"]\n',
            "roles/lamp.toml:1: roles include each other in a circle: lamp includes lamp",
        ),
        ('include = "sensor"\n', '"include" has to be a list'),
        ("include = []\n", '"include" has to be a list of one or more strings'),
    ],
)
def test_what_a_role_may_not_say(acl, text, says):
    role(acl, "lamp", text + RULE.format("a"))
    assert says in "\n".join(problems(acl))


def test_a_circle_is_told_once_with_its_way(acl):
    role(acl, "a", 'include = ["b"]\n')
    role(acl, "b", '\ninclude = [\n "sensor",\n "c",\n]\n')
    role(acl, "c", 'include = ["a"]\n')
    assert problems(acl) == [
        "roles/a.toml:1: roles include each other in a circle: a includes b includes c includes a; remove one"
    ]


def test_who_has_a_role_has_what_it_includes(acl):
    role(acl, "base", 'subscribe = "filter"\n[limits]\npacket_size = 500\n' + RULE.format("base/{device}"))
    role(acl, "mid", 'include = ["base"]\n' + RULE.format("mid"))
    role(acl, "top", 'include = ["mid", "sensor"]\n[[deny]]\nactions = ["publish"]\ntopics = ["mid"]\n')
    made = load(acl)
    lamp = made.rights(Identity("lamp-1", ("top",), {}, "c"))
    assert lamp.decide(Action.PUBLISH, "base/lamp-1").rule_location == f"{acl}/roles/base.toml:6"
    assert not lamp.decide(Action.PUBLISH, "mid").allowed
    assert lamp.decide(Action.PUBLISH, "devices/lamp-1/telemetry").allowed
    assert made.grants_in_part(("top",))
    assert not made.grants_in_part(("sensor",))
    assert made.limits_of(("top",)).packet_size == 500
    assert made.expanded(("top", "base")) == ("top", "mid", "sensor", "base")
    assert Prover(made).prove(parse("no role:mid publish base/#"), {}).counterexamples
    assert Prover(made).prove(parse("no role:top publish mid"), {}).holds


def test_a_rule_names_a_group_and_is_a_rule_for_each_of_its_filters(acl):
    (acl / "topics.toml").write_text(GROUPS)
    role(acl, "lamp", RULE.format("@climate"))
    made = load(acl)
    assert [(rule.topic, rule.group, rule.line) for rule in made.roles["lamp"].rules] == [
        ("rooms/+/temp", "climate", 3),
        ("rooms/{label.room}/humidity", "climate", 3),
    ]
    lamp = made.rights(Identity("lamp-1", ("lamp",), {"room": ("hall", "attic")}, "c"))
    assert lamp.decide(Action.PUBLISH, "rooms/attic/humidity").allowed
    assert not lamp.decide(Action.PUBLISH, "@climate").allowed
    prover = Prover(made)
    assert prover.prove(parse("no role:lamp publish rooms/# except @climate"), {}).holds
    assert prover.prove(parse("no role:sensor publish @climate"), {}).holds
    assert not prover.prove(parse("no role:lamp publish @climate"), {}).holds
    with pytest.raises(AssertionFault, match=r'there is no group "@climat" in topics.toml; known: @climate'):
        prover.prove(parse("no role:lamp publish @climat"), {})


def test_a_group_may_name_what_is_sealed(acl):
    (acl / "topics.toml").write_text('[[group]]\nname = "secret"\ntopics = ["vault/#"]\n')
    (acl / "encryption.toml").write_text('[[sensitive]]\ntopics = ["@secret"]\n')
    assert load(acl).sensitive("vault/x")
    (acl / "topics.toml").write_text('[[group]]\nname = "secret"\ntopics = ["vault/{device}"]\n')
    assert problems(acl)[0].startswith('encryption.toml:2: the topic "vault/{device}" has a placeholder')


@pytest.mark.parametrize(
    ("topics", "says"),
    [
        ("", "topics.toml:1: it has no group"),
        ('[[group]]\ntopics = ["a"]\n', 'topics.toml:1: "name" is missing'),
        ('[[group]]\nname = "Climate"\ntopics = ["a"]\n', 'topics.toml:2: "Climate" is no name of a group'),
        ('[[group]]\nname = "a"\ntopics = []\n', '"topics" has to be a list of one or more'),
        ('[[group]]\nname = "a"\ntopics = ["b#"]\n', 'topics.toml:3: the topic "b#" has a #'),
        (
            '[[group]]\nname = "a"\ntopics = ["@b"]\n',
            'topics.toml:3: "@b": a group lists filters, not groups',
        ),
        ('[[group]]\nname = "a"\ntopic = ["b"]\n', 'unknown key "topic"'),
        ('[[group]]\nname = "a"\ntopics = ["b"]\n' * 2, 'topics.toml:5: there is a group "a" already'),
        ('[[groups]]\nname = "a"\n', 'unknown key "groups"; known here: group'),
    ],
)
def test_what_topics_toml_may_not_say(acl, topics, says):
    (acl / "topics.toml").write_text(topics)
    assert says in "\n".join(problems(acl))


def test_a_group_that_is_not_there_is_no_topic(acl):
    role(acl, "lamp", '[[allow]]\nactions = ["publish"]\ntopics = [\n "@climate",\n "@Home",\n]\n')
    assert [one.partition(";")[0] for one in problems(acl)] == [
        'roles/lamp.toml:4: there is no group "@climate" in topics.toml (there: none)',
        'roles/lamp.toml:5: there is no group "@Home" in topics.toml (there: none)',
    ]
    role(acl, "lamp", RULE.format("@home/lamp"))
    assert load(acl).roles["lamp"].rules[0].topic == "@home/lamp", "a topic with more levels is a topic"


def test_a_limit_above_limits_toml_and_a_group_that_nobody_uses_are_warned_of(acl):
    (acl / "topics.toml").write_text(GROUPS)
    role(acl, "lamp", "[limits]\nin_flight = 8\n" + RULE.format("a"))
    assert [str(one).replace(f"{acl}/", "") for one in warnings(load(acl), None)] == [
        (
            'roles/lamp.toml:2: "in_flight = 8" is above in_flight = 7 in limits.toml, which counts. '
            "Lower it, or raise that one"
        ),
        'topics.toml: "@climate" is used by no rule. Remove it, or name it in one',
    ]


def test_a_role_says_that_wide_filters_are_taken(acl):
    role(acl, "lamp", 'subscribe = "filter"\n[[allow]]\nactions = ["subscribe"]\ntopics = ["a/b"]\n')
    made = load(acl)
    assert made.roles["lamp"].subscribe is OnWideSubscribe.FILTER
    assert made.rights(Identity("x", ("lamp",), {}, "c")).decide_filter("#").is_partial
    assert load_without(acl, "lamp", 'subscribe = "filter"\n').digest != made.digest


def test_cases_may_have_labels_with_several_values(acl):
    role(acl, "lamp", RULE.format("rooms/{label.room}"))
    (acl / "cases.toml").write_text(
        '[[case]]\ndevice = "x"\nroles = ["lamp"]\nlabels = { room = ["a", "b"] }\naction = "publish"\n'
        'topic = "rooms/b"\nexpected = "allow"\n'
    )
    load(acl)
    (acl / "cases.toml").write_text(
        '[[case]]\ndevice = "x"\nroles = ["lamp"]\nlabels = { room = ["a", "a/b"] }\naction = "publish"\n'
        'topic = "rooms/b"\nexpected = "allow"\n'
    )
    assert '"labels" has to be a table of strings' in problems(acl)[0]
