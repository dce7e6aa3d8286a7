"""The policy's own tests: read, run, and able to fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.policy.files.loader import PolicyError, load_policy, read_policy
from gateway.policy.files.policy_tests import load_cases, run_cases

SHIPPED = Path(__file__).parents[4] / "acl"


def results(acl, text):
    (acl / "cases.toml").write_text(text)
    policy = load_policy(acl, reserved="gateway")
    return run_cases(policy, load_cases(acl, policy))


def case(topic, expected, action="publish", more=""):
    return (
        f'[[case]]\ndevice = "lamp-1"\nroles = ["sensor"]\naction = "{action}"\ntopic = "{topic}"\n'
        f'expected = "{expected}"\n{more}\n'
    )


def test_cases_pass_and_fail_with_their_place(acl):
    good, bad, worse = results(
        acl,
        case("devices/lamp-1/telemetry", "allow")
        + case("devices/lamp-1/locked", "allow")
        + case("devices/lamp-1/telemetry", "deny"),
    )
    assert good.passed
    assert not bad.passed
    assert not worse.passed
    assert str(bad) == (
        f"{acl}/cases.toml:8: lamp-1 publish devices/lamp-1/locked: denied, expected allow: "
        f"A rule denies this to the device. ({acl}/roles/sensor.toml:9)"
    )
    assert ": allowed, expected deny: " in str(worse)


def test_a_case_may_ask_about_a_message_a_filter_a_label_and_a_client(acl):
    (acl / "roles/sensor.toml").write_text(
        '[[allow]]\nactions = ["publish"]\ntopics = ["{label.room}/{client}"]\nmax_qos = 1\nretain = false\n'
        'max_payload = 4\n[[allow]]\nactions = ["subscribe", "decrypt"]\ntopics = ["{device}/+"]\n'
    )
    room = 'labels = { room = "hall" }\nclient = "c1"\n'
    text = "".join(
        [
            case("hall/c1", "allow", more=room),
            case("hall/c1", "allow", more=room + "qos = 1\nsize = 4"),
            case("hall/c1", "deny", more=room + "qos = 2"),
            case("hall/c1", "deny", more=room + "retain = true"),
            case("hall/c1", "deny", more=room + "size = 5"),
            case("hall/lamp-1", "deny", more=room),
            case("hall/c1", "deny"),
            case("lamp-1/+", "allow", "subscribe"),
            case("$share/g/lamp-1/x", "allow", "subscribe"),
            case("lamp-1/#", "deny", "subscribe"),
            case("lamp-1/x", "allow", "decrypt"),
            case("lamp-1/x", "deny", "encrypt"),
            case("lamp-1/x", "deny", "decrypt").replace('["sensor"]', "[]"),
        ]
    )
    found = results(acl, text)
    assert len(found) == 13
    assert [str(one) for one in found if not one.passed] == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("device = ", "devise = "), "unknown key"),
        (('"lamp-1"', '"lamp/1"'), "no device id"),
        (('["sensor"]', '["senser"]'), 'no role "senser"'),
        (('["sensor"]', '"sensor"'), '"roles" has to be'),
        (('"publish"', '"write"'), "unknown action"),
        (('"publish"', "1"), '"action" has to be'),
        (("a/b", "a/+"), "wildcard"),
        (("a/b", ""), "is empty"),
        (('"allow"', '"yes"'), '"expected" has to be'),
        (('expected = "allow"', ""), '"expected" is missing'),
        (('expected = "allow"', 'expected = "allow"\nlabels = { room = "a/b" }'), '"labels" has to be'),
        (('expected = "allow"', 'expected = "allow"\nlabels = "x"'), '"labels" has to be'),
        (('expected = "allow"', 'expected = "allow"\nqos = 3'), '"qos"'),
        (('"publish"', '"decrypt"\nretain = true'), "published message only"),
        (("[[case]]", "[[cases]]"), "unknown key"),
    ],
)
def test_a_broken_case_is_reported_with_its_file(acl, change, says):
    policy = load_policy(acl, reserved="gateway")
    (acl / "cases.toml").write_text(case("a/b", "allow").replace(*change))
    with pytest.raises(PolicyError, match=says) as caught:
        load_cases(acl, policy)
    assert all(one.startswith(f"{acl}/cases.toml:") for one in caught.value.problems)
    with pytest.raises(PolicyError, match=says):
        load_policy(acl, reserved="gateway")


def test_without_the_file_there_are_none(acl):
    assert load_cases(acl, load_policy(acl, reserved="gateway")) == ()


def test_the_shipped_cases_hold_and_touch_every_role():
    policy = load_policy(SHIPPED, reserved="gateway")
    found = run_cases(policy, load_cases(SHIPPED, policy))
    assert [str(one) for one in found if not one.passed] == []
    assert {role for one in found for role in one.case.identity.roles} == set(policy.roles)
    assert sum(not one.case.expected for one in found) >= 20


def test_the_shipped_cases_and_their_invariants_can_fail(tmp_path):
    """A rule that is too wide is noticed."""
    shutil.copytree(SHIPPED, tmp_path, dirs_exist_ok=True)
    shutil.copy(SHIPPED.parent / "docs/invariants.toml", tmp_path)
    sensor = (SHIPPED / "roles/sensor.toml").read_text()
    (tmp_path / "roles/sensor.toml").write_text(sensor.replace("{device}", "+"))
    policy, _ = read_policy(tmp_path, reserved="gateway")
    assert any(not one.passed for one in run_cases(policy, load_cases(tmp_path, policy)))
    other = r'role "sensor" \(id "device-1"\) may publish to "devices/x/telemetry"'
    with pytest.raises(PolicyError, match=f"does not hold: a device with the {other}"):
        load_policy(tmp_path, reserved="gateway")
