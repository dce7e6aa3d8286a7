"""Rules that are in vain, each with what to do; and those that are not."""

import pytest
from harness.label_notation import labels_of

from gateway.policy.analysis.dead_rules import warnings
from gateway.policy.engine.identity import Device
from gateway.policy.files.loader import load_policy


def device(name, *roles, **labels):
    return Device(name, roles, labels_of(labels), True, "", 1, 0, 0)


def told(acl, topics, *devices, more="", store=True, reserved="gateway"):
    rule = f'[[allow]]\nactions = ["publish"]\ntopics = ["{topics}"]\n'
    (acl / "roles/sensor.toml").write_text(rule + more)
    found = warnings(load_policy(acl, reserved=reserved), devices if store else None)
    return [one.text for one in found if one.topics == topics]


LAMP = device("lamp-1", "sensor", room="hall")


@pytest.mark.parametrize(
    ("topics", "reserved"),
    [
        ("gateway/+/event/+", "gateway"),
        ("gateway", "gateway"),
        ("gateway/#", "gateway"),
        ("gateway/{device}/x", "gateway"),
        ("sec/own/{client}", "sec/own"),
    ],
)
def test_below_the_gateways_own_prefix_nothing_matches_and_the_setting_is_named(acl, topics, reserved):
    (text,) = told(acl, topics, LAMP, reserved=reserved)
    assert text.startswith("can never match")
    assert "SERVICE_TOPIC_PREFIX" in text


@pytest.mark.parametrize("topics", ["#", "+/x", "gatewayed/x", "{device}/x", "{label.room}/x", "$SYS/#"])
def test_what_reaches_beyond_is_not_in_vain(acl, topics):
    assert told(acl, topics, LAMP) == []


def test_a_label_that_no_device_has(acl):
    topics = "rooms/{label.floor}"
    (text,) = told(acl, topics, LAMP)
    assert 'no device with the role "sensor" has the label "floor"' in text
    assert "--label floor=VALUE" in text
    assert told(acl, topics, LAMP, device("b", "sensor", floor="1")) == []


def test_labels_that_no_one_device_has_together(acl):
    topics = "{label.room}/{label.floor}"
    apart = [LAMP, device("b", "sensor", floor="1")]
    (text,) = told(acl, topics, *apart)
    assert 'the label "room" and the label "floor"' in text


def test_of_a_role_that_nobody_has_a_label_is_missed_only_if_nobody_has_it(acl):
    assert told(acl, "rooms/{label.room}", device("r", "reader", room="x")) == []
    (text,) = told(acl, "rooms/{label.floor}", device("r", "reader", room="x"))
    assert 'no device has the label "floor"' in text


def test_without_a_store_nothing_is_said_of_labels(acl):
    assert told(acl, "rooms/{label.floor}", store=False) == []


@pytest.mark.parametrize(
    ("limits", "topics"), [("topic_levels = 2", "a/b/+"), ("topic_length = 11", "a/{device}/far/away")]
)
def test_a_placeholder_or_a_level_that_can_not_fit(acl, limits, topics):
    (acl / "limits.toml").write_text(f"{limits}\n")
    (text,) = told(acl, topics, LAMP)
    assert "limits.toml" in text


def test_a_placeholder_that_just_fits(acl):
    (acl / "limits.toml").write_text("topic_length = 12\n")
    assert told(acl, "a/{device}/there", LAMP) == []


def test_an_allow_that_is_denied_as_a_whole(acl):
    deny = '[[deny]]\nactions = ["publish", "subscribe"]\ntopics = ["a/#"]\n'
    (text,) = told(acl, "a/b", LAMP, more=deny)
    assert "sensor.toml:6 denies all of it" in text
    assert told(acl, "a/b", LAMP, more=deny.replace("a/#", "a/b/#").replace('"publish", ', "")) == []


def test_a_sensitive_topic_below_the_prefix(acl):
    (acl / "encryption.toml").write_text('[[sensitive]]\ntopics = ["gateway/x/#", "a/#"]\n')
    found = warnings(load_policy(acl, reserved="gateway"), None)
    assert [(one.location, one.topics) for one in found] == [("encryption.toml", "gateway/x/#")]


def test_the_policy_that_ships_is_not_in_vain(request):
    acl = request.config.rootpath / "acl"
    assert warnings(load_policy(acl, reserved="gateway"), [device("x", "sensor")]) == ()
