"""The files of acl/: everything wrong is reported at once, with its line, and nothing broken opens a door."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gateway.policy.engine.identity import Identity
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action
from gateway.policy.engine.rules import OnDeniedWill
from gateway.policy.files.loader import PolicyError, load_policy

_A = "[[allow]]\nactions = ['publish']\ntopics = ['a']\n"
LAMP = Identity("lamp-1", ("sensor",), {}, "lamp-1")


def load(acl):
    return load_policy(acl, reserved="gateway")


def problems(acl):
    with pytest.raises(PolicyError) as caught:
        load(acl)
    return [one.removeprefix(f"{acl}/") for one in caught.value.problems]


def test_a_policy_is_read(acl):
    policy = load(acl)
    lamp = policy.rights(LAMP)
    assert lamp.decide(Action.PUBLISH, "devices/lamp-1/telemetry").allowed
    denied = lamp.decide(Action.PUBLISH, "devices/lamp-1/locked")
    assert (denied.rule.file, denied.rule.line) == (str(acl / "roles/sensor.toml"), 9)
    assert policy.roles["sensor"].description == "Reports."
    assert policy.limits == Limits(in_flight=7)
    assert policy.sensitive("devices/x/private/y")
    assert not policy.sensitive("devices/x/y")


def test_conditions_are_read(acl):
    (acl / "roles/sensor.toml").write_text(
        '[[allow]]\nactions = ["publish", "subscribe"]\ntopics = ["a", "b"]\n'
        "max_qos = 1\nretain = false\nmax_payload = 0\n"
    )
    one, two = load(acl).roles["sensor"].rules
    assert (one.topic, two.topic) == ("a", "b")
    assert one.actions == {Action.PUBLISH, Action.SUBSCRIBE}
    assert (one.max_qos, one.retain, one.max_payload, one.line) == (1, False, 0, 3)


def test_what_becomes_of_a_refused_will_is_read(acl):
    file = acl / "roles/sensor.toml"
    assert load(acl).roles["sensor"].will is None
    for said in OnDeniedWill:
        file.write_text(f"will = '{said}'\n{_A}")
        assert load(acl).roles["sensor"].will is said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ":1: the role has no rule"),
        ("# nothing\n", ":1: the role has no rule"),
        ('description = "x"\n', ":1: the role has no rule"),
        ("allow = []\n", ":1: the role has no rule"),
        ("[allow]\n", ':1: "allow" is written as a block'),
        ("description = 1\n" + _A, ':1: "description" has to be a string'),
        ("\nalow = 1\n", ':2: unknown key "alow"'),
        ("[[alow]]\n", ':1: unknown key "alow"'),
        ("[[allow]]\ntopics = ['a']\n", ':1: "actions" has to be'),
        ("[[allow]]\nactions = ['publish']\n", ':1: "topics" has to be'),
        ("[[allow]]\nactions = []\ntopics = ['a']\n", ':2: "actions" has to be'),
        ("[[allow]]\nactions = ['publish']\ntopics = []\n", ':3: "topics" has to be'),
        ("[[allow]]\nactions = 'publish'\ntopics = ['a']\n", ':2: "actions" has to be'),
        ("[[allow]]\nactions = ['publish', 'read']\ntopics = ['a']\n", ':2: unknown action "read"'),
        ("[[allow]]\nactions = ['publish']\ntopics = [\n'a',\n'a#']\n", ':5: the topic "a#" has a #'),
        ("[[allow]]\nactions = ['publish']\ntopics = ['']\n", ':3: the topic "" is empty'),
        ("[[allow]]\nactions = ['publish']\ntopics = ['{devise}/a']\n", "a placeholder is one whole level"),
        ("[[allow]]\nactions = ['publish']\ntopics = ['a/{device}+']\n", "a placeholder is one whole level"),
        ("[[allow]]\nactions = ['subscribe']\ntopics = ['$share/g/a']\n", "begins with $share"),
        (_A + "max_qos = 3\n", ':4: "max_qos" has to be a whole number, 0 to 2'),
        (_A + "max_qos = true\n", ':4: "max_qos"'),
        (_A + "retain = 0\n", ':4: "retain" has to be true or false'),
        (_A + "max_payload = -1\n", ':4: "max_payload"'),
        (_A + "maxqos = 1\n", ':4: unknown key "maxqos"'),
        ("[[deny]]\nactions = ['publish']\ntopics = ['a']\nmax_qos = 1\n", ":4: a deny has no conditions"),
        ("[[allow]]\nactions = ['decrypt']\ntopics = ['a']\nmax_qos = 1", ':4: "max_qos" says nothing'),
        ("[[allow]]\nactions = ['subscribe']\ntopics = ['a']\nretain = false\n", ':4: "retain" says nothing'),
        ("will = 'dropped'\n" + _A, ':1: "will" says what becomes of a CONNECT whose will is refused'),
        ("\nwill = true\n" + _A, ':2: "will" has to be a string'),
        (_A + "will = 'drop'\n", ':4: unknown key "will"'),
        ("[[allow]\n", ":1: it is not valid TOML"),
        ("\0", ":1: it is not valid TOML"),
    ],
)  # fmt: skip
def test_a_broken_role_refuses(acl, text, says):
    (acl / "roles/sensor.toml").write_text(text)
    found = problems(acl)
    assert any(one.startswith("roles/sensor.toml:") and says in one for one in found), found


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("encryption.toml", "", "encryption.toml:1: it names no sensitive topics"),
        ("encryption.toml", "[[sensitiv]]\ntopics = ['a']\n", 'unknown key "sensitiv"'),
        ("encryption.toml", "[[sensitive]]\n", 'encryption.toml:1: "topics" has to be'),
        ("encryption.toml", "[[sensitive]]\ntopics = ['a']\nx = 1\n", 'encryption.toml:3: unknown key "x"'),
        ("encryption.toml", "[[sensitive]]\ntopics = ['a+']\n", "encryption.toml:2: the topic"),
        ("encryption.toml", "[[sensitive]]\ntopics = ['{device}/a']\n", "has a placeholder"),
        ("encryption.toml", "[[sensitive]]\ntopics = ['$share/g/a']\n", "$share"),
        ("encryption.toml", "sensitive = ['a']\n", "[[sensitive]]"),
        ("encryption.toml", "[[sensitive]\n", "not valid TOML"),
        ("limits.toml", "", "limits.toml:1: it sets no limit"),
        ("limits.toml", "in_flight = 0\n", 'limits.toml:1: "in_flight" has to be a whole number, 1 or more'),
        ("limits.toml", "in_flight = 1.5\n", '"in_flight"'),
        ("limits.toml", "in_flight = true\n", '"in_flight"'),
        ("limits.toml", "in_flight = '9'\n", '"in_flight"'),
        ("limits.toml", "\ninflight = 1\n", 'limits.toml:2: unknown key "inflight"'),
        ("cases.toml", "", "cases.toml:1: it has no case"),
        ("cases.toml", "[[case]]\nroles = ['gone']\n", 'cases.toml:2: there is no role "gone"'),
        ("limit.toml", "in_flight = 1\n", "not a file of the policy"),
        ("roles/a b.toml", _A, "a role's name"),
    ],
)
def test_any_other_broken_file_refuses(acl, name, text, says):
    (acl / name).write_text(text)
    found = problems(acl)
    assert any(says in one for one in found), found


@pytest.mark.parametrize(
    "name", ["roles/lights/x.toml", "roles/y.TOML", "rules/x.toml", "Limits.TOML", "roles/z.toml/x.toml"]
)
def test_a_file_that_nobody_reads_refuses(acl, name):
    """Its deny would be in force for its author alone."""
    (acl / name).parent.mkdir(exist_ok=True)
    (acl / name).write_text('[[deny]]\nactions = ["publish"]\ntopics = ["#"]\n')
    assert len(problems(acl)) == 1


@pytest.mark.parametrize(
    "name", [".git/x.toml", "roles/.sensor.toml.swp", "roles/sensor.toml~", "roles/sensor.draft", "old/x"]
)
def test_drafts_and_notes_are_nobodys_business(acl, name):
    (acl / name).parent.mkdir(exist_ok=True)
    (acl / name).write_text("x")
    assert load(acl).digest


@pytest.mark.parametrize("name", ["encryption.toml", "limits.toml", "roles/sensor.toml"])
def test_a_missing_file_refuses(acl, name):
    """CVE-2018-12550, CVE-2018-12551: what isn't there allows nothing."""
    (acl / name).unlink()
    assert len(problems(acl)) == 1


@pytest.mark.parametrize("name", ["encryption.toml", "limits.toml", "cases.toml", "roles/sensor.toml"])
@pytest.mark.parametrize("how", ["folder", "dangling", "loop", "binary"])
def test_an_unreadable_file_refuses(acl, name, how):
    file = acl / name
    file.unlink(missing_ok=True)
    if how == "folder":
        file.mkdir()
    elif how == "dangling":
        file.symlink_to("nowhere.toml")
    elif how == "loop":
        file.symlink_to(file.name)
    else:
        file.write_bytes(b"\x80\xff")
    found = problems(acl)
    assert len(found) == 1
    assert found[0].startswith(name)


@pytest.mark.parametrize("how", ["missing", "file", "empty", "no roles"])
def test_no_folder_refuses(tmp_path, how):
    folder = tmp_path / "acl"
    if how == "file":
        folder.write_text("x")
    elif how != "missing":
        folder.mkdir()
    if how == "no roles":
        (folder / "roles").mkdir()
    assert problems(folder)


def test_all_problems_come_together(acl):
    (acl / "roles/sensor.toml").write_text("[[allow]]\nactions = ['x']\ntopics = ['a+']\n")
    (acl / "roles/other.toml").write_text("")
    (acl / "encryption.toml").unlink()
    (acl / "limits.toml").write_text("a = 1\nb = 2\n")
    (acl / "cases.toml").write_text("[[case]]\n")
    found = problems(acl)
    places = (
        "roles/sensor.toml:2 roles/sensor.toml:3 roles/other.toml encryption.toml limits.toml:1 limits.toml:2"
    )
    for file in (*places.split(), "cases.toml:1"):
        assert any(one.startswith(file) for one in found), (file, found)


def test_nothing_sensitive_has_to_be_said(acl):
    (acl / "encryption.toml").write_text("sensitive = []\n")
    assert not load(acl).sensitive("devices/x/private/y")


def test_files_that_are_no_policy_are_left_alone(acl):
    for name in (
        ".limits.toml.swp",
        "roles/.#sensor.toml",
        "roles/sensor.toml~",
        "roles/README.md",
        "notes.txt",
    ):
        (acl / name).write_text("junk [[")
    load(acl)


@pytest.mark.parametrize("prefix", ["", "gateway/", "a/#", "a\0"])
def test_a_bad_service_prefix_refuses(acl, prefix):
    with pytest.raises(PolicyError, match="service prefix"):
        load_policy(acl, reserved=prefix)


SHIPPED = Path(__file__).parents[4] / "acl"


def test_the_shipped_limits_name_every_field_with_its_default():
    policy = load_policy(SHIPPED, reserved="gateway")
    assert policy.limits == Limits()
    text = (SHIPPED / "limits.toml").read_text()
    for one in dataclasses.fields(Limits):
        assert f"\n{one.name} = " in text


def test_the_shipped_rule_of_encryption_is_the_contract():
    policy = load_policy(SHIPPED, reserved="gateway")
    assert policy.sensitive_filters == ("devices/+/private/#",)
    for role in ("sensor", "actuator"):
        lamp = policy.rights(dataclasses.replace(LAMP, roles=(role,)))
        assert lamp.decide(Action.PUBLISH, "devices/lamp-1/private/pin").unconditional
