"""Conditions of a grant, and the grammar of a rule's topic."""

from __future__ import annotations

import pytest

from gateway.policy.engine.identity import Identity
from gateway.policy.engine.placeholders import placeholder_values, resolve, resolved_topics, rule_topic_fault
from gateway.policy.engine.rules import Action, Decision, Effect, Rule


def grant(**more):
    return Rule(Effect.ALLOW, frozenset({Action.PUBLISH}), "a", **more)


def allowed(*rules):
    return Decision(allowed=True, reason="A rule allows it.", rule=rules[0], allow_rules=rules)


def test_a_grant_without_conditions_admits_everything():
    decision = allowed(grant(max_qos=0), grant())
    assert decision.unconditional
    assert decision.max_qos == 2
    assert decision.with_message(2, True, 10**9).allowed


@pytest.mark.parametrize(
    ("conditions", "good", "bad", "says"),
    [
        ({"max_qos": 1}, (1, True, 99), (2, False, 0), "QoS 2 is above the 1"),
        ({"retain": False}, (2, False, 99), (0, True, 0), "Retained"),
        ({"max_payload": 10}, (2, True, 10), (0, False, 11), "payload of 11 bytes is above the 10"),
        ({"max_payload": 0}, (0, False, 0), (0, False, 1), "payload"),
    ],
)
def test_a_condition_refuses_with_its_reason(conditions, good, bad, says):
    decision = allowed(grant(**conditions))
    assert not decision.unconditional
    assert decision.with_message(*good).allowed
    refused = decision.with_message(*bad)
    assert not refused.allowed
    assert says in refused.reason
    assert refused.rule == decision.allow_rules[0]
    assert refused.allow_rules == ()


def test_one_grant_has_to_admit_the_whole_message():
    decision = allowed(grant(max_qos=0), grant(max_payload=5, retain=False))
    assert decision.max_qos == 2
    assert decision.with_message(0, True, 100).allowed
    assert decision.with_message(2, False, 5).allowed
    refused = decision.with_message(2, True, 100)
    assert not refused.allowed
    assert refused.reason.startswith("QoS 2")  # the first grant has one objection, the second two


def test_a_denial_stays_one():
    denied = Decision(allowed=False, reason="No.", rule=None)
    assert denied.with_message(0, False, 0) is denied
    assert denied.max_qos == 0
    assert not denied.unconditional


def test_an_allow_without_a_grant_admits_no_message():
    assert not Decision(allowed=True, reason="", rule=None).with_message(0, False, 0).allowed


@pytest.mark.parametrize("topic", ["a", "#", "{device}", "a/{client}/+/#", "{label.room_2}/x", "$SYS/#", "/"])
def test_valid_templates(topic):
    assert rule_topic_fault(topic) is None


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ("{devices}/a", "placeholder"),
        ("x{device}", "placeholder"),
        ("a/{device}+", "placeholder"),
        ("{device}{client}", "placeholder"),
        ("{label}", "placeholder"),
        ("{label.}", "placeholder"),
        ("{label.Room}", "placeholder"),
        ("{label.a/b}", "placeholder"),
        ("a/{", "placeholder"),
        ("a/}", "placeholder"),
        ("{{device}}", "placeholder"),
        ("$share/g/a", "$share"),
        ("a+", "+"),
        ("", "empty"),
    ],
)
def test_invalid_templates(topic, says):
    assert says in rule_topic_fault(topic)


def test_values_that_are_no_level_are_left_out():
    identity = Identity("d", (), {"a": ("x",), "b": ("",), "c": ("p/q",), "e": ("+",)}, "c#")
    assert placeholder_values(identity) == {"{device}": ("d",), "{label.a}": ("x",)}


def test_a_label_with_several_values_means_several_topics_and_one_value_in_each():
    values = {"{label.a}": ("x", "y"), "{label.b}": ("1", "2"), "{device}": ("d",)}
    assert list(resolved_topics("a/{label.a}/{label.a}", values)) == ["a/x/x", "a/y/y"]
    assert list(resolved_topics("{label.a}/{label.b}", values)) == ["x/1", "x/2", "y/1", "y/2"]
    assert list(resolved_topics("{label.a}/{label.c}", values)) == []
    assert list(resolved_topics("a/b", values)) == ["a/b"]
    many = {f"{{label.{name}}}": tuple(map(str, range(16))) for name in "abc"}
    assert len(list(resolved_topics("{label.a}/{label.b}/{label.c}", many))) == 1_000


def test_resolve():
    values = {"{device}": "d", "{client}": "$c"}
    assert resolve("a/{device}/{client}/#", values) == "a/d/$c/#"
    assert resolve("{client}/a", values) is None
    assert resolve("a/{label.x}", values) is None
