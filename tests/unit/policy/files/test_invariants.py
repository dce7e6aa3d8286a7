"""What has to be true of a policy keeps one out of force that breaks it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.policy.files.loader import PolicyError, load_policy, read_policy

SHIPPED = Path(__file__).parents[4] / "acl"
EXAMPLES = Path(__file__).parents[4] / "docs/invariants.toml"
GUEST = '[[allow]]\nactions = ["subscribe"]\ntopics = ["{label.room}/#"]\n'
HOLDS = '[[invariant]]\nholds = "no role:sensor publish devices/# except devices/{device}/#"\n'


def problems(acl):
    with pytest.raises(PolicyError) as caught:
        load_policy(acl, reserved="gateway")
    return [one.removeprefix(f"{acl}/") for one in caught.value.problems]


def test_one_that_holds_is_no_problem(acl):
    (acl / "invariants.toml").write_text(HOLDS)
    assert load_policy(acl, reserved="gateway").roles.keys() == {"sensor"}


def test_one_that_does_not_hold_is_a_problem_with_place_example_and_rule(acl):
    (acl / "roles/guest.toml").write_text(GUEST)
    (acl / "roles/other.toml").write_text(GUEST)
    (acl / "invariants.toml").write_text(
        f"{HOLDS}\n[[invariant]]\nwhy = 'Guests open no doors.'\nholds = 'no any subscribe locks/#'\n"
    )
    (problem,) = problems(acl)
    assert problem == (
        'invariants.toml:6: "no any subscribe locks/#" does not hold: a device with the role "guest" '
        f'(label room = "locks") may receive "locks": {acl}/roles/guest.toml:3 allows subscribe on '
        '"{label.room}/#"; the same goes for the role other (Guests open no doors.)'
    )
    policy, invariants = read_policy(acl, reserved="gateway")
    assert policy.roles.keys() == {"guest", "other", "sensor"}
    assert [one.line for one in invariants] == [2, 6]


def test_what_it_says_is_asked_when_the_rest_is_right_and_how_it_is_written_with_the_rest(acl):
    (acl / "roles/guest.toml").write_text("[[allow]]\n")
    (acl / "invariants.toml").write_text(
        "[[invariant]]\nholds = 'no role:guest subscribe #'\n[[invariant]]\nholds = 'no guest sleep'\n"
    )
    found = problems(acl)
    assert [one.split(":")[0] for one in found] == ["roles/guest.toml", "roles/guest.toml", "invariants.toml"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ":1: it has no invariant"),
        ("invariant = []\nx = 1\n", ':2: unknown key "x"'),
        ("[invariant]\n", ':1: "invariant" is written as a block'),
        ("[[invariant]]\n", ':1: "holds" is missing'),
        ("[[invariant]]\nholds = 1\n", ':2: "holds" has to be a string'),
        ("[[invariant]]\nhold = 'no any publish a'\n", ':2: unknown key "hold"'),
        ("[[invariant]]\nholds = 'no any publish a'\nwhy = 1\n", ':3: "why" has to be a string'),
        ("[[invariant]]\n\nholds = 'no any write a'\n", ':3: "no any write a" says nothing that can be'),
        ("[[invariant]]\nholds = 'no role:senser publish a'\n", ':2: there is no role "senser"; write '),
        ("[[invariant]]\nholds = 'no device:a publish a'\n", ":2: an invariant speaks of roles"),
        ("[[invariant]]\nholds = 'no any publish gateway/#'\n", ':2: "no any publish gateway/#" can\'t be'),
        ("x", ":1: it is not valid TOML"),
    ],
)  # fmt: skip
def test_a_broken_one_refuses(acl, text, says):
    (acl / "invariants.toml").write_text(text)
    assert any(one.startswith(f"invariants.toml{says}") for one in problems(acl)), problems(acl)


def test_the_file_may_be_left_out_but_not_lost(acl):
    assert read_policy(acl, reserved="gateway")[1] == ()
    (acl / "invariants.toml").symlink_to(acl / "nowhere")
    assert problems(acl) == ["invariants.toml: there is no such file; restore it or remove the link"]


@pytest.mark.parametrize(
    ("role", "rule"),
    [
        ("sensor", 'actions = ["publish"]\ntopics = ["devices/+/state"]'),
        ("sensor", 'actions = ["subscribe"]\ntopics = ["devices/{device}/private/#"]'),
        ("actuator", 'actions = ["publish"]\ntopics = ["#"]'),
        ("service", 'actions = ["publish"]\ntopics = ["devices/{device}/state"]'),
        ("service", 'actions = ["decrypt"]\ntopics = ["+/{device}/private/#"]'),
        ("operator", 'actions = ["publish"]\ntopics = ["devices/{device}/state"]'),
    ],
)
def test_those_for_the_shipped_roles_hold_and_can_fail(tmp_path, role, rule):
    acl = tmp_path / "acl"
    shutil.copytree(SHIPPED, acl)
    shutil.copy(EXAMPLES, acl)
    assert load_policy(acl, reserved="gateway").roles
    with (acl / f"roles/{role}.toml").open("a") as file:
        file.write(f"\n[[allow]]\n{rule}\n")
    (problem,) = problems(acl)
    assert problem.startswith("invariants.toml:")
    assert f'with the role "{role}"' in problem


def test_one_that_would_take_for_ever_refuses(acl):
    denied = ", ".join(f'"{"+/" * at}/{"+/" * (18 - at)}+"' for at in range(1, 18))
    (acl / "roles/deep.toml").write_text(
        f'[[allow]]\nactions = ["publish"]\ntopics = ["{"/".join("+" * 20)}"]\n'
        f'[[deny]]\nactions = ["publish"]\ntopics = [{denied}]\n'
    )
    (acl / "limits.toml").write_text("topic_length = 25\n")
    (acl / "invariants.toml").write_text("[[invariant]]\nholds = 'no role:deep publish #'\n")
    (problem,) = problems(acl)
    assert "can't be decided" in problem
