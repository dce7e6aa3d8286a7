"""What an admin is told about a decision."""

from __future__ import annotations

import pytest
from harness.label_notation import labels_of

from gateway.policy.analysis.decision_explanation import explain
from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action
from gateway.policy.files.loader import load_policy

SENSOR = """\
[[allow]]
actions = ["publish"]
topics = ["devices/{device}/telemetry"]
max_qos = 1
max_payload = 9
retain = false

[[allow]]
actions = ["subscribe"]
topics = ["devices/{device}/commands/+", "rooms/{label.room}/#"]

[[deny]]
actions = ["publish"]
topics = ["devices/{device}/locked", "devices/+/telemetry/secret"]

[[allow]]
actions = ["publish"]
topics = ["devices/{device}/telemetry/#"]
"""
OPERATOR = '[[allow]]\nactions = ["subscribe", "publish"]\ntopics = ["devices/#"]\n'


@pytest.fixture
def why(acl):
    (acl / "roles/sensor.toml").write_text(SENSOR)
    (acl / "roles/operator.toml").write_text(OPERATOR)
    policy = load_policy(acl, reserved="gateway")

    def ask(action, topic, roles=("sensor",), labels=None):
        identity = Identity("lamp-1", roles, labels_of(labels or {}), "lamp-1")
        return explain(policy, identity, Action(action), topic)

    return ask


def test_an_allow_names_its_rules_and_their_conditions(why):
    found = why("publish", "devices/lamp-1/telemetry")
    assert found.decision.allowed
    assert found.change == ""
    assert found.nearest is None
    assert 'sensor.toml:3 allows publish on "devices/{device}/telemetry"' in found.text
    assert "(up to QoS 1, not retained, at most 9 bytes)" in found.text
    assert "sensor.toml:18 allows" in found.text


@pytest.mark.parametrize(
    ("topic", "also"), [("devices/lamp-1/locked", True), ("devices/lamp-1/telemetry/secret", False)]
)
def test_a_deny_is_named_and_whether_an_allow_is_missing_too(why, topic, also):
    found = why("publish", topic)
    assert not found.decision.allowed
    assert found.decision.rule.line == 14
    assert found.nearest is None
    assert "sensor.toml:14, for a deny beats every allow" in found.change
    assert ("write an allow" in found.change) is also


@pytest.mark.parametrize(
    ("action", "topic", "line", "change"),
    [
        (
            "publish",
            "devices/lamp-1/telemtry",
            3,
            'level 3 of the rule has to be "telemtry", not "telemetry"',
        ),
        ("publish", "devices/lamp-2/telemetry", 3, 'be "lamp-2", not "{device}" (here: lamp-1)'),
        ("subscribe", "devices/lamp-1/commands/#", 10, "has to end in /# after level 3"),
        ("subscribe", "devices/lamp-1/commands/a/b", 10, 'has to go on with "/b", or end in /#'),
        ("subscribe", "devices/lamp-1/commands", 10, '"+" at the end of the rule has to go'),
        ("subscribe", "devices/lamp-1/telemetry", 3, 'add "subscribe" to the actions'),
        ("subscribe", "rooms/hall/light", 10, "the device needs a value for {label.room}"),
        ("subscribe", "$share/g/devices/lamp-1/command/+", 10, 'be "command", not "commands"'),
    ],
)
def test_a_refusal_names_the_nearest_allow_and_the_change(why, action, topic, line, change):
    found = why(action, topic)
    assert not found.decision.allowed
    assert found.decision.rule is None
    assert found.nearest.line == line
    assert change in found.change
    assert f"sensor.toml:{line} allows" in found.text


def test_another_role_is_named_when_it_is_nearer(why):
    found = why("publish", "devices/lamp-2/x/y")
    assert found.nearest.role == "operator"
    assert found.change == 'give the device the role "operator", with all its rights.'
    assert why("publish", "devices/lamp-1/telemetry", roles=()).nearest.role == "sensor"


def test_what_is_far_from_every_rule_gets_a_rule_of_its_own(why):
    found = why("decrypt", "a/b/c/d")
    written = 'write an [[allow]] with actions = ["decrypt"] and topics = ["a/b/c/d"] in '
    assert found.change.startswith(written)
    assert found.change.endswith("roles/sensor.toml.")
    assert found.nearest is not None
    assert why("decrypt", "a/b/c/d", roles=()).change == f"{written}a role of its own."
    # The role would have to be changed too, so it is of no use.
    assert why("decrypt", "devices/lamp-1/locked", roles=()).nearest.role == "operator"
    assert why("decrypt", "devices/lamp-1/locked", roles=()).change.startswith("write an [[allow]]")


def test_a_role_without_a_file_is_what_has_to_change(why):
    found = why("publish", "devices/lamp-1/telemetry", roles=("sensor", "gone"))
    assert not found.decision.allowed
    assert found.change == "write the rules of gone, or give the device other roles."


def test_a_role_for_everything_is_not_what_a_lamp_is_given(why, acl):
    (acl / "roles/admin.toml").write_text('[[allow]]\nactions = ["publish", "subscribe"]\ntopics = ["#"]\n')
    lamp = Identity("lamp-1", ("sensor",), {}, "lamp-1")
    found = explain(load_policy(acl, reserved="gateway"), lamp, Action.PUBLISH, "home/door")
    assert found.change.startswith('write an [[allow]] with actions = ["publish"] and topics = ["home/door"]')


def test_all_denies_are_named(why, acl):
    more = '[[deny]]\nactions = ["publish"]\ntopics = ["devices/+/locked"]\n'
    (acl / "roles/sensor.toml").write_text(SENSOR + more)
    lamp = Identity("lamp-1", ("sensor",), {}, "lamp-1")
    found = explain(load_policy(acl, reserved="gateway"), lamp, Action.PUBLISH, "devices/lamp-1/locked")
    assert "sensor.toml:14 and " in found.change
    assert "sensor.toml:21, for a deny beats every allow; and write an allow" in found.change


def test_a_dollar_topic_needs_its_own_name(why):
    assert (
        'level 1 of the rule has to be "$SYS" itself'
        in why("subscribe", "$SYS/#", roles=("operator",)).change
    )


@pytest.mark.parametrize(
    ("action", "topic", "change"),
    [
        ("publish", "gateway/x", "gateway's own"),
        ("subscribe", "$share/g/gateway/#", "gateway's own"),
        ("publish", "a/#", "the topic itself"),
        ("subscribe", "a#", "the topic itself"),
        ("subscribe", "", "the topic itself"),
        ("publish", "/" * 300, "the topic itself"),
    ],
)
def test_what_no_rule_can_change(why, action, topic, change):
    found = why(action, topic, roles=("operator",))
    assert not found.decision.allowed
    assert found.nearest is None
    assert change in found.change


def test_a_filter_that_no_rule_covers_is_told_what_of_it_is_allowed(why):
    found = why("subscribe", "$share/g/+/lamp-1/#", labels={"room": "lamp-1"})
    assert not found.decision.allowed
    assert [(topics, rule.line) for topics, rule in found.parts] == [
        ("devices/lamp-1/commands/+", 10),
        ("rooms/lamp-1/#", 10),
    ]
    assert found.change.startswith("subscribe to those alone; or, for all of it, ")
    assert 'allowed of it: "rooms/lamp-1/#" by ' in found.text
    (part,) = why("subscribe", "devices/#").parts
    assert part[0] == "devices/lamp-1/commands/+"
    assert why("subscribe", "devices/#").change.startswith("subscribe to that alone; or, for all of it,")


def test_what_is_denied_is_no_part(why, acl):
    text = SENSOR + '[[deny]]\nactions = ["subscribe"]\ntopics = ["+/+/commands/+", "rooms/+/x"]\n'
    (acl / "roles/sensor.toml").write_text(text)
    policy = load_policy(acl, reserved="gateway")
    lamp = Identity("lamp-1", ("sensor",), {"room": ("hall",)}, "lamp-1")
    found = explain(policy, lamp, Action.SUBSCRIBE, "#")
    assert [topics for topics, _ in found.parts] == ["rooms/hall/#"]
    found = explain(policy, lamp, Action.SUBSCRIBE, "rooms/hall/+")
    assert found.decision.allowed
    assert [rule.topic for rule in found.held_back] == ["rooms/+/x"]
    assert "held back on delivery: " in found.text
    assert explain(policy, lamp, Action.SUBSCRIBE, "rooms/hall/y").held_back == ()


def test_the_gateways_own_topics_are_no_part(why, acl):
    own = '[[allow]]\nactions = ["subscribe"]\ntopics = ["gateway/auth_response"]\n'
    (acl / "roles/sensor.toml").write_text(own)
    lamp = Identity("lamp-1", ("sensor",), {}, "lamp-1")
    found = explain(load_policy(acl, reserved="gateway"), lamp, Action.SUBSCRIBE, "#")
    assert not found.decision.allowed
    assert found.parts == ()


@pytest.mark.parametrize("topic", ["@locks", "new/{device}"])
def test_no_rule_is_advised_that_would_say_something_else(why, topic):
    """A device sent it; in a file it would be a group, or a placeholder."""
    change = why("publish", topic).change
    assert topic not in change
    assert "topic that a rule can name" in change


def test_a_quote_in_a_topic_ends_no_string_of_the_advice(why):
    assert r'topics = ["new\"], x = [\"/y"]' in why("publish", 'new"], x = ["/y').change


def test_the_change_that_is_named_does_allow_it(why, acl):
    """The advice is tried: with the level changed as it says, the topic is allowed."""
    assert 'not "telemetry"' in why("publish", "devices/lamp-1/temperature").change
    (acl / "roles/sensor.toml").write_text(SENSOR.replace("}/telemetry", "}/temperature"))
    identity = Identity("lamp-1", ("sensor",), {}, "lamp-1")
    after = load_policy(acl, reserved="gateway").rights(identity)
    assert after.decide(Action.PUBLISH, "devices/lamp-1/temperature").allowed


HOME = """\
[[allow]]
actions = ["publish"]
topics = ["home/+/set", "cmnd/#", "homeassistant/status", "homeassistant/stat"]

[[allow]]
actions = ["subscribe"]
topics = ["#", "home/kitchen/light", "home/+/light"]
"""


@pytest.mark.parametrize(
    ("topic", "change"),
    [
        ("homeassistant/state", 'level 2 of the rule has to be "state", not "status".'),
        ("other", 'write an [[allow]] with actions = ["publish"] and topics = ["other"] in '),
        ("home/x/y/forbidden", "write an [[allow]] with actions"),
        ("home/kitchen/light", 'add "publish" to the actions of the rule.'),
        ("home/hall/light", "write an [[allow]] with actions"),
    ],
)
def test_no_advice_makes_a_rule_allow_more_than_was_asked_for(acl, topic, change):
    """Nor takes what another rule is there for: `cmnd/#` is no misspelt `homeassistant/state`."""
    (acl / "roles/home.toml").write_text(HOME)
    identity = Identity("hass", ("home",), {}, "hass")
    found = explain(load_policy(acl, reserved="gateway"), identity, Action.PUBLISH, topic)
    assert found.change.startswith(change)
    if change.startswith("level"):
        assert found.nearest.topic == "homeassistant/status"
