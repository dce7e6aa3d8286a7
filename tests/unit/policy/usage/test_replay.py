"""What was recorded, judged by two policies: what changes is told, and what doesn't is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.policy.usage.replay import replay

LAMP = Device("lamp-1", ("r",), {"room": ("kitchen",)}, True, "", version=1, created_at=0, updated_at=0)
PUBLISH, SUBSCRIBE = Action.PUBLISH, Action.SUBSCRIBE
ALLOWED, OBSERVED, REFUSED = Passage


def allow(topic, *actions, **conditions):
    return Rule(
        Effect.ALLOW, frozenset(actions or Action), topic, role="r", file="r.toml", line=3, **conditions
    )


def deny(topic):
    return replace(allow(topic), effect=Effect.DENY, line=9)


def policy(*rules):
    return Policy([Role("r", "", rules)], sensitive=[], limits=Limits(), reserved="gateway")


def saw(template, action=PUBLISH, passage=ALLOWED, device_id="lamp-1"):
    return UsageRecord(device_id, action, template, passage, 5, 1, 2)


def changes(before, after, *seen, devices=(LAMP,)):
    found = replay(before, after, seen, {one.device_id: one for one in devices})
    return [(one.record.template, one.kind.value, one.after.rule_location) for one in found.changes]


def test_what_is_refused_or_allowed_now_is_told_with_the_rule():
    before, after = policy(allow("a/#"), deny("a/b")), policy(allow("a/b"), allow("c"), deny("a/no"))
    seen = [
        saw("a/b", passage=REFUSED),
        saw("a/x"),
        saw("a/no"),
        saw("c", passage=REFUSED),
        saw("d", passage=REFUSED),
    ]
    assert changes(before, after, *seen) == [
        ("a/b", "allowed", "r.toml:3"),
        ("a/x", "refused", ""),
        ("a/no", "refused", "r.toml:9"),
        ("c", "allowed", "r.toml:3"),
    ]
    assert changes(before, before, *seen) == []


def test_placeholders_mean_the_device():
    before = policy(allow("a/{device}/{label.room}/{client}"))
    after = policy(allow("a/lamp-1/kitchen/+"))
    other = replace(LAMP, device_id="lamp-2")
    seen = [
        saw("a/{device}/{label.room}/{client}"),
        saw("a/{device}/{label.room}/{client}", device_id="lamp-2"),
    ]
    assert changes(before, after, *seen, devices=[LAMP, other]) == [
        ("a/{device}/{label.room}/{client}", "refused", "")
    ]


def test_a_brace_that_is_a_letter_is_no_placeholder():
    before, after = policy(allow("a/{device}")), policy(allow("a/+"))
    assert changes(before, after, saw("a/+{device}"), saw("a/{device}")) == [
        ("a/+{device}", "allowed", "r.toml:3")
    ]


def test_filters_are_judged_as_filters_and_topics_as_topics():
    before, after = policy(allow("#")), policy(allow("a/+"), allow("b/x"))
    seen = [saw("a/#", SUBSCRIBE), saw("a/+", SUBSCRIBE), saw("b/+", SUBSCRIBE), saw("b/x", SUBSCRIBE)]
    assert [topic for topic, *_ in changes(before, after, *seen)] == ["a/#", "b/+"]


NARROW = (allow("a/b"), allow("a/c"), allow("a/d"), allow("a/e", max_qos=0))


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (NARROW, (allow("a/b"),), "in part"),
        ((allow("#"),), (allow("a/b"),), "in part"),
        ((allow("a/+"),), (allow("a/+"), deny("a/b")), "in part"),
        ((allow("a/+", max_qos=1),), (allow("a/+", max_qos=1), allow("a/b")), "in part"),
        (NARROW, (*NARROW, allow("else"), allow("{label.gone}/#")), "same"),
        (NARROW, (*NARROW, deny("else/#")), "same"),
        ((*NARROW, allow("+/+")), (allow("a/+"),), "same"),
        ((*NARROW, deny("a/#")), (deny("a/+"),), "same"),
        ((allow("a/+"), allow("#", max_qos=1)), (allow("a/#", max_qos=1),), "conditions"),
        ((allow("a/#"),), (allow("b/+"),), "refused"),
        ((allow("a/#"),), (allow("a/#"), deny("+/+")), "refused"),
        ((deny("#"),), (allow("a/+"),), "allowed"),
    ],
)
def test_what_many_topics_have_in_common_is_judged_when_rules_say_the_same_of_all(before, after, found):
    for passage in Passage:
        seen = saw("a/+", passage=passage)
        replayed = replay(policy(*before), policy(*after), [seen], {"lamp-1": LAMP})
        told = [one.kind.value for one in replayed.changes]
        assert told == ([] if found in {"same", "in part"} else [found])
        assert replayed.mixed == ((seen,) if found == "in part" else ())
        assert replayed.replayed == (found != "in part")


def test_a_filter_is_one_whatever_is_refused_below_it():
    seen = saw("a/+", SUBSCRIBE)
    found = replay(policy(allow("a/#")), policy(allow("a/#"), deny("a/b")), [seen], {"lamp-1": LAMP})
    assert (found.replayed, found.changes, found.mixed) == (1, (), ())
    # Deliveries of which one rule each knew: they may be many, and no filter.
    found = replay(policy(*NARROW), policy(allow("a/b")), [seen], {"lamp-1": LAMP})
    assert (found.replayed, found.mixed) == (0, (seen,))


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {"max_qos": 1}, True),
        ({"max_qos": 1}, {}, True),
        ({"max_payload": 5}, {"max_payload": 9}, True),
        ({"max_payload": 5}, {"max_payload": 5}, False),
    ],
)
def test_other_conditions_are_told(before, after, told):
    found = changes(policy(allow("a", **before)), policy(allow("a", **after)), saw("a"))
    assert found == ([("a", "conditions", "r.toml:3")] if told else [])


def test_a_condition_beside_a_free_rule_is_none():
    assert changes(policy(allow("a")), policy(allow("a", max_qos=0), allow("+")), saw("a")) == []


def test_what_can_not_be_judged_is_counted():
    seen = [saw("a", device_id="gone"), saw("a/{label.gone}"), saw(OVERFLOW), saw("a")]
    found = replay(policy(allow("a")), policy(allow("b")), seen, {"lamp-1": LAMP})
    assert (len(found.changes), found.replayed, found.gone, found.overflow) == (1, 1, 2, 5)


def test_observing_has_no_part_in_a_replay():
    """Its time over, nothing is newly refused; with a rule for it, it is newly allowed, then as before."""
    without, role = policy(allow("x")), policy(allow("x"), allow("a/{device}"), allow("b/+", SUBSCRIBE))
    seen = [saw("a/{device}", passage=OBSERVED), saw("b/+", SUBSCRIBE, passage=OBSERVED)]
    assert changes(without, without, *seen) == []
    assert [(topic, kind) for topic, kind, _ in changes(without, role, *seen)] == [
        ("a/{device}", "allowed"),
        ("b/+", "allowed"),
    ]
    assert changes(role, role, *seen) == []
    assert [kind for _, kind, _ in changes(role, without, *seen)] == ["refused", "refused"]
