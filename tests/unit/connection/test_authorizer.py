"""What an authorizer answers, that asking leaves no trace, and that its policy stays what it was."""

from __future__ import annotations

import dataclasses

import pytest
from harness.playbook import LAMP, NOW, READER, context, policy

from gateway.connection.authorizer import Authorizer
from gateway.connection.refusal_report_limit import Reports
from gateway.connection.wills import WillTerms
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import RESERVED, Action
from gateway.policy.engine.service_names import Service


def authorizer(world, device=LAMP):
    identity = Identity(
        device.device_id, device.roles, device.labels, "c", observe_until=device.observe_until
    )
    return Authorizer(world, identity, Reports())


def will(topic, *, qos=0, retain=False, size=1, sealed=False):
    return WillTerms(topic, qos, retain, size, sealed)


def recorded(world):
    return {(one.action, one.template, one.passage): one.count for one in world.recorder.take(1_000, 0)}


def test_asking_records_nothing_and_noting_does():
    world = context()
    asked = authorizer(world, dataclasses.replace(READER, observe_until=NOW // 1_000 + 60))
    for topic in ("ok", "other", "private/a", "gateway/auth"):
        asked.publish(topic)
        asked.receive(topic)
        asked.subscribe(topic)
        asked.will(will(topic))
        asked.observes(topic, asked.publish(topic).decision)
    assert recorded(world) == {}
    asked.record(Action.PUBLISH, "ok", asked.publish("ok").decision)
    assert recorded(world) == {(Action.PUBLISH, "ok", "allowed"): 1}


def test_a_refusal_is_recorded_once_whatever_else_is_reported_of_its_topic():
    world = context()
    asked = authorizer(world, dataclasses.replace(LAMP, observe_until=NOW // 1_000 + 60))
    cached = asked.publish("other")
    for _ in range(3):
        asked.let_pass(Action.PUBLISH, cached, cached.decision)
        asked.too_long(cached, "It is too long.")
    assert recorded(world) == {(Action.PUBLISH, "other", "observed"): 1}
    for _ in range(3):
        asked.refuse(Action.PUBLISH, cached, cached.decision)
    assert recorded(world) == {(Action.PUBLISH, "other", "refused"): 1}


def test_what_may_be_published_and_what_becomes_of_it():
    one = authorizer(context())
    assert one.publish("ok").passes_always
    assert not one.publish("other").decision.allowed
    assert one.publish("private/a").sensitive
    assert one.publish("gateway/encrypt").service is Service.ENCRYPT


@pytest.mark.parametrize(("device", "opens"), [(LAMP, False), (READER, True)])
def test_who_may_open_what_is_sealed(device, opens):
    verdict = authorizer(context(), device).receive("private/a")
    assert verdict.decision.allowed
    assert verdict.sensitive
    assert verdict.may_open is verdict.opening.allowed is opens


def test_the_right_to_open_is_asked_for_only_where_it_matters():
    one = authorizer(context(), READER)
    assert one.receive("ok").opening is one.receive("private/no/a").opening is None


def test_nothing_below_the_service_prefix_is_delivered_by_the_bus():
    assert authorizer(context()).receive("gateway/auth_response").decision is RESERVED


@pytest.mark.parametrize(
    ("terms", "allowed"),
    [
        (will("ok"), True),
        (will("other"), False),
        (will("low/a", size=17), False),
        (will("private/a", sealed=True), True),
        (will("private/a"), False),
        (will("private/a", retain=True, size=0), True),
        (will("gateway/auth"), False),
    ],
)
def test_wills(terms, allowed):
    assert authorizer(context()).will(terms).decision.allowed is allowed


def test_a_will_is_recorded_by_its_topic_as_messages_are():
    verdict = authorizer(context()).will(will("low/a", size=17))
    assert verdict.on_topic.allowed


def test_another_policy_in_force_changes_nothing():
    world = context()
    one, old = authorizer(world), world.policy
    world.policy = policy([])
    assert one.policy is old
    assert one.publish("ok").passes_always
    assert not authorizer(world).publish("ok").passes_always
