"""The judge: closed by default, deny over allow, and nothing an identity carries widens a rule."""

from __future__ import annotations

import dataclasses
from itertools import chain, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mqtt.topics import covers, matches, name_fault
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.placeholders import placeholder_values, resolve
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule, passes_when_observed

LAMP = Identity("lamp-1", ("r",), {"room": ("kitchen",)}, "client-7")
PUBLISH, SUBSCRIBE = Action.PUBLISH, Action.SUBSCRIBE


def rule(topic, effect=Effect.ALLOW, actions=tuple(Action), **more):
    return Rule(effect, frozenset(actions), topic, role="r", file="r.toml", **more)


def deny(topic, **more):
    return rule(topic, Effect.DENY, **more)


def policy(*rules, sensitive=(), limits=None, reserved="gateway"):
    return Policy([Role("r", "", rules)], sensitive=sensitive, limits=limits or Limits(), reserved=reserved)


def access(*rules, identity=LAMP, **more):
    return policy(*rules, **more).rights(identity)


def test_without_a_rule_nothing_is_allowed():
    lamp = access(rule("a", actions=[PUBLISH]))
    assert lamp.decide(PUBLISH, "a").allowed
    for action in (SUBSCRIBE, Action.ENCRYPT, Action.DECRYPT):
        decision = lamp.decide(action, "a")
        assert not decision.allowed
        assert decision.rule is None
    assert not lamp.decide(PUBLISH, "a/b").allowed
    assert not lamp.decide_filter("a").allowed


@pytest.mark.parametrize("roles", [(), ("gone",), ("R",)])
def test_without_a_known_role_nothing_is_allowed(roles):
    nobody = access(rule("#"), identity=dataclasses.replace(LAMP, roles=roles))
    decision = nobody.decide(PUBLISH, "a")
    assert not decision.allowed
    assert "role" in decision.reason
    assert not nobody.decide_filter("a").allowed
    assert nobody.rules() == ()


def test_only_the_roles_of_the_identity_count():
    both = Policy(
        [Role("r", "", (rule("a"),)), Role("s", "", (rule("b"),))],
        sensitive=(),
        limits=Limits(),
        reserved="gateway",
    )
    assert not both.rights(LAMP).decide(PUBLISH, "b").allowed
    two = both.rights(dataclasses.replace(LAMP, roles=("r", "s")))
    assert two.decide(PUBLISH, "a").allowed
    assert two.decide(PUBLISH, "b").allowed


def test_a_role_that_is_gone_takes_all_with_it():
    """Its file may have had a deny, and nobody would see that it is missing."""
    policy = Policy(
        [Role("r", "", (rule("a", actions=[*Action]),))], sensitive=(), limits=Limits(), reserved="gateway"
    )
    lamp = policy.rights(dataclasses.replace(LAMP, roles=("r", "gone")))
    assert not any(lamp.decide(action, "a").allowed for action in Action)
    assert not lamp.decide_filter("a").allowed
    assert "lacks a role" in lamp.decide(PUBLISH, "a").reason
    assert passes_when_observed("a", lamp.decide(PUBLISH, "a"))
    assert lamp.rules() == ()
    assert not any(lamp.permissions().values())


def test_a_deny_beats_every_allow_and_is_named():
    lamp = access(rule("a/#"), rule("a/secret"), deny("+/secret", line=7))
    decision = lamp.decide(PUBLISH, "a/secret")
    assert not decision.allowed
    assert decision.rule.line == 7
    assert decision.allow_rules == ()
    assert lamp.decide(PUBLISH, "a/other").allowed


def test_a_deny_of_another_role_beats_too():
    two = Policy(
        [Role("r", "", (rule("#"),)), Role("s", "", (deny("a"),))],
        sensitive=(),
        limits=Limits(),
        reserved="gateway",
    ).rights(dataclasses.replace(LAMP, roles=("r", "s")))
    assert not two.decide(PUBLISH, "a").allowed


def test_a_filter_needs_one_allow_that_covers_all_of_it():
    lamp = access(rule("a/+"), rule("a/b/#"))
    assert lamp.decide_filter("a/+").allowed
    assert lamp.decide_filter("a/b/+/c").allowed
    assert not lamp.decide_filter("a/#").allowed  # comqtt #169
    assert not lamp.decide_filter("#").allowed
    assert not lamp.decide_filter("+/b").allowed


def test_a_filter_denied_in_part_is_allowed_and_denied_as_a_whole_is_not():
    lamp = access(rule("a/#"), deny("a/secret/#"))
    assert lamp.decide_filter("a/#").allowed
    assert lamp.decide_filter("a/+").allowed
    assert not lamp.decide_filter("a/secret").allowed
    assert not lamp.decide_filter("a/secret/#").allowed
    assert not lamp.decide(SUBSCRIBE, "a/secret/x").allowed


def test_a_shared_filter_is_judged_by_its_filter():
    lamp = access(rule("a/#"))
    assert lamp.decide_filter("$share/g/a/+").allowed
    assert not lamp.decide_filter("$share/g/b").allowed
    assert not lamp.decide_filter("$share/a/#").allowed
    assert not lamp.decide_filter("$share/g/$share/g/a").allowed


def test_hash_as_a_rule_allows_every_filter_but_the_dollar_topics():
    lamp = access(rule("#"))
    for topic_filter in ("#", "+/#", "+", "/", "/#", "a/b/c"):
        assert lamp.decide_filter(topic_filter).allowed, topic_filter
    for topic_filter in ("$SYS/#", "$SYS/broker", "$share/g/$SYS/#"):
        assert not lamp.decide_filter(topic_filter).allowed, topic_filter
    assert not lamp.decide(PUBLISH, "$SYS/x").allowed
    assert access(rule("$SYS/#")).decide_filter("$SYS/broker/+").allowed


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0", "\ud800", "a" * 65_536])
def test_an_invalid_topic_is_denied_with_a_reason(topic):
    decision = access(rule("#")).decide(PUBLISH, topic)
    assert not decision.allowed
    assert "topic name" in decision.reason


@pytest.mark.parametrize("topic_filter", ["", "a+", "#/a", "$share/g", "$share//a", "\0"])
def test_an_invalid_filter_is_denied_with_a_reason(topic_filter):
    decision = access(rule("#")).decide_filter(topic_filter)
    assert not decision.allowed
    assert "topic filter" in decision.reason


def test_topics_are_bounded_by_the_limits():
    lamp = access(rule("#"), limits=Limits(topic_levels=3, topic_length=10))
    assert lamp.decide(PUBLISH, "a/b/c").allowed
    assert "3 levels" in lamp.decide(PUBLISH, "a/b/c/d").reason
    assert lamp.decide(PUBLISH, "ä" * 5).allowed
    assert "10 bytes" in lamp.decide(PUBLISH, "ä" * 6).reason
    assert not lamp.decide_filter("a/b/c/#").allowed


def test_the_reserved_prefix_is_nobodys():
    lamp = access(rule("#"), rule("gateway/#"), rule("$SYS/#"))
    asked = {(PUBLISH, f"gateway/{one}") for one in ("auth", "validate", "encrypt", "decrypt")}
    heard = {(SUBSCRIBE, f"{topic}_response") for _, topic in asked}
    given = asked | heard | {(SUBSCRIBE, "gateway/reply/lamp-1/x"), (SUBSCRIBE, "gateway/reply/lamp-1")}
    others = {
        "gateway",
        "gateway/",
        "gateway/x",
        "gateway/encrypt/x",
        "gateway/reply",
        "gateway/reply/lamp-2/x",
    }
    for topic in others | {topic for _, topic in given}:
        for action in Action:
            decision = lamp.decide(action, topic)
            assert decision.allowed is ((action, topic) in given), (action, topic)
            assert decision.allowed or "gateway itself" in decision.reason
    for topic_filter in (
        "gateway",
        "gateway/#",
        "gateway/+",
        "gateway/a/#",
        "gateway/+_response",
        "gateway/reply/#",
        "gateway/reply/+/x",
        "gateway/reply/lamp-2/#",
        "$share/g/gateway/#",
        "$share/g/gateway/encrypt_response",
        "$share/g/gateway/reply/lamp-1/#",
    ):
        assert not lamp.decide_filter(topic_filter).allowed, topic_filter
    for topic_filter in ("gateway/encrypt_response", "gateway/reply/lamp-1/#", "gateway/reply/lamp-1/+/x"):
        assert access().decide_filter(topic_filter).allowed, topic_filter
    for topic in ("gateways", "gateway2/x", "a/gateway", "Gateway"):
        assert lamp.decide(PUBLISH, topic).allowed, topic
    assert lamp.decide_filter("#").allowed
    assert lamp.decide_filter("+/encrypt").allowed


def test_the_reserved_prefix_may_have_levels():
    lamp = access(rule("#"), reserved="home/gw")
    assert lamp.decide(PUBLISH, "home/gw/auth").allowed
    assert not lamp.decide(PUBLISH, "home/gw/other").allowed
    assert not lamp.decide_filter("home/gw/#").allowed
    assert lamp.decide(PUBLISH, "home/gwx").allowed
    assert lamp.decide_filter("home/#").allowed


def test_sensitive_topics():
    some = policy(sensitive=["devices/+/private/#", "locks/#"])
    for topic in ("devices/a/private", "devices/a/private/pin/x", "locks"):
        assert some.sensitive(topic), topic
    for topic in ("devices/a/public", "devices/a/b/private", "lock", "devices//Private"):
        assert not some.sensitive(topic), topic
    assert not policy().sensitive("a")
    assert policy(sensitive=["#"]).sensitive("a/b")


@pytest.mark.parametrize(
    ("topic", "good", "bad"),
    [
        ("devices/{device}/state", "devices/lamp-1/state", "devices/lamp-2/state"),
        ("{device}/#", "lamp-1/x/y", "lamp-2/x"),
        ("c/{client}", "c/client-7", "c/lamp-1"),
        ("{label.room}/+/x", "kitchen/1/x", "room/1/x"),
        ("{device}/{label.room}/{client}", "lamp-1/kitchen/client-7", "lamp-1/kitchen/kitchen"),
        ("devices/{device}/+", "devices/lamp-1/{device}", "devices/{device}/x"),
    ],
)
def test_placeholders_are_replaced_literally(topic, good, bad):
    lamp = access(rule(topic))
    assert lamp.decide(PUBLISH, good).allowed
    assert not lamp.decide(PUBLISH, bad).allowed
    assert lamp.decide_filter(good).allowed
    assert not lamp.decide_filter(bad).allowed
    assert not lamp.decide_filter("#").allowed


def test_two_placeholders_with_the_same_value_both_count():
    twin = dataclasses.replace(LAMP, client_id="lamp-1")
    assert access(rule("{client}/x"), rule("{device}/y"), identity=twin).decide(PUBLISH, "lamp-1/x").allowed
    assert access(rule("{client}/x"), rule("{device}/y"), identity=twin).decide(PUBLISH, "lamp-1/y").allowed


def test_a_missing_label_matches_nothing():
    lamp = access(rule("{label.floor}/x"), rule("a/{label.floor}/#"))
    for topic in ("/x", "{label.floor}/x", "None/x", "a//b", "a/+{label.floor}/b"):
        assert not lamp.decide(PUBLISH, topic).allowed, topic
    for topic_filter in ("+/x", "a/+/#", "a/#"):
        assert not lamp.decide_filter(topic_filter).allowed, topic_filter


@pytest.mark.parametrize(
    "odd", ["", "+", "#", "a/b", "+/+", "/", "x+", "\0", "a\0b", "$SYS", "$share", "\ud800"]
)
def test_an_odd_client_id_opens_nothing(odd):
    """CVE-2017-7650: a wildcard in a name that the peer chose."""
    lamp = access(rule("{client}/#"), rule("c/{client}/x"), identity=dataclasses.replace(LAMP, client_id=odd))
    for topic in ("a/b", "$SYS/x", "$share/g/x", "/x", "c//x", "c/a/x", "c/a/b/x", "+/x"):
        assert not lamp.decide(PUBLISH, topic).allowed, topic
        assert not lamp.decide_filter(topic).allowed, topic
    for topic_filter in ("#", "+/#", "+", "c/+/x", "c/#", "$SYS/#"):
        assert not lamp.decide_filter(topic_filter).allowed, topic_filter


# Property: for any identity, the tree decides exactly what the rules say when each placeholder is replaced by
# a level that is never a wildcard, judged by `matches` and `covers`, which were shown against brute force.

_value = st.sampled_from(["a", "b", "lamp", "", "+", "#", "a/b", "$SYS", "$", "\0", "é"]) | st.text(
    max_size=3
)
_identities = st.builds(
    Identity,
    device_id=_value,
    roles=st.sampled_from([("r",), ("r", "s"), ("s",), ()]),
    labels=st.dictionaries(
        st.sampled_from(["x", "y"]),
        st.lists(_value, min_size=1, max_size=3, unique=True).map(tuple),
        max_size=2,
    ),
    client_id=_value,
)
_level = st.sampled_from(
    ["a", "b", "lamp", "$SYS", "", "+", "{device}", "{client}", "{label.x}", "{label.y}"]
)
_templates = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(_level, max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)
_rules = st.builds(
    lambda topic, effect, actions, role: Rule(effect, frozenset(actions), topic, role=role),
    _templates,
    st.sampled_from([Effect.ALLOW, Effect.ALLOW, Effect.DENY]),
    st.sets(st.sampled_from([PUBLISH, SUBSCRIBE]), min_size=1),
    st.sampled_from(["r", "s"]),
)
_asked_level = st.sampled_from(["a", "b", "lamp", "$SYS", "$", "", "+", "{device}", "é"])
_filters = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(_asked_level, max_size=5),
    st.sampled_from([[], ["#"]]),
).filter(bool)


def _worlds(identity):
    """Each way to choose one value of each label."""
    names = list(identity.labels)
    for chosen in product(*identity.labels.values()):
        labels = {name: (value,) for name, value in zip(names, chosen, strict=True)}
        one = dataclasses.replace(identity, labels=labels)
        yield {name: some[0] for name, some in placeholder_values(one).items()}


def _by_hand(rules, identity, action, asked, test):
    meant = [
        (one.effect, resolved)
        for one in rules
        for values in _worlds(identity)
        if one.role in identity.roles
        and action in one.actions
        and (resolved := resolve(one.topic, values)) is not None
    ]
    matching = [effect for effect, topic in meant if test(topic, asked)]
    return Effect.ALLOW in matching and Effect.DENY not in matching


@given(st.lists(_rules, max_size=6), _identities, _filters)
@settings(max_examples=300)
def test_the_tree_decides_what_the_rules_say(rules, identity, asked):
    compiled = Policy(
        [Role(name, "", tuple(one for one in rules if one.role == name)) for name in ("r", "s")],
        sensitive=(),
        limits=Limits(),
        reserved="gateway",
    ).rights(identity)
    assert compiled.decide_filter(asked).allowed is _by_hand(rules, identity, SUBSCRIBE, asked, covers)
    if name_fault(asked) is None:
        for action in (PUBLISH, SUBSCRIBE):
            expected = _by_hand(rules, identity, action, asked, matches)
            assert compiled.decide(action, asked).allowed is expected


def test_one_rule_is_brute_force_over_a_small_alphabet():
    def filters(*alphabet):
        for n in range(4):
            for levels, tail in product(product(alphabet, repeat=n), ((), ("#",))):
                if "/".join((*levels, *tail)):
                    yield "/".join((*levels, *tail))

    identity = Identity("b", ("r",), {}, "$SYS")
    asked = list(filters("a", "b", "+", "$SYS", ""))
    for template in filters("a", "{device}", "{client}", "+", ""):
        resolved = resolve(template, {"{device}": "b", "{client}": "$SYS"})
        lamp = access(rule(template), identity=identity)
        for one in asked:
            expected = resolved is not None and covers(resolved, one)
            decision = lamp.decide_filter(one)
            assert decision.allowed is expected, (template, one)
            assert len(decision.allow_rules) == expected


@given(_templates, _identities, _filters)
@settings(max_examples=300)
def test_no_identity_widens_a_rule(template, identity, asked):
    """Whatever the identity carries, a rule never gives more than itself with `+` for each placeholder."""
    granted = Policy([Role("r", "", (rule(template),))], sensitive=(), limits=Limits(), reserved="gateway")
    widest = "/".join("+" if level.startswith("{") else level for level in template.split("/"))
    if granted.rights(identity).decide_filter(asked).allowed:
        assert covers(widest, asked)
    # and a wildcard in the question is never answered by a placeholder
    if "{" in template and granted.rights(identity).decide_filter(asked).allowed:
        for mine, theirs in zip(template.split("/"), asked.split("/"), strict=False):
            if mine.startswith("{"):
                assert theirs not in ("", "+", "#")
                assert theirs in (identity.device_id, identity.client_id, *chain(*identity.labels.values()))


@given(st.text(max_size=12), _identities)
def test_judging_never_raises(text, identity):
    some = access(rule("{client}/{device}/#"), deny("a/{label.x}"), identity=identity)
    for action in Action:
        assert some.decide(action, text).reason
    assert some.decide_filter(text).reason


def test_rules_are_listed_resolved_with_their_place():
    lamp = access(
        rule("devices/{device}/{label.room}/#", line=3),
        deny("a/{label.none}", line=4),
        deny("b/{client}", line=5),
        identity=dataclasses.replace(LAMP, roles=("r", "r")),
    )
    assert [(one.effect, one.topic, one.file, one.line) for one in lamp.rules()] == [
        ("allow", "devices/lamp-1/kitchen/#", "r.toml", 3),
        ("deny", "b/client-7", "r.toml", 5),
    ]


def test_the_digest_follows_what_decides_and_nothing_else():
    first = policy(rule("a"), deny("b"), sensitive=["s", "t"]).digest
    assert policy(deny("b", line=9), rule("a", line=2), sensitive=["t", "s"]).digest == first
    others = [
        policy(rule("a"), sensitive=["s", "t"]),
        policy(rule("a"), rule("b"), sensitive=["s", "t"]),
        policy(rule("a", max_qos=1), deny("b"), sensitive=["s", "t"]),
        policy(rule("a"), deny("b"), sensitive=["s"]),
        policy(rule("a"), deny("b"), sensitive=["s", "t"], reserved="gw"),
        policy(rule("a"), deny("b"), sensitive=["s", "t"], limits=Limits(in_flight=3)),
    ]
    assert len({first, *(one.digest for one in others)}) == 7


@pytest.mark.parametrize("topic", ["a+", "{devices}", "x{device}", "$share/g/a", ""])
def test_an_invalid_rule_is_not_compiled(topic):
    with pytest.raises(ValueError, match="the topic"):
        policy(rule(topic))


def test_invalid_sensitive_topics_and_prefixes_are_not_compiled():
    with pytest.raises(ValueError, match="sensitive"):
        policy(sensitive=["a#"])
    with pytest.raises(ValueError, match="prefix"):
        policy(reserved="")
    for prefix in ("a/#", "gateway/"):
        with pytest.raises(ValueError, match="prefix"):
            policy(reserved=prefix)


def test_a_topic_of_65000_levels_ends_quickly():
    lamp = access(
        *(rule("/".join(["+"] * n) + "/#") for n in range(1, 30)), limits=Limits(topic_levels=100_000)
    )
    assert lamp.decide(PUBLISH, "/" * 65_535).allowed
    assert lamp.decide_filter("/" * 65_535).allowed


def test_a_label_with_several_values_has_one_value_within_a_rule_and_a_deny_holds_for_each():
    both = dataclasses.replace(LAMP, labels={"room": ("hall", "attic")})
    lamp = access(
        rule("{label.room}/{label.room}"),
        rule("a/{label.room}"),
        deny("b/{label.room}"),
        rule("b/#"),
        identity=both,
    )
    assert [lamp.decide(PUBLISH, topic).allowed for topic in ("hall/hall", "attic/attic", "hall/attic")] == [
        True,
        True,
        False,
    ]
    assert [lamp.decide(PUBLISH, f"a/{room}").allowed for room in ("hall", "attic", "x")] == [
        True,
        True,
        False,
    ]
    assert [lamp.decide(PUBLISH, f"b/{room}").allowed for room in ("hall", "attic", "x")] == [
        False,
        False,
        True,
    ]
