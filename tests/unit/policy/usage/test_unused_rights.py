"""Rules that nobody needed, action by action; never one that somebody may have needed."""

from __future__ import annotations

from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.policy.usage.unused_rights import unused

PUBLISH, SUBSCRIBE = Action.PUBLISH, Action.SUBSCRIBE
ALLOWED, OBSERVED, REFUSED = Passage


def device(device_id="lamp-1", *roles):
    return Device(device_id, roles or ("r",), {}, True, "", version=1, created_at=0, updated_at=0)


def rule(topic, *actions, effect=Effect.ALLOW, role="r"):
    return Rule(effect, frozenset(actions or [PUBLISH]), topic, role=role)


def saw(template, action=PUBLISH, passage=ALLOWED, device_id="lamp-1"):
    return UsageRecord(device_id, action, template, passage, 1, 1, 1)


def idle(rules, *seen, devices=None):
    roles = dict.fromkeys(one.role for one in rules)
    made = [Role(name, "", tuple(one for one in rules if one.role == name)) for name in roles]
    policy = Policy(made, sensitive=[], limits=Limits(), reserved="gateway")
    known = {one.device_id: one for one in devices or [device()]}
    return [(one.rule.topic, list(one.actions)) for one in unused(policy, seen, known)]


def test_what_nobody_used_is_told_by_action():
    rules = [rule("a/{device}", PUBLISH, SUBSCRIBE), rule("b"), rule("c")]
    assert idle(rules, saw("a/{device}"), saw("c")) == [("a/{device}", [SUBSCRIBE]), ("b", [PUBLISH])]


def test_what_was_refused_or_is_of_a_device_that_is_gone_is_no_use():
    rules = [rule("a"), rule("b"), rule("c")]
    seen = [saw("a", passage=REFUSED), saw("b", device_id="gone"), saw(OVERFLOW, passage=REFUSED)]
    seen += [saw(OVERFLOW, device_id="gone")]
    assert [topic for topic, _ in idle(rules, *seen)] == ["a", "b", "c"]


def test_each_rule_that_admits_a_use_is_needed():
    assert idle([rule("a/#"), rule("a/b"), rule("a/c")], saw("a/b")) == [("a/c", [PUBLISH])]


def test_a_filter_needs_the_rule_that_covers_it_and_none_within():
    rules = [rule("a/#", SUBSCRIBE), rule("a/b", SUBSCRIBE)]
    assert idle(rules, saw("a/#", SUBSCRIBE)) == [("a/b", [SUBSCRIBE])]
    assert idle(rules, saw("a/+", SUBSCRIBE)) == [("a/b", [SUBSCRIBE])]
    assert idle(rules, saw("a/b", SUBSCRIBE)) == []


def test_of_many_topics_in_one_any_may_have_needed_a_rule():
    rules = [rule("jobs/1"), rule("jobs/2"), rule("jobs/2/x"), rule("+/{device}")]
    assert idle(rules, saw("jobs/+")) == [("jobs/2/x", [PUBLISH])]
    assert idle([rule("jobs/+"), rule("jobs/1")], saw("jobs/+")) == []
    heard = [rule("jobs/1", SUBSCRIBE), rule("other", SUBSCRIBE)]
    assert idle(heard, saw("jobs/+", SUBSCRIBE)) == [("other", [SUBSCRIBE])]


def test_what_found_no_room_may_have_needed_any_rule_of_its_device_and_action():
    rules = [rule("a", PUBLISH, SUBSCRIBE), rule("{label.gone}"), rule("a", role="s")]
    devices = [device(), device("other", "s")]
    assert idle(rules, saw(OVERFLOW), devices=devices) == [("a", [SUBSCRIBE]), ("a", [PUBLISH])]


def test_a_label_that_is_gone_was_any_value():
    rules = [rule("rooms/{label.room}/t"), rule("rooms/kitchen/t"), rule("+/{device}/+"), rule("rooms/+/x")]
    assert idle(rules, saw("rooms/{label.room}/t")) == [("rooms/+/x", [PUBLISH])]
    # The same of a rule: what it allowed when the label was there is not known.
    assert idle(rules, saw("rooms/+/t")) == [("rooms/+/x", [PUBLISH])]


def test_a_deny_is_never_unused():
    assert idle([rule("a"), rule("b", effect=Effect.DENY)], saw("a")) == []


def test_a_role_without_devices_is_told():
    rules = [rule("a"), rule("a", role="s")]
    made = [Role("r", "", (rules[0],)), Role("s", "", (rules[1],))]
    policy = Policy(made, sensitive=[], limits=Limits(), reserved="gateway")
    found = unused(policy, [saw("a")], {"lamp-1": device()})
    assert [(one.rule.role, one.without_device) for one in found] == [("s", True)]
    found = unused(policy, [saw("a")], {"lamp-1": device("lamp-1", "r"), "x": device("x", "s")})
    assert [(one.rule.role, one.without_device) for one in found] == [("s", False)]


def test_what_passed_for_its_device_was_observed_needs_the_rules_made_for_it():
    """And none else: at that time no rule allowed it, and one that meets it in part never did."""
    rules = [rule("a/+", SUBSCRIBE), rule("b/x", SUBSCRIBE), rule("c", SUBSCRIBE)]
    seen = [saw("a/+", SUBSCRIBE, OBSERVED), saw("b/+", SUBSCRIBE, OBSERVED), saw("c", SUBSCRIBE, REFUSED)]
    assert idle(rules, *seen) == [("b/x", [SUBSCRIBE]), ("c", [SUBSCRIBE])]
