"""Everything a device may do, in its own names, and what gives it nothing."""

from __future__ import annotations

import pytest

from gateway.policy.analysis.effective_rights import rights, services
from gateway.policy.engine.identity import Device, Identity
from gateway.policy.engine.policy import Action
from gateway.policy.files.loader import load_policy

SENSOR = """\
[[allow]]
actions = ["publish"]
topics = ["devices/{device}/state", "rooms/{label.room}/{client}", "{label.floor}/x", "gateway/x"]

[[deny]]
actions = ["publish", "subscribe"]
topics = ["devices/+/secret", "c/{client}", "{label.floor}/y"]

[[allow]]
actions = ["publish"]
topics = ["devices/{device}/secret", "devices/+/+"]
"""


@pytest.fixture
def policy(acl):
    (acl / "roles/sensor.toml").write_text(SENSOR)
    (acl / "roles/reader.toml").write_text('[[allow]]\nactions = ["subscribe"]\ntopics = ["#"]\n')
    return load_policy(acl, reserved="gateway")


def shown(policy, action, roles=("sensor", "reader")):
    device = Device("lamp-1", roles, {"room": ("hall",)}, True, "", 1, 0, 0)
    return [
        (one.rule.effect.value, one.topics, one.ineffective_because) for one in rights(policy, device, action)
    ]


def test_rules_are_shown_with_the_names_of_the_device_and_why_one_is_without_effect(policy, acl):
    assert shown(policy, Action.PUBLISH) == [
        ("allow", "devices/lamp-1/state", ""),
        ("allow", "rooms/hall/{client}", ""),
        ("allow", "{label.floor}/x", "the device has no {label.floor}"),
        ("allow", "gateway/x", "these topics are the gateway's own"),
        ("allow", "devices/lamp-1/secret", f"denied by {acl}/roles/sensor.toml:7"),
        ("allow", "devices/+/+", ""),
        ("deny", "devices/+/secret", ""),
        ("deny", "c/{client}", "a device chooses its client id, so it stops nobody who would not be stopped"),
        ("deny", "{label.floor}/y", "the device has no {label.floor}"),
    ]


def test_the_rules_of_all_its_roles_count(policy):
    assert shown(policy, Action.SUBSCRIBE)[0] == ("allow", "#", "")
    assert shown(policy, Action.SUBSCRIBE, ("sensor",))[0][0] == "deny"
    assert shown(policy, Action.SUBSCRIBE, ("gone",)) == []
    assert shown(policy, Action.SUBSCRIBE, ("gone", "reader")) == [
        ("allow", "#", "a role of the device has no file")
    ]
    assert shown(policy, Action.DECRYPT) == []


def test_limits_make_a_rule_void(acl):
    (acl / "roles/sensor.toml").write_text('[[allow]]\nactions = ["publish"]\ntopics = ["a/b/c"]\n')
    (acl / "limits.toml").write_text("topic_levels = 2\n")
    assert shown(load_policy(acl, reserved="gateway"), Action.PUBLISH) == [
        ("allow", "a/b/c", "no topic of it is within limits.toml")
    ]


def test_the_service_topics_are_those_that_the_judge_allows(policy):
    told = services(policy, "lamp-1")
    nobody = policy.rights(Identity("lamp-1", (), {}, ""))
    assert all(nobody.decide(Action.PUBLISH, topic).allowed for topic in told[Action.PUBLISH])
    assert all(nobody.decide_filter(topics).allowed for topics in told[Action.SUBSCRIBE])
    assert [len(topics) for topics in told.values()] == [4, 5]
